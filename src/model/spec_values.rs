//! How single values of a spec are written: text or number, whole numbers, shares, ports.
//!
//! Invariant: a value that is nearly right is refused, never taken for something else; the error is in a person's words, not a library's.
//! Not here: which keys there are (`spec_doc`), and keys without a value (`spec_read`).

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{BasisPoints, ModelError};

/// A value written as text or as a bare number.
pub fn text_or_number<'de, D: Deserializer<'de>, T: FromStr<Err = ModelError>>(d: D) -> Result<Option<T>, D::Error> {
    let text = match Option::<Value>::deserialize(d)? {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(s)) => s,
        Some(Value::Number(n)) => n.to_string().trim_end_matches(".0").to_string(),
        // YAML has `off`, `no` and `on` without quotes as truth values.
        Some(Value::Bool(on)) => if on { "on" } else { "off" }.into(),
        Some(other) => return Err(de::Error::custom(format!("{other} is neither text nor a number"))),
    };
    text.parse().map(Some).map_err(de::Error::custom)
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

/// Shares, such as the steps of a canary.
pub fn weights<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<BasisPoints>>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "text_or_number")] Option<BasisPoints>);
    let Some(items) = Option::<Vec<One>>::deserialize(d)? else { return Ok(None) };
    let given = items.into_iter().map(|one| one.0.ok_or_else(|| de::Error::custom("a share without a value")));
    given.collect::<Result<_, _>>().map(Some)
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
