//! Prints a reply as a table for people, or whole as JSON or YAML for scripts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

use super::{CliError, args::Format};
use crate::{
    config,
    console::{self, Unwritten},
};

/// Where and how results go.
#[derive(Debug, Clone)]
pub struct Output {
    format: Format,
    /// Applied index of the newest answer; 0: none.
    applied: Arc<AtomicU64>,
}

/// A reply with the applied index that it was answered from.
#[derive(Serialize)]
struct Stamped<'a, T> {
    #[serde(flatten)]
    value: &'a T,
    applied_index: u64,
}

/// The same of a list.
#[derive(Serialize)]
struct Listed<'a, T> {
    items: &'a T,
    applied_index: u64,
}

impl Output {
    /// Tables of `table` fit the screen; those of `wide` are whole.
    pub fn new(format: Format) -> Self {
        // Golden texts do not depend on somebody's screen.
        let narrow = format == Format::Table && !cfg!(test);
        console::set_width(if narrow { config::columns().or_else(console::out_columns) } else { None });
        Self { format, applied: Arc::default() }
    }

    /// The same, showing this applied index in objects for scripts.
    pub fn carrying(self, applied: Arc<AtomicU64>) -> Self {
        Self { applied, ..self }
    }

    /// The value as scripts get it: an object, which also says from which applied index it was answered, if it does not
    /// say so itself.
    fn stamped<T: Serialize>(&self, value: &T, write: Write) -> Result<String, CliError> {
        let applied_index = self.applied.load(Ordering::SeqCst);
        match serde_json::to_value(value) {
            Ok(serde_json::Value::Object(all)) if all.contains_key("applied_index") => write.text(value),
            Ok(serde_json::Value::Array(_)) => write.text(&Listed { items: value, applied_index }),
            Ok(serde_json::Value::Object(_)) => write.text(&Stamped { value, applied_index }),
            Ok(_) | Err(_) => write.text(value),
        }
    }

    /// Whether columns for the curious are wanted.
    pub fn wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Whether a person reads it.
    pub fn for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Whether a live view makes sense: it is drawn on standard error, and its result goes to standard output.
    pub fn live(&self) -> bool {
        self.for_people() && console::out_is_terminal() && console::err_is_terminal() && !config::dumb_terminal()
    }

    /// Prints `value` as it is for scripts, or `text` of it for people.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Table | Format::Wide => self.line(&console::harmless(&text(value))),
            Format::Json => self.line(&self.stamped(value, Write::Json)?),
            Format::Yaml => self.line(&self.stamped(value, Write::Yaml)?),
        }
    }

    /// Prints one of many values: a line for people, a JSON object a line (or a YAML document) for scripts.
    pub fn item<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.line(&Write::JsonLine.text(value)?),
            Format::Yaml => self.line(&format!("---\n{}", Write::Yaml.text(value)?)),
            Format::Table | Format::Wide => self.line(&text(value)),
        }
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        Ok(console::line(text)?)
    }
}

/// How a value is written for scripts.
#[derive(Clone, Copy)]
enum Write {
    Json,
    JsonLine,
    Yaml,
}

impl Write {
    fn text<T: Serialize>(self, value: &T) -> Result<String, CliError> {
        let failed = |e: std::io::Error| CliError::from(Unwritten::Failed(e));
        match self {
            Self::Json => serde_json::to_string_pretty(value).map_err(|e| failed(e.into())),
            Self::JsonLine => serde_json::to_string(value).map_err(|e| failed(e.into())),
            Self::Yaml => {
                let text = serde_saphyr::to_string(value).map_err(|e| failed(std::io::Error::other(e)))?;
                Ok(text.trim_end().into())
            }
        }
    }
}
