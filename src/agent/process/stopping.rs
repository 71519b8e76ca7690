//! Stops a process and its tree: the signal of the spec, a grace for the whole tree, then a kill.
//!
//! Invariants: every process of the tree gets the signal before it is killed. There is one grace for all, and it counts
//! from the first signal. The end of the grace is written down before the signal, so that the shim neither kills too
//! early what outlives the program nor waits for ever if the agent dies. Not here: other ends of a tree (`ending`,
//! `clear`; `shim`).

use std::{collections::BTreeSet, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::{Clock, LOOK, Process, ProcessError, ended_by_force, exit, files, locked, members};
use crate::{
    agent::{
        kin::start_time,
        layout::{InstanceDir, RunDir},
    },
    model::{StopSpec, StopTo, signal},
};

/// Time between looks at what is left of a tree.
const TREE_LOOK: Duration = Duration::from_millis(100);

/// A stop that is under way, as its run's directory has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Until when it may take: milliseconds since boot ([`Clock::boot`]).
    pub until: u64,
}

/// Whether the grace of a run's stop goes on.
pub(super) fn goes_on(run: &RunDir) -> bool {
    let stop = files::read_if_there(&run.stop()).ok().flatten();
    let stop = stop.and_then(|b| serde_json::from_slice::<Stopping>(&b).ok());
    stop.is_some_and(|s| Clock::real().boot() < s.until)
}

/// A signal by its name in a spec.
pub fn signal_named(name: &str) -> Option<Signal> {
    Some(match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        "KILL" => Signal::KILL,
        other => return realtime(signal::above_rtmin(other)?),
    })
}

/// The real-time signal so far above the first that this machine's libc leaves to programs.
fn realtime(above: u8) -> Option<Signal> {
    let number = libc::SIGRTMIN().checked_add(above.into()).filter(|n| *n <= libc::SIGRTMAX())?;
    // SAFETY: a valid number that is not zero, and none of those that libc keeps for itself, which are below its
    // SIGRTMIN.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

impl Process {
    /// Asks it to end, gives its whole tree time, and kills what needs more.
    pub async fn stop(&self, dir: &InstanceDir, number: u32, how: &StopSpec) -> Result<(), ProcessError> {
        let signal = signal_named(&how.signal).unwrap_or(Signal::TERM);
        let run = dir.run(number);
        let grace = Duration::from_millis(how.grace.0);
        let until = Clock::real().boot().saturating_add(how.grace.0);
        let note = serde_json::to_vec(&Stopping { until }).unwrap_or_default();
        if let Err(e) = files::replace(&run.stop(), &note, 0o600) {
            tracing::warn!(
                pid = self.tree.first.pid,
                "what outlives the program has no grace: {}: {e}",
                run.stop().display()
            );
        }
        let asked = tokio::time::timeout(grace, self.ask(dir, &run, signal, how.to)).await;
        match asked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => tracing::warn!(pid = self.tree.first.pid, "its tree cannot be seen, so it is killed: {e}"),
            Err(_) => tracing::info!(pid = self.tree.first.pid, "did not end within its grace; killing it"),
        }
        self.signal(Signal::KILL);
        let left = ended_by_force(dir, &self.tree).await?;
        if !left.is_empty() {
            tracing::warn!(pid = self.tree.first.pid, "there is still {left}, which cannot be killed");
        }
        Ok(())
    }

    /// Returns when nothing of the tree lives any more.
    async fn ask(&self, dir: &InstanceDir, run: &RunDir, signal: Signal, to: StopTo) -> Result<(), ProcessError> {
        let first = &self.tree.first;
        let mut asked = BTreeSet::from([(first.pid, first.start)]);
        match to {
            StopTo::Main => self.signal(signal),
            StopTo::Group => {
                let group = members(dir, &self.tree).await?.sure.into_iter().filter(|k| k.group == first.pid);
                asked.extend(group.map(|k| (k.pid, k.start)));
                // The group's number is not used again while its first process is there.
                match Pid::from_raw(first.pid).filter(|_| start_time(first.pid).ok() == Some(first.start)) {
                    Some(pid) => {
                        let _ = kill_process_group(pid, signal);
                    }
                    None => self.signal(signal),
                }
            }
        }
        self.ended().await;
        loop {
            // Its shim reaps and looks more often; mostly it is done already.
            if exit(run)?.is_some() {
                return Ok(());
            }
            let left = members(dir, &self.tree).await?;
            if left.sure.is_empty() && !locked(dir)? {
                return Ok(());
            }
            // Whoever has not been told yet: helpers of other groups, and with `to: main` all others.
            for kin in left.sure.iter().filter(|k| asked.insert((k.pid, k.start))) {
                if let Err(e) = kin.signal(signal) {
                    tracing::warn!(pid = kin.pid, "cannot signal: {e}");
                }
            }
            for _ in 0..TREE_LOOK.as_millis() / LOOK.as_millis() {
                if exit(run)?.is_some() {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
