//! What a setting's value may be, how it is read from an environment variable, and how TOML writes it.
//!
//! Not here: reading files, where serde knows the same types.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use super::RaftProfile;
use crate::model::Prefix;

/// A value of a setting.
pub trait Kind: Sized {
    /// What to write, in words.
    const NAME: &'static str;

    /// Reads the text of an environment variable.
    fn read(text: &str) -> Result<Self, String>;

    /// As TOML; nothing for a value that is not there.
    fn show(&self) -> Option<String>;
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn parsed<T: FromStr>(text: &str, kind: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not {kind}"))
}

/// Types that are quoted text in TOML.
macro_rules! as_text {
    ($($ty:ty, $name:literal;)+) => {$(
        impl Kind for $ty {
            const NAME: &'static str = $name;
            fn read(text: &str) -> Result<Self, String> {
                parsed(text, concat!("of the kind: ", $name))
            }
            fn show(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    )+};
}

/// Types that TOML writes bare.
macro_rules! bare {
    ($($ty:ty, $name:literal;)+) => {$(
        impl Kind for $ty {
            const NAME: &'static str = $name;
            fn read(text: &str) -> Result<Self, String> {
                parsed(text, concat!("of the kind: ", $name))
            }
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

as_text! {
    String, "text";
    SocketAddr, "IP address and port";
    IpAddr, "IP address";
}

bare! {
    u32, "number";
    u64, "number";
    bool, "true or false";
}

impl Kind for PathBuf {
    const NAME: &'static str = "path";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.display().to_string()))
    }
}

impl Kind for RaftProfile {
    const NAME: &'static str = "lan or slow";

    fn read(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| format!("{:?} is neither lan nor slow", text.trim()))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Kind for Vec<String> {
    const NAME: &'static str = "list of text";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(|item| item.trim().to_string()).filter(|item| !item.is_empty()).collect())
    }

    fn show(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl Kind for Vec<Prefix> {
    const NAME: &'static str = "list of address ranges";

    fn read(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| item.parse().map_err(|e: crate::model::ModelError| e.to_string())).collect()
    }

    fn show(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|item| quoted(&item.to_string())).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl Kind for BTreeMap<String, String> {
    const NAME: &'static str = "table of text";

    fn read(text: &str) -> Result<Self, String> {
        let pairs = Vec::<String>::read(text)?;
        let split = |pair: &String| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))?;
            Ok((key.trim().to_string(), value.trim().to_string()))
        };
        pairs.iter().map(split).collect()
    }

    fn show(&self) -> Option<String> {
        let pairs: Vec<String> = self.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v))).collect();
        Some(if pairs.is_empty() { "{}".into() } else { format!("{{ {} }}", pairs.join(", ")) })
    }
}

impl<T: Kind> Kind for Option<T> {
    const NAME: &'static str = T::NAME;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Kind::show)
    }
}
