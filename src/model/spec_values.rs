//! How single values of a spec are written: text or number, whole numbers, settings of rollouts, ports.
//!
//! Invariant: a value that is nearly right is refused, never taken for something else; the error is in a person's
//! words, not a library's. Not here: which keys there are (`spec_doc`), and keys without a value (`spec_read`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{ModelError, Overrides, SETTINGS, settings::NAMES};

/// A value written as text or as a bare number.
pub fn text_or_number<'de, D: Deserializer<'de>, T: FromStr<Err = ModelError>>(d: D) -> Result<Option<T>, D::Error> {
    match Option::<Value>::deserialize(d)? {
        None | Some(Value::Null) => Ok(None),
        Some(value) => one(value).map_err(de::Error::custom)?.parse().map(Some).map_err(de::Error::custom),
    }
}

/// Text that may look like a number.
pub fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(d)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(Value::Number(n)) => Ok(Some(n.to_string())),
        Some(other) => Err(de::Error::custom(format!("{other} is neither text nor a number"))),
    }
}

/// A whole number.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(d: D) -> Result<Option<T>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(d)? else { return Ok(None) };
    let read = value.as_u64().and_then(|n| T::try_from(n).ok());
    read.map(Some)
        .ok_or_else(|| de::Error::custom(format!("{value} is not a whole number that fits here: write one such as 3")))
}

/// Settings of rollouts, each by its name: text, a number, or a list of them.
pub fn settings<'de, D: Deserializer<'de>>(d: D) -> Result<Overrides, D::Error> {
    struct Named;

    impl<'de> de::Visitor<'de> for Named {
        type Value = Overrides;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("settings of rollouts, such as `strategy: canary`")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Overrides, A::Error> {
            let mut said = Overrides::default();
            while let Some(name) = map.next_key::<String>()? {
                let Some(setting) = SETTINGS.iter().find(|s| s.name == name) else {
                    return Err(de::Error::unknown_field(&name, NAMES));
                };
                let text = if setting.many { in_a_row(map.next_value()?) } else { one(map.next_value()?) };
                let text = text.map_err(|e| de::Error::custom(format!("rollout.{name}: {e}")))?;
                said.set(&name, &text).map_err(|e| de::Error::custom(format!("rollout.{e}")))?;
            }
            Ok(said)
        }
    }

    d.deserialize_map(Named)
}

/// What is written as one value or as a list, as text.
fn in_a_row(value: Value) -> Result<String, String> {
    match value {
        Value::Array(items) => items.into_iter().map(one).collect::<Result<Vec<_>, _>>().map(|all| all.join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => one(value),
    }
}

fn one(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(n) => Ok(n.to_string()),
        // YAML has `off`, `no` and `on` without quotes as truth values.
        Value::Bool(on) => Ok(if on { "on" } else { "off" }.into()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("{value} is neither text nor a number")),
    }
}

/// A port: `8080` or `{port: 53, protocol: udp}`.
#[derive(Debug, Clone)]
pub enum PortDoc {
    /// A TCP port.
    Number(u16),
    /// With its protocol.
    Full(FullPort),
    /// Neither; it is refused where the port's name is known.
    Other(String),
}

/// A port with its protocol.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullPort {
    /// The number.
    #[serde(deserialize_with = "whole")]
    pub port: Option<u16>,
    /// `tcp` or `udp`.
    pub protocol: String,
}

impl<'de> Deserialize<'de> for PortDoc {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        if value.is_object() {
            return FullPort::deserialize(value).map(Self::Full).map_err(de::Error::custom);
        }
        let number = value.as_u64().and_then(|n| u16::try_from(n).ok());
        Ok(number.map_or_else(|| Self::Other(value.to_string()), Self::Number))
    }
}
