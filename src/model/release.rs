//! What is versioned: a release's version, its build information, and the pair that is rolled out.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Digest, ModelError, fields};

/// Most bytes of a package, compressed as it is: what push offers, nodes keep and agents fetch.
pub const MAX_PACKAGE: u64 = 1 << 30;

/// A semantic version (semver.org 2.0.0) of at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
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

impl FromStr for Version {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let bad =
            |problem: String| Err(ModelError::BadVersion { value: s.chars().take(LONGEST_VERSION).collect(), problem });
        let length = s.chars().count();
        if length > LONGEST_VERSION {
            return bad(format!("it has {length} characters, a version at most {LONGEST_VERSION}"));
        }
        semver::Version::parse(s).map(Self).or_else(|e| bad(said_of(s, &e)))
    }
}

/// Most characters of a version.
const LONGEST_VERSION: usize = 64;

/// What is wrong with a version, and the nearest that is one.
fn said_of(text: &str, error: &semver::Error) -> String {
    let bare = text.trim();
    let bare =
        bare.strip_prefix(['v', 'V']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(bare);
    let (core, tail) = bare.split_at(bare.find(['-', '+']).unwrap_or(bare.len()));
    let mut numbers: Vec<&str> = core.split('.').collect();
    if numbers.iter().any(|n| n.is_empty() || n.bytes().any(|b| !b.is_ascii_digit())) {
        return format!("{error}; write three numbers, such as 1.4.0 or 2.0.0-rc.1");
    }
    let zeros = numbers.iter().any(|n| n.len() > 1 && n.starts_with('0'));
    let problem = match numbers.len() {
        _ if bare.len() != text.trim().len() => "it begins with a v",
        1 | 2 => "it has fewer than three numbers",
        3 if zeros => "a number begins with 0",
        3 if text != text.trim() => "there are blanks around it",
        3 => return format!("{error}; write three numbers, such as 1.4.0 or 2.0.0-rc.1"),
        _ => "it has more than three numbers",
    };
    let more = numbers.split_off(numbers.len().min(3)).join(".");
    let mut core: Vec<&str> =
        numbers.into_iter().map(|n| Some(n.trim_start_matches('0')).filter(|n| !n.is_empty()).unwrap_or("0")).collect();
    core.resize(3, "0");
    let more = match (more.is_empty(), tail.contains('+')) {
        (true, _) => String::new(),
        (false, false) => format!("+{more}"),
        (false, true) => format!(".{more}"),
    };
    let near = format!("{}{tail}{more}", core.join("."));
    match semver::Version::parse(&near) {
        Ok(near) => format!("{problem}; write {near}"),
        Err(_) => format!("{problem}; write three numbers, such as 1.4.0 or 2.0.0-rc.1"),
    }
}

fields! {
    json
    /// What the builder said of a release; free text, shown and kept, never interpreted.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct BuildInfo {
        /// Source revision the artifact was built from.
        1 pub commit: String,
        /// When it was built or packed, RFC 3339.
        2 pub built_at: String,
        /// Toolchain that built it.
        3 pub toolchain: String,
        /// Component versions, by name.
        4 pub components: BTreeMap<String, String>,
    }
}

/// What is rolled out: a release and the spec revision it runs under. Tracks, instances and counts are keyed by pairs,
/// so a changed setting is a rollout like any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
#[display("{version} (spec {spec})")]
pub struct Pair {
    /// Version name of the release.
    pub version: Version,
    /// Digest of its archive.
    pub digest: Digest,
    /// Revision of the deployment's spec.
    pub spec: u64,
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

    #[test]
    fn what_is_no_version_is_told_what_is_wrong_and_what_to_write() {
        let long = format!("1.0.0-{}", "a".repeat(59));
        for (text, wrong, write) in [
            ("v1.2.3", "begins with a v", "write 1.2.3"),
            ("V1.2", "begins with a v", "write 1.2.0"),
            ("2024.01.02", "a number begins with 0", "write 2024.1.2"),
            ("1.02.0-rc.1", "a number begins with 0", "write 1.2.0-rc.1"),
            ("1.2", "fewer than three numbers", "write 1.2.0"),
            ("7", "fewer than three numbers", "write 7.0.0"),
            ("1.2-rc.1", "fewer than three numbers", "write 1.2.0-rc.1"),
            ("1.2.3.4", "more than three numbers", "write 1.2.3+4"),
            (" 1.2.3", "blanks around", "write 1.2.3"),
            ("1.2.3-", "", "such as 1.4.0"),
            ("1.2.3-rc_1", "", "such as 1.4.0"),
            ("latest", "", "such as 1.4.0"),
            ("", "", "such as 1.4.0"),
            ("1..2", "", "such as 1.4.0"),
            ("99999999999999999999.0.0", "", "such as 1.4.0"),
            (long.as_str(), "has 65 characters", "at most 64"),
        ] {
            let said = text.parse::<Version>().unwrap_err().to_string();
            assert!(said.contains(wrong) && said.contains(write), "{text:?}: {said}");
        }
        assert_eq!("1.2.3+4".parse::<Version>().unwrap().to_string(), "1.2.3+4");
    }
}
