//! Names and ids. Readable where a person types them; never reused: numeric ids come from log indexes. Texts are
//! shared: a row's copy of a name costs no memory, and maps of names are copied cheaply.

use std::{str::FromStr, sync::Arc};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::ModelError;

/// Names that DNS uses as prefixes below a service.
const RESERVED: [&str; 6] = ["stable", "canary", "active", "preview", "previous", "mix"];
const RESERVED_PREFIXES: [&str; 5] = ["v-", "k-", "t-", "i-", "_"];

/// A node of the cluster: 1 is fixed by `init`, every other comes from a committed admission.
pub type NodeId = u64;

fn check_label(kind: &'static str, s: &str) -> Result<(), ModelError> {
    let bytes = s.as_bytes();
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ok = (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| edge(b) || *b == b'-')
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge);
    if ok { Ok(()) } else { Err(ModelError::BadName { kind, value: s.into() }) }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The empty text, which sorts before every name and is none: the lower end of a range.
            pub fn least() -> Self {
                Self(Arc::default())
            }
        }
    };
}

text_id!(
    /// Name of a service or an environment: a DNS label that is not one of our prefixes.
    Name
);
text_id!(
    /// Name of a worker: host-name like, 1 to 63 of `a-z 0-9 - .`.
    WorkerName
);
text_id!(
    /// Name of a cluster's one history, made once by `init`.
    ClusterId
);
text_id!(
    /// SHA-256 of an archive, 64 lower-case hexadecimal digits (no `sha256:` in front).
    Digest
);
text_id!(
    /// Who asked: `operator:local`, `node:2`, `leader`. Access control hangs on it later.
    Principal
);
text_id!(
    /// A client's own id of one request; a retry carries the same one. 1 to 64 printable ASCII characters.
    RequestId
);

impl Name {
    /// Checks a service's name.
    pub fn service(s: &str) -> Result<Self, ModelError> {
        Self::new("service", s)
    }

    /// Checks an environment's name.
    pub fn environment(s: &str) -> Result<Self, ModelError> {
        Self::new("environment", s)
    }

    fn new(kind: &'static str, s: &str) -> Result<Self, ModelError> {
        if RESERVED.contains(&s) || RESERVED_PREFIXES.iter().any(|p| s.starts_with(p)) {
            return Err(ModelError::ReservedName { kind, value: s.into() });
        }
        check_label(kind, s)?;
        Ok(Self(s.into()))
    }
}

impl WorkerName {
    /// Checks a worker's name: DNS labels joined by dots, 63 characters at most in all.
    pub fn new(s: &str) -> Result<Self, ModelError> {
        if s.len() > 63 {
            return Err(ModelError::BadName { kind: "worker", value: s.into() });
        }
        s.split('.').try_for_each(|l| check_label("worker", l))?;
        Ok(Self(s.into()))
    }
}

impl ClusterId {
    /// Checks a cluster id: 1 to 64 of `a-z 0-9 -`.
    pub fn new(s: &str) -> Result<Self, ModelError> {
        check_label("cluster", s)?;
        Ok(Self(s.into()))
    }
}

/// Bytes as lower-case hexadecimal digits, as digests are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

impl Digest {
    /// Accepts 64 hexadecimal digits with or without `sha256:` in front.
    pub fn new(s: &str) -> Result<Self, ModelError> {
        let hex = s.strip_prefix("sha256:").unwrap_or(s);
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Self(hex.into()));
        }
        Err(ModelError::BadValue { value: s.into(), expected: "a SHA-256 digest (64 lower-case hexadecimal digits)" })
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl Principal {
    /// Checks a principal: 1 to 128 printable ASCII characters without spaces.
    pub fn new(s: &str) -> Result<Self, ModelError> {
        if (1..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(s.into()));
        }
        Err(ModelError::BadValue { value: s.into(), expected: "a principal such as operator:local" })
    }

    /// The leader itself, in engine commands.
    pub fn leader() -> Self {
        Self("leader".into())
    }

    /// The one local operator of a cluster without tokens.
    pub fn local_operator() -> Self {
        Self("operator:local".into())
    }

    /// A node speaking for itself (blob holders, admissions, workers' registrations).
    pub fn node(id: NodeId) -> Self {
        Self(format!("node:{id}").into())
    }
}

