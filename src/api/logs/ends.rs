//! What the end of an instance's answer says: why there is no line, or not all, and how the instance failed.
//!
//! Invariant: the texts follow the instance's name, as in `512-0 never started: ...`. Not here: who reads them.

use std::time::Duration;

use crate::{
    model::{Life, LogFound, Period},
    state::Instance,
    wire::v1,
};

/// What is known of an instance before its agent answers.
#[derive(Debug, Clone)]
pub(super) struct End {
    instance: String,
    worker: String,
    life: Life,
    exit: String,
    since: Period,
}

impl End {
    pub(super) fn of(instance: &Instance, ask: &v1::TailLogs) -> Self {
        Self {
            instance: instance.id.to_string(),
            worker: instance.worker.to_string(),
            life: instance.life,
            exit: instance.exit.clone().unwrap_or_default(),
            since: Period(ask.since_ms),
        }
    }

    /// Its worker, as a sentence names it.
    pub(super) fn worker(&self) -> String {
        format!("worker {}", self.worker)
    }

    /// Its agent has looked.
    pub(super) fn found(&self, found: LogFound, why: &str) -> v1::LogEnd {
        let (live, failed) = (self.life.is_live(), self.life == Life::Failed);
        let text = match found {
            LogFound::Heard => String::new(),
            LogFound::Lines if failed => self.how("failed"),
            LogFound::Others if failed && self.since == Period(0) => self.how("failed"),
            LogFound::Others if self.since > Period(0) => {
                self.how(&format!("wrote nothing in the last {}", self.since))
            }
            LogFound::Lines | LogFound::Others => String::new(),
            LogFound::Empty if live => "has written nothing yet".into(),
            LogFound::Empty => self.how("wrote nothing"),
            LogFound::NeverStarted | LogFound::Nothing if live => "has not started yet".into(),
            LogFound::NeverStarted => self.how("never started"),
            LogFound::Nothing => self.how("has no log any more: its worker keeps those of the newest that ended"),
            LogFound::Unreadable => return self.broken(false, why),
        };
        v1::LogEnd { instance: self.instance.clone(), why: text, missing: false }
    }

    /// Its agent did not answer within this time.
    pub(super) fn silent(&self, limit: Duration) -> v1::LogEnd {
        self.broken(false, &format!("{} did not answer within {} s", self.worker(), limit.as_secs()))
    }

    /// Its answer, of which `some` came, ends before its time.
    pub(super) fn broken(&self, some: bool, why: &str) -> v1::LogEnd {
        let what = if some { "may have more lines" } else { "gives no log" };
        v1::LogEnd { instance: self.instance.clone(), why: format!("{what}: {why}"), missing: true }
    }

    /// What became of it, with how it ended if that is known.
    fn how(&self, what: &str) -> String {
        match (self.exit.as_str(), self.life.is_live()) {
            ("", _) | (_, true) => what.to_string(),
            (exit, false) => format!("{what}{} {exit}", if what.contains(':') { "; it" } else { ":" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(life: Life, exit: &str, since: u64, found: LogFound) -> String {
        let end = End { instance: "512-0".into(), worker: "w1".into(), life, exit: exit.into(), since: Period(since) };
        end.found(found, "").why
    }

    #[test]
    fn an_instance_without_a_log_says_why_with_its_exit() {
        let nope = "run.command: the release holds no \"bin/nope\"";
        for (life, exit, since, found, wanted) in [
            (Life::Failed, nope, 0, LogFound::NeverStarted, format!("never started: {nope}")),
            (Life::Failed, "exited with status 3", 0, LogFound::Lines, "failed: exited with status 3".into()),
            (Life::Failed, "exited with status 3", 0, LogFound::Empty, "wrote nothing: exited with status 3".into()),
            (
                Life::Failed,
                "exited with status 3",
                600_000,
                LogFound::Others,
                "wrote nothing in the last 10m: exited with status 3".into(),
            ),
            (Life::Running, "", 600_000, LogFound::Others, "wrote nothing in the last 10m".into()),
            (Life::Running, "", 0, LogFound::Others, String::new()),
            (Life::Running, "", 0, LogFound::Lines, String::new()),
            (Life::Running, "killed by signal 9", 0, LogFound::Empty, "has written nothing yet".into()),
            (Life::Starting, "", 0, LogFound::Nothing, "has not started yet".into()),
            (
                Life::Gone,
                "exited with status 0",
                0,
                LogFound::Nothing,
                "has no log any more: its worker keeps those of the newest that ended; it exited with status 0".into(),
            ),
        ] {
            assert_eq!(said(life, exit, since, found), wanted);
        }
    }
}
