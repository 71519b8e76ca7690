//! Structs that are stored as numbered fields.
//!
//! [`fields!`] declares a struct and its stored form: a map from a field's number to its value, in the order of the
//! numbers, without the fields that have their default. So a new field is one line, and changes no byte, no digest and
//! no golden file of a row that does not use it. Invariants: numbers are never used again; a field that is not
//! `[required]` has a default; a number that is not known, one that comes twice or out of order, and a required field
//! that is absent are refused by name. An unknown number has to be refused, as a replica that dropped a field would
//! differ from the others; the feature level keeps one from arriving.
//!
//! There are no lengths beside the numbers: a reader that must refuse what it does not know never skips. Not here: the
//! encoding of single values (`state::store::frame`).

use std::fmt::Display;

/// Declares a struct whose stored form is its numbered fields.
///
/// ```text
/// fields! {
///     /// A node.
///     #[derive(Debug, Clone, PartialEq, Eq)]
///     pub struct Node {
///         /// Its name.
///         1 [required] pub name: Name,
///         /// Whether it is taken out.
///         2 pub drained: bool,
///     }
/// }
/// ```
///
/// `json` before the struct gives it a second form, by the names of its fields, for text formats: what agents are told
/// and keep.
macro_rules! fields {
    (
        $(#[$attr:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* $number:literal $([$required:ident])? pub $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[$attr])*
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        $crate::model::fields!(@stored $name { $($number $([$required])? $field: $type),* });
    };
    (
        json
        $(#[$attr:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* $number:literal $([$required:ident])? pub $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[$attr])*
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(remote = "Self")]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        $crate::model::fields!(@stored [json] $name { $($number $([$required])? $field: $type),* });
    };
    (@stored $([$json:ident])? $name:ident { $($number:literal $([$required:ident])? $field:ident: $type:ty),* }) => {
        impl serde::Serialize for $name {
            #[allow(unused_mut, reason = "a struct may have no fields")]
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                $crate::model::fields!(@by_name $([$json])? to.is_human_readable(), $name::serialize(self, to));
                let present = 0 $(+ usize::from($crate::model::fields!(@present $([$required])? $type, self.$field)))*;
                let mut map = to.serialize_map(Some(present))?;
                $(
                    if $crate::model::fields!(@present $([$required])? $type, self.$field) {
                        map.serialize_entry::<u8, $type>(&$number, &self.$field)?;
                    }
                )*
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("the numbered fields of ", stringify!($name)))
                    }

                    #[allow(unused_mut, unused_assignments, unused_variables, reason = "a struct may have no fields")]
                    fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<$name, M::Error> {
                        $(let mut $field: Option<$type> = None;)*
                        let mut last = 0;
                        while let Some(number) = map.next_key::<u8>()? {
                            if number <= last {
                                return Err($crate::model::numbered::out_of_order(stringify!($name), number, last));
                            }
                            last = number;
                            match number {
                                $($number => {
                                    let value = map.next_value::<$type>();
                                    let named = |e| $crate::model::numbered::damaged(stringify!($name), stringify!($field), &e);
                                    $field = Some(value.map_err(named)?);
                                })*
                                unknown => return Err($crate::model::numbered::unknown(stringify!($name), unknown)),
                            }
                        }
                        Ok($name {
                            $($field: $crate::model::fields!(@take $([$required])? $name, $field),)*
                        })
                    }
                }

                $crate::model::fields!(@by_name $([$json])? from.is_human_readable(), $name::deserialize(from));
                from.deserialize_map(Fields)
            }
        }
    };
    (@by_name [json] $human:expr, $named:expr) => {
        if $human {
            return $named;
        }
    };
    (@by_name $human:expr, $named:expr) => {};
    (@present [required] $type:ty, $value:expr) => { true };
    (@present $type:ty, $value:expr) => { $value != <$type>::default() };
    (@take [required] $name:ident, $field:ident) => {
        $field.ok_or_else(|| $crate::model::numbered::missing(stringify!($name), stringify!($field)))?
    };
    (@take $name:ident, $field:ident) => { $field.unwrap_or_default() };
}
pub(crate) use fields;

/// A number that is not above the one before it: a field twice, or damaged bytes.
pub(crate) fn out_of_order<E: serde::de::Error>(name: &str, number: u8, last: u8) -> E {
    E::custom(if number == last {
        format!("field {number} of {name} comes twice")
    } else {
        format!("field {number} of {name} comes after field {last}")
    })
}

/// A number that this program does not know.
pub(crate) fn unknown<E: serde::de::Error>(name: &str, number: u8) -> E {
    E::custom(format!("field {number} of {name} is not known: a newer version wrote it"))
}

/// A field whose value cannot be read.
pub(crate) fn damaged<E: serde::de::Error>(name: &str, field: &str, why: &impl Display) -> E {
    E::custom(format!("{field} of {name}: {why}"))
}

/// A field that has no default and is absent.
pub(crate) fn missing<E: serde::de::Error>(name: &str, field: &str) -> E {
    E::custom(format!("{name} lacks its {field}"))
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};

    fields! {
        /// A row as it was.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Before {
            /// Always there.
            1 [required] pub name: String,
            /// Absent while it is 0.
            3 pub count: u32,
        }
    }

    fields! {
        json
        /// The same row with one field more.
        #[derive(Debug, Clone, PartialEq)]
        pub struct After {
            /// Always there.
            1 [required] pub name: String,
            /// Absent while it is 0.
            3 pub count: u32,
            /// The new one.
            4 pub note: Option<String>,
        }
    }

    fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
        bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
    }

    fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        let read = bincode::serde::decode_from_slice(bytes, bincode::config::standard());
        read.map(|(value, _)| value).map_err(|e| e.to_string())
    }

    fn after(note: Option<&str>) -> After {
        After { name: "a".into(), count: 7, note: note.map(Into::into) }
    }

    #[test]
    fn a_new_field_changes_no_byte_of_rows_that_do_not_use_it() {
        let before = Before { name: "a".into(), count: 7 };
        assert_eq!(bytes(&before), bytes(&after(None)));
        assert_eq!(bytes(&before), [2, 1, 1, b'a', 3, 7]);
        assert_eq!(read::<After>(&bytes(&before)).unwrap(), after(None));
        assert_eq!(bytes(&Before { count: 0, ..before }), [1, 1, 1, b'a'], "a default is absent");
        let used = after(Some("b"));
        assert_eq!(read::<After>(&bytes(&used)).unwrap(), used);
    }

    #[test]
    fn what_is_future_doubled_absent_damaged_or_short_is_refused_by_name() {
        let no = |bytes: &[u8]| read::<Before>(bytes).unwrap_err();
        let says = |bytes: &[u8], text: &str| assert!(no(bytes).contains(text), "{}", no(bytes));
        says(&bytes(&after(Some("b"))), "field 4 of Before is not known: a newer version wrote it");
        says(&[3, 1, 1, b'a', 3, 7, 3, 8], "field 3 of Before comes twice");
        says(&[2, 3, 7, 1, 1, b'a'], "field 1 of Before comes after field 3");
        says(&[1, 3, 7], "Before lacks its name");
        says(&[1, 1, 1, 0xff], "name of Before: ");
        says(&[2, 1, 1, b'a', 3], "count of Before: ");
        assert!(read::<Before>(&[2, 1, 1, b'a']).is_err());
    }

    #[test]
    fn text_has_names() {
        let text = serde_json::to_string(&after(None)).unwrap();
        assert_eq!(text, r#"{"name":"a","count":7,"note":null}"#);
        assert_eq!(serde_json::from_str::<After>(&text).unwrap(), after(None));
    }
}
