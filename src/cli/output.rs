//! Prints a reply as a table for people, or whole as JSON or YAML for scripts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

use super::{CliError, args::Format};
use crate::console::{self, Unwritten};

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

impl Output {
    pub fn new(format: Format) -> Self {
        Self { format, applied: Arc::default() }
    }

    /// The same, showing this applied index in objects for scripts.
    pub fn carrying(self, applied: Arc<AtomicU64>) -> Self {
        Self { applied, ..self }
    }

    /// JSON of the value; an object also says from which applied index it was answered.
    fn stamped<T: Serialize>(&self, value: &T) -> Result<String, CliError> {
        let applied_index = self.applied.load(Ordering::SeqCst);
        let object = serde_json::to_value(value).is_ok_and(|v| v.is_object());
        if object && applied_index > 0 { json(&Stamped { value, applied_index }, true) } else { json(value, true) }
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
        self.for_people() && console::out_is_terminal() && console::err_is_terminal()
    }

    /// Prints `value` as it is for scripts, or `text` of it for people.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Table | Format::Wide => self.line(&text(value)),
            Format::Json => self.line(&self.stamped(value)?),
            Format::Yaml => {
                let text = serde_saphyr::to_string(value)
                    .map_err(|e| CliError::from(Unwritten::Failed(std::io::Error::other(e))))?;
                self.line(text.trim_end())
            }
        }
    }

    /// Prints one of many values: a line for people, a JSON object a line (or a YAML document) for scripts.
    pub fn item<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.line(&json(value, false)?),
            Format::Yaml => {
                self.line("---")?;
                self.show(value, text)
            }
            Format::Table | Format::Wide => self.show(value, text),
        }
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        Ok(console::line(text)?)
    }
}

fn json<T: Serialize>(value: &T, pretty: bool) -> Result<String, CliError> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|e| CliError::from(Unwritten::Failed(e.into())))
}
