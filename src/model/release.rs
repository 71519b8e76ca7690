//! What is versioned: a release's version, its build information, and the pair that is rolled out.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Digest, ModelError, fields};

/// Most bytes of a package, compressed as it is: what push offers, nodes keep and agents fetch.
pub const MAX_PACKAGE: u64 = 1 << 30;

/// Most characters of a version.
const LONGEST_VERSION: usize = 64;

/// Words that stand for a version elsewhere.
const TAKEN: [&str; 4] = ["previous", "stable", "canary", "latest"];

/// A version: at most 64 of letters, digits, `.`, `_`, `+` and `-`, first a letter or digit. `1.4.0`, `v2`,
/// `2024.01.02` and `dev-b7e4c27` are versions. Two are the same when their texts are; which comes first in lists is
/// [`Version::sort_key`]'s.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
#[serde(try_from = "String", into = "String")]
pub struct Version(Arc<str>);

impl Version {
    /// The empty text, which sorts before every version and is none: the lower end of a range.
    pub fn least() -> Self {
        Self(Arc::default())
    }

    /// As a semantic version (semver.org 2.0.0), if it is one; a leading `v` is allowed.
    pub fn semver(&self) -> Option<semver::Version> {
        semver::Version::parse(self.0.strip_prefix('v').unwrap_or(&self.0)).ok()
    }

    /// A text by which the versions of a service sort: first those that are semantic versions, by their precedence,
    /// equal ones by the index at which they were registered; then all others, by that index.
    pub fn sort_key(&self, registered: u64) -> String {
        let Some(v) = self.semver() else { return format!("1{registered:020}") };
        // Numbers come before words, a longer list after the list that it begins with, and no list at all after every
        // list.
        let one = |x: &str| match x.bytes().all(|b| b.is_ascii_digit()) {
            true => format!("0{x:0>64}"),
            false => format!("1{x}"),
        };
        let pre = match v.pre.as_str() {
            "" => "~".into(),
            pre => pre.split('.').map(one).collect::<Vec<_>>().join("!"),
        };
        format!("0{:020}{:020}{:020}{pre} {registered:020}", v.major, v.minor, v.patch)
    }

    /// The version as a DNS label of at most 61 characters: itself with dashes for dots where it has lower-case
    /// letters, digits and dots alone; else other characters become dashes and six digits of a hash follow. Two
    /// versions of one service may not have the same.
    pub fn slug(&self) -> String {
        let slug: String =
            self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let plain = self.0.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '.');
        if plain && slug.len() <= 61 && !slug.ends_with('-') {
            return slug;
        }
        // FNV-1a: a name, not a secret; it must only be the same on every node and release.
        let hash =
            self.0.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let head: String = slug.chars().take(54).collect();
        format!("{}-{:06x}", head.trim_end_matches('-'), hash & 0xff_ffff)
    }
}

impl FromStr for Version {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let odd = s.chars().find(|c| !(c.is_ascii_alphanumeric() || "._+-".contains(*c)));
        let length = s.chars().count();
        let problem = match odd {
            _ if s.is_empty() => "it is empty".into(),
            _ if length > LONGEST_VERSION => format!("it has {length} characters, a version at most {LONGEST_VERSION}"),
            Some(c) => format!("{c:?} is none of letters, digits, '.', '_', '+' and '-'"),
            None if !s.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
                "it begins with neither letter nor digit".into()
            }
            None if s.contains("..") => "it has two dots in a row".into(),
            None if TAKEN.contains(&s.to_ascii_lowercase().as_str()) => "the word has a meaning of its own".into(),
            None => return Ok(Self(s.into())),
        };
        let value = s.chars().take(LONGEST_VERSION).collect();
        Err(ModelError::BadVersion { value, problem: format!("{problem}; write one such as 1.4.0, v2 or dev-b7e4c27") })
    }
}

impl TryFrom<String> for Version {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0.as_ref().into()
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

/// Components of a release at most.
const MAX_COMPONENTS: usize = 256;

/// Most characters of a text of build information.
const LONGEST_TEXT: usize = 256;

impl BuildInfo {
    /// Reads `NAME=VERSION`, which says of which version a component of the release is.
    pub fn add(&mut self, component: &str) -> Result<(), ModelError> {
        let bad = |problem: &str| {
            let problem = format!("{component:?} {problem}: write NAME=VERSION, such as parser=2.1.0");
            ModelError::field("component", problem)
        };
        let (name, version) = component.split_once('=').ok_or_else(|| bad("is no component"))?;
        if self.components.insert(name.into(), version.into()).is_some() {
            return Err(bad("names a component again"));
        }
        self.check()
    }

    /// Bounds of what a builder says. A component's name has letters, digits, `.`, `_`, `-`, `/`, `@` and `+`; its
    /// version any visible ones.
    pub fn check(&self) -> Result<(), ModelError> {
        let too_long = |text: &String| text.chars().count() > LONGEST_TEXT;
        for (field, text) in [("commit", &self.commit), ("built_at", &self.built_at), ("toolchain", &self.toolchain)] {
            if too_long(text) || text.chars().any(char::is_control) {
                return Err(ModelError::field(
                    field,
                    format!("must be at most {LONGEST_TEXT} characters, none of control"),
                ));
            }
        }
        let names = |c: char| c.is_alphanumeric() || "._-/@+".contains(c);
        for (name, version) in &self.components {
            let bad = |problem: &str| {
                let told: String = name.chars().take(63).collect();
                Err(ModelError::field(
                    "component",
                    format!("{told:?} {problem}: write NAME=VERSION, such as parser=2.1.0"),
                ))
            };
            if name.is_empty() || too_long(name) || !name.chars().all(names) {
                return bad("is not a name of 1 to 256 letters, digits, '.', '_', '-', '/', '@' and '+'");
            }
            if version.is_empty() || too_long(version) || version.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return bad("has a version that is not 1 to 256 characters without blanks");
            }
        }
        if self.components.len() > MAX_COMPONENTS {
            let problem = format!("{} are over the limit of {MAX_COMPONENTS}", self.components.len());
            return Err(ModelError::field("components", problem));
        }
        Ok(())
    }
}

