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
pub trait SettingKind: Sized {
    /// What to write, in words.
    const NAME: &'static str;

    /// What stands for a value in the help of its flag.
    const VALUE: &'static str;

    /// Whether its flag may be repeated, each time with one value more.
    const MANY: bool = false;

    /// Reads the text of an environment variable.
    fn read(text: &str) -> Result<Self, String>;

    /// Reads the texts that were given to its flag; a flag that may not be repeated has one text.
    fn given(texts: &[&str]) -> Result<Self, String> {
        Self::read(&texts.concat())
    }

    /// As TOML; nothing for a value that is not there.
    fn show(&self) -> Option<String>;
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn parsed<T: FromStr>(text: &str, kind: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not {kind}"))
}

/// Types that are read as they print themselves; TOML writes them as `$show` does.
macro_rules! printed {
    ($($ty:ty, $name:literal, $value:literal, $show:expr;)+) => {$(
        impl SettingKind for $ty {
            const NAME: &'static str = $name;
            const VALUE: &'static str = $value;
            fn read(text: &str) -> Result<Self, String> {
                parsed(text, concat!("of the kind: ", $name))
            }
            fn show(&self) -> Option<String> {
                Some($show(&self.to_string()))
            }
        }
    )+};
}

printed! {
    String, "text", "TEXT", quoted;
    SocketAddr, "IP address and port", "ADDRESS:PORT", quoted;
    IpAddr, "IP address", "ADDRESS", quoted;
    u32, "number", "NUMBER", str::to_owned;
    u64, "number", "NUMBER", str::to_owned;
    bool, "true or false", "true|false", str::to_owned;
}

impl SettingKind for PathBuf {
    const NAME: &'static str = "path";
    const VALUE: &'static str = "PATH";

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.display().to_string()))
    }
}

impl SettingKind for RaftProfile {
    const NAME: &'static str = "lan or slow";
    const VALUE: &'static str = "lan|slow";

    fn read(text: &str) -> Result<Self, String> {
        text.trim().parse().map_err(|_| format!("{:?} is neither lan nor slow", text.trim()))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl SettingKind for Vec<String> {
    const NAME: &'static str = "list of text";
    const VALUE: &'static str = "TEXT";
    const MANY: bool = true;

    fn given(texts: &[&str]) -> Result<Self, String> {
        Ok(texts.iter().map(ToString::to_string).collect())
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(|item| item.trim().to_string()).filter(|item| !item.is_empty()).collect())
    }

    fn show(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl SettingKind for Vec<Prefix> {
    const NAME: &'static str = "list of address ranges";
    const VALUE: &'static str = "RANGE";
    const MANY: bool = true;

    fn given(texts: &[&str]) -> Result<Self, String> {
        texts.iter().map(|item| item.parse().map_err(|e: crate::model::ModelError| e.to_string())).collect()
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::given(&text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>())
    }

    fn show(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|item| quoted(&item.to_string())).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl SettingKind for BTreeMap<String, String> {
    const NAME: &'static str = "table of text";
    const VALUE: &'static str = "KEY=VALUE";
    const MANY: bool = true;

    fn given(texts: &[&str]) -> Result<Self, String> {
        let pair = |pair: &&str| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))?;
            Ok((key.trim().to_string(), value.trim().to_string()))
        };
        texts.iter().map(pair).collect()
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::given(&text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>())
    }

    fn show(&self) -> Option<String> {
        let pairs: Vec<String> = self.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v))).collect();
        Some(if pairs.is_empty() { "{}".into() } else { format!("{{ {} }}", pairs.join(", ")) })
    }
}

impl<T: SettingKind> SettingKind for Option<T> {
    const NAME: &'static str = T::NAME;
    const VALUE: &'static str = T::VALUE;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(SettingKind::show)
    }
}
