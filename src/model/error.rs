//! What is wrong with a value a person or a peer gave us: always the thing, and the fix.

use thiserror::Error;

/// A value that breaks an invariant of the model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// A name that is no DNS label (RFC 1035 2.3.1, RFC 1123 2.1).
    #[error(
        "{kind} name {value:?} is not a DNS label: use 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit"
    )]
    BadName { kind: &'static str, value: String },
    /// A name that DNS would read as a prefix of ours.
    #[error("{kind} name {value:?} is reserved, because DNS reads it as a prefix: choose another name")]
    ReservedName { kind: &'static str, value: String },
    /// A text that could not be read as what it should be.
    #[error("{value:?} is not {expected}")]
    BadValue {
        value: String,
        /// What was expected, with an example.
        expected: &'static str,
    },
    #[error("{value:?} is not a version: {problem}")]
    BadVersion {
        /// The text given, not more than its beginning.
        value: String,
        /// What is wrong and what to write.
        problem: String,
    },
    /// A field of a spec or of rollout parameters out of its range.
    #[error("{field}: {problem}")]
    Field {
        /// Path of the field as a person writes it, such as `rollout.steps`.
        field: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// A document that could not be parsed at all.
    #[error("{0}")]
    Document(String),
}

impl ModelError {
    /// Shorthand for [`ModelError::Field`].
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }
}

/// The cause that says most: the innermost one.
pub fn innermost<'a>(mut e: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = e.source() {
        e = source;
    }
    e
}
