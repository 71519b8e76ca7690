//! `slipway event watch` as a process: events as they come, in order, across nodes.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Lab, procs::dies_with_us};

/// A running watch.
pub struct EventWatch {
    child: Child,
    events: Receiver<Value>,
    /// Everything seen so far.
    pub seen: Vec<Value>,
}

impl EventWatch {
    /// Watches everything that comes after log entry `after`.
    pub fn after(lab: &Lab, after: u64) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command
            .args(["event", "watch", "--after", &after.to_string(), "-o", "json"])
            .env("SLIPWAY_NODES", lab.node_list())
            .env("HOME", lab.dir())
            .current_dir(lab.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = dies_with_us(&mut command).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if serde_json::from_str(&line).map_or(true, |event| send.send(event).is_err()) {
                    return;
                }
            }
        });
        Self { child, events, seen: Vec::new() }
    }

    /// The next event that fits; fails when none comes in time.
    pub fn until(&mut self, what: &str, limit: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                let last: Vec<String> = self.seen.iter().rev().take(15).map(|e| e["text"].to_string()).collect();
                panic!("no event in {limit:?}: {what}; newest first:\n{}", last.join("\n"));
            };
            self.seen.push(event.clone());
            if fits(&event) {
                return event;
            }
        }
    }
}

impl Drop for EventWatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether an event says that a step of this number began.
pub fn step_began(event: &Value, rollout: &str, step: usize) -> bool {
    event["kind"] == "step_changed"
        && event["rollout"] == rollout
        && event["fields"]["step"].as_str().and_then(|s| s.parse().ok()) == Some(step)
        && event["fields"]["status"] == "running"
}
