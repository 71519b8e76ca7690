//! Nouns that people write as text and machines as a number.
//!
//! Invariant: in a format for people (a spec, JSON) a value is the text that a person would write; in stored bytes it
//! is its number.

/// Serde for a newtype around a number: its text in formats for people, the number elsewhere.
macro_rules! text_form {
    ($name:ident($inner:ty)) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { serde::Serialize::serialize(&self.0, to) }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(from)?;
                    return text.parse().map_err(serde::de::Error::custom);
                }
                <$inner as serde::Deserialize>::deserialize(from).map(Self)
            }
        }
    };
}
pub(crate) use text_form;
