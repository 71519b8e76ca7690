//! What is versioned: a release's version, its build information, and the pair that is rolled out.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Digest, ModelError};

/// Most bytes of a package, compressed as it is: what push offers, nodes keep and agents fetch.
pub const MAX_PACKAGE: u64 = 1 << 30;

/// A semantic version (semver.org 2.0.0) of at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(semver::Version);

impl Version {
    /// The version as a DNS label: lower case, other characters `-`, and six hash digits when that altered it in a way
    /// that could collide (anything but dots).
    pub fn slug(&self) -> String {
        let text = self.0.to_string();
        let slug: String =
            text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
        if plain && slug.len() <= 61 {
            return slug;
        }
        // FNV-1a: a name, not a secret; it must only be the same on every node and release.
        let hash =
            text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let head: String = slug.chars().take(54).collect();
        format!("{}-{:06x}", head.trim_end_matches('-'), hash & 0xff_ffff)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let bad =
            || ModelError::BadValue { value: s.into(), expected: "a semantic version (such as 1.4.0 or 2.0.0-rc.1)" };
        if s.len() > 64 {
            return Err(bad());
        }
        semver::Version::parse(s).map(Self).map_err(|_| bad())
    }
}

/// What the builder said of a release; free text, shown and kept, never interpreted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInfo {
    /// Source revision the artifact was built from.
    pub commit: String,
    /// When it was built or packed, RFC 3339.
    pub built_at: String,
    /// Toolchain that built it.
    pub toolchain: String,
    /// Component versions, by name.
    pub components: BTreeMap<String, String>,
}

/// What is rolled out: a release and the spec revision it runs under. Tracks, instances and counts are keyed by pairs,
/// so a changed setting is a rollout like any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// Version name of the release.
    pub version: Version,
    /// Digest of its archive.
    pub digest: Digest,
    /// Revision of the deployment's spec.
    pub spec: u64,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (spec {})", self.version, self.spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_labels_and_do_not_collide() {
        let slug = |s: &str| s.parse::<Version>().unwrap().slug();
        assert_eq!(slug("1.4.0"), "1-4-0");
        assert_ne!(slug("1.0.0-rc.1"), slug("1.0.0-rc-1"));
        assert!(slug(&format!("1.0.0-{}", "a".repeat(50))).len() <= 61);
        assert!("1.0".parse::<Version>().is_err());
    }
}