impl RequestId {
    /// Checks a request id.
    pub fn new(s: &str) -> Result<Self, ModelError> {
        if (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(s.into()));
        }
        Err(ModelError::BadValue { value: s.into(), expected: "a request id (1 to 64 printable characters)" })
    }
}

/// A service in an environment: the routable unit. Written `production/shop`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
#[display("{environment}/{service}")]
pub struct DeploymentId {
    pub environment: Name,
    pub service: Name,
}

impl DeploymentId {
    /// Sorts before every deployment and is none: the lower end of a range.
    pub fn least() -> Self {
        Self { environment: Name::least(), service: Name::least() }
    }
}

impl FromStr for DeploymentId {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let (e, n) = s.split_once('/').ok_or_else(|| ModelError::BadValue {
            value: s.into(),
            expected: "a deployment (ENVIRONMENT/SERVICE, such as production/shop)",
        })?;
        Ok(Self { environment: Name::environment(e)?, service: Name::service(n)? })
    }
}

/// A rollout, by the log index of the entry that made it. Written `r-52`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
#[display("r-{_0}")]
pub struct RolloutId(pub u64);

impl FromStr for RolloutId {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let n = s.strip_prefix("r-").and_then(|n| n.parse().ok());
        n.map(Self).ok_or_else(|| ModelError::BadValue { value: s.into(), expected: "a rollout (such as r-52)" })
    }
}

/// One execution of one step, by the log index of its `StepStarted`; agents' counts are kept under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId(pub u64);

/// One running copy: log index of the entry that made it, and its place in that entry. Written `59-0`, in DNS `i-59-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, derive_more::Display)]
#[display("{index}-{ordinal}")]
pub struct InstanceId {
    /// Log index of the entry that made the instance.
    pub index: u64,
    /// Place among the instances that entry made, from 0.
    pub ordinal: u32,
}

impl InstanceId {
    /// Sorts before or at every instance: the lower end of a range.
    pub const MIN: Self = Self { index: 0, ordinal: 0 };
    /// Sorts after or at every instance: the upper end of a range.
    pub const MAX: Self = Self { index: u64::MAX, ordinal: u32::MAX };
}

impl FromStr for InstanceId {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let parsed = s.split_once('-').and_then(|(i, o)| Some((i.parse().ok()?, o.parse().ok()?)));
        let (index, ordinal) =
            parsed.ok_or_else(|| ModelError::BadValue { value: s.into(), expected: "an instance (such as 59-0)" })?;
        Ok(Self { index, ordinal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_not_our_prefixes() {
        assert!(Name::service("shop-2").is_ok());
        for bad in ["", "Shop", "-a", "a-", "a.b", "a_b", &"x".repeat(64)] {
            assert!(matches!(Name::service(bad), Err(ModelError::BadName { .. })), "{bad}");
        }
        for taken in ["canary", "mix", "v-1", "k-a", "_x", "i-59-0"] {
            assert!(matches!(Name::environment(taken), Err(ModelError::ReservedName { .. })), "{taken}");
        }
    }

    #[test]
    fn ids_read_back_what_they_print() {
        assert_eq!("r-52".parse::<RolloutId>().unwrap().to_string(), "r-52");
        assert_eq!("59-0".parse::<InstanceId>().unwrap().to_string(), "59-0");
        assert_eq!("production/shop".parse::<DeploymentId>().unwrap().to_string(), "production/shop");
        assert!("shop".parse::<DeploymentId>().is_err());
        assert!(Digest::new("abc").is_err());
        assert!(WorkerName::new("web-1.lan").is_ok() && WorkerName::new("web 1").is_err());
    }
}