/// What is rolled out: a release and the spec revision it runs under. Arms, instances and counts are keyed by pairs,
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

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn slugs_are_labels_and_do_not_collide() {
        let slug = |s: &str| version(s).slug();
        assert_eq!((slug("1.4.0"), slug("v2"), slug("2024.01.02")), ("1-4-0".into(), "v2".into(), "2024-01-02".into()));
        let alike = ["1.0.0-rc.1", "1.0.0-rc-1", "1.0.0.rc.1", "1.0.0+rc.1", "1.0.0_rc.1", "1.0.0-RC.1"];
        let slugs: std::collections::BTreeSet<String> = alike.iter().map(|s| slug(s)).collect();
        assert_eq!(slugs.len(), alike.len(), "{slugs:?}");
        for text in [format!("1.0.0-{}", "a".repeat(50)), "a".repeat(64), "1.".into(), "a-".into(), "V1".into()] {
            let slug = slug(&text);
            assert!(slug.len() <= 61 && !slug.ends_with('-') && !slug.starts_with('-'), "{text}: {slug}");
        }
    }

    #[test]
    fn what_is_no_version_is_told_what_is_wrong_and_what_to_write() {
        let long = "a".repeat(65);
        for (text, wrong) in [
            ("", "empty"),
            (" 1.2.3", "' ' is none of letters"),
            ("1/2", "'/' is none of"),
            ("1.2.3é", "'é' is none of"),
            ("-1", "begins with neither"),
            (".1", "begins with neither"),
            ("1..2", "two dots"),
            ("latest", "a meaning of its own"),
            ("Previous", "a meaning of its own"),
            (long.as_str(), "has 65 characters"),
        ] {
            let said = text.parse::<Version>().unwrap_err().to_string();
            assert!(said.contains(wrong) && said.contains("such as 1.4.0, v2"), "{text:?}: {said}");
        }
        for text in ["1.2.3", "v1.2.3", "1.2", "2024.01.02", "dev-b7e4c27", "1.2.3+4", "a_b", "7", "1.2.3-"] {
            assert_eq!(version(text).to_string(), text);
        }
    }

    #[test]
    fn components_are_named_once_with_a_version_and_are_bounded() {
        let mut build = BuildInfo::default();
        build.add("parser=2.1.0").unwrap();
        build.add("@scope/ui=v3+a=b").unwrap();
        assert_eq!(build.components["@scope/ui"], "v3+a=b");
        for (text, wrong) in [
            ("parser", "is no component"),
            ("parser=3", "names a component again"),
            ("=1", "is not a name"),
            ("a b=1", "is not a name"),
            ("a=", "has a version that is not"),
            ("a=1 2", "has a version that is not"),
            (&format!("{}=1", "a".repeat(257)), "is not a name"),
        ] {
            let said = build.clone().add(text).unwrap_err().to_string();
            assert!(said.contains(wrong) && said.contains("such as parser=2.1.0"), "{text}: {said}");
        }
        build.components = (0..256).map(|n| (format!("c{n}"), "1".into())).collect();
        build.check().unwrap();
        assert!(build.add("one-more=1").unwrap_err().to_string().contains("257 are over the limit of 256"));
        let said = BuildInfo { commit: "a\n".into(), ..BuildInfo::default() }.check().unwrap_err();
        assert!(said.to_string().starts_with("commit: "));
    }

    #[test]
    fn lists_have_semantic_versions_first_and_the_others_as_they_came() {
        let mut all =
            ["nightly", "10.0.0", "v2.0.0", "2.0.0", "2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-rc.2", "1.2", "2.0.0-rc"];
        let at = |v: &str| all.iter().position(|x| *x == v).unwrap() as u64;
        let key = |v: &str| version(v).sort_key(at(v));
        let keys: std::collections::BTreeMap<String, &str> = all.iter().map(|v| (key(v), *v)).collect();
        all = ["2.0.0-rc", "2.0.0-rc.1", "2.0.0-rc.2", "2.0.0-rc.10", "v2.0.0", "2.0.0", "10.0.0", "nightly", "1.2"];
        assert_eq!(keys.into_values().collect::<Vec<_>>(), all);
    }

    proptest::proptest! {
        #[test]
        fn the_order_of_versions_is_that_of_semver_and_then_of_registration(
            a in "v?[0-9]{1,2}\\.[0-9]\\.[0-9](-[a-z0-9.-]{1,6})?(\\+[a-z0-9]{1,3})?|[a-z0-9][a-z0-9._+-]{0,6}",
            b in "v?[0-9]{1,2}\\.[0-9]\\.[0-9](-[a-z0-9.-]{1,6})?(\\+[a-z0-9]{1,3})?|[a-z0-9][a-z0-9._+-]{0,6}",
            (m, n) in (0u64..3, 0u64..3),
        ) {
            let (Ok(a), Ok(b)) = (a.parse::<Version>(), b.parse::<Version>()) else { return Ok(()) };
            let want = match (a.semver(), b.semver()) {
                (Some(x), Some(y)) => x.cmp_precedence(&y).then(m.cmp(&n)),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => m.cmp(&n),
            };
            proptest::prop_assert_eq!(a.sort_key(m).cmp(&b.sort_key(n)), want, "{} {}", a, b);
        }
    }
}
