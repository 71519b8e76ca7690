//! The end of a run: first the program ends, then every process that it left behind.
//!
//! Invariants: the shim inherits and reaps orphans, so no pid of a direct child is used again unseen; no process of the
//! tree lives when this returns. While a stop is under way the rest of the tree has what is left of its grace. Not
//! here: which processes get a stop signal, and how (`process`).

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, thread, time::Duration};

use rustix::{
    io::Errno,
    process::{WaitOptions, wait},
};

use super::describe;
use crate::{
    agent::{files, layout::RunDir, process::Stopping, tree::Tree},
    clock::Clock,
};

/// Time between looks at what is left, at first and at most: what does not die of SIGKILL may never.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(500);
/// While a grace goes on.
const GRACE_LOOK: Duration = Duration::from_millis(50);

/// Waits until nothing of the tree lives; gives how the program ended, for people.
pub(super) fn collect(tree: &Tree, run: &RunDir) -> io::Result<String> {
    let status = program_ended(tree.first.pid)?;
    let until = files::read_if_there(&run.stop())?.and_then(|b| serde_json::from_slice::<Stopping>(&b).ok());
    let mut text = describe(status);
    if status.success() && until.is_none() {
        let left = tree.members()?;
        if !left.sure.is_empty() {
            text = format!(
                "{text}, and left processes behind ({left}), which were killed: what is run must stay in the foreground, so \
                 turn off that it becomes a daemon, and begin the last line of a start script with exec"
            );
        }
    }
    let clock = Clock::real();
    let mut pause = FIRST_LOOK;
    loop {
        let grace = until.as_ref().is_some_and(|stop| clock.boot() < stop.until);
        if !grace {
            tree.kill()?;
        }
        if nobody_left()? && tree.members()?.sure.is_empty() {
            break;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(if grace { GRACE_LOOK } else { LAST_LOOK });
    }
    tree.tidy();
    Ok(text)
}

/// Waits for the program; reaps whatever else ends meanwhile.
fn program_ended(pid: i32) -> io::Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended.as_raw_pid() == pid => return Ok(ExitStatus::from_raw(status.as_raw())),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reaps what has ended; whether no child is left.
fn nobody_left() -> io::Result<bool> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(false),
            Err(Errno::CHILD) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}
