//! The transcript of a story: entries, waits, what happened outside. Written only when somebody will read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use slipway::model::{DeploymentId, Wait};
use slipway::state::{Command, Rejection, State};

use crate::sim_fleet::render;

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

    /// What every deployment looks like at the end.
    pub fn end(&self, state: &State) {
        for d in state.deployments.values() {
            self.line(|| {
                format!("== {}: desired {}, route {:?}", d.id, d.desired, d.route.as_ref().map(|_| d.arms.weights()))
            });
            if let Some(x) = &d.as_is {
                self.line(|| format!("   as it is since {}, given up {}", x.rollout, x.given_up));
            }
            for a in d.arms.iter() {
                self.line(|| format!("   {} {}, wants {}, goes at {:?}", a.role, a.pair, a.want, a.retire_at));
            }
            if let Some(r) = state.live_rollout(&d.id) {
                self.line(|| {
                    format!(
                        "   {} {}, desired {}, order {:?}, without {:?}",
                        r.id, r.status, r.desired, r.order, r.without
                    )
                });
            }
            for i in state.instances_of(&d.id).filter(|i| i.life.is_live()) {
                let out = i.counted_out.map_or_else(String::new, |at| format!(", counted out at {at}"));
                self.line(|| format!("   {} {} on {} {} {}{out}", i.id, i.pair, i.worker, i.life, i.health));
            }
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
