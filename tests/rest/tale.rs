//! The transcript of a story: entries, waits, what happened outside. Written only when somebody will read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use slipway::model::{DeploymentId, Wait};
use slipway::state::{Command, Rejection, State};

use super::render;

/// Lines, or nothing.
#[derive(Clone, Default)]
pub struct Tale(Option<Arc<Mutex<Vec<String>>>>);

impl Tale {
    pub fn told() -> Self {
        Self(Some(Arc::default()))
    }

    pub fn is_told(&self) -> bool {
        self.0.is_some()
    }

    pub fn line(&self, text: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.lock().expect("one thread").push(text());
        }
    }

    pub fn entry(&self, before: &State, after: &State, index: u64, body: &Command, refused: Option<&Rejection>) {
        if let Some(lines) = &self.0
            && let Some(line) = render::command(after, before, index, body, refused)
        {
            lines.lock().expect("one thread").push(line);
        }
    }

    pub fn waits(&self, waits: &BTreeMap<DeploymentId, Vec<Wait>>) {
        for (id, list) in waits {
            self.line(|| {
                let all: Vec<String> = list.iter().map(ToString::to_string).collect();
                format!("   {id} waits: {}", all.join("; "))
            });
        }
    }

    /// All lines; `None` while a panic holds them.
    pub fn lines(&self) -> Vec<String> {
        let Some(lines) = &self.0 else { return Vec::new() };
        match lines.lock() {
            Ok(lines) => lines.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}
