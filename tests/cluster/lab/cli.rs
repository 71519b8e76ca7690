//! The CLI as a process, and what it said.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::procs::dies_with_us;

/// No command of a test takes longer.
const LIMIT: Duration = Duration::from_secs(150);

/// What a command ended with.
#[derive(Debug)]
pub struct Said {
    pub line: String,
    pub code: i32,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Said {
    /// The same, if it ended with success.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// The same, if it ended with this code.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}{}", self.line, self.out, self.err);
        self
    }

    /// The same, if what it said on standard error holds all of these.
    pub fn says(self, wants: &[&str]) -> Self {
        for want in wants {
            assert!(self.err.contains(want), "{}: does not say {want:?}:\n{}{}", self.line, self.out, self.err);
        }
        self
    }

    /// What it printed, as JSON; of a list its items, of a watch, which prints a line each time, the rollout at its
    /// end.
    pub fn json(&self) -> Value {
        if let Ok(whole) = serde_json::from_str::<Value>(&self.out) {
            return if whole["items"].is_array() { whole["items"].clone() } else { whole };
        }
        let last = serde_json::from_str(self.out.lines().last().unwrap_or_default());
        let last: Value = last.unwrap_or_else(|e| panic!("{}: {e}\n{}\n{}", self.line, self.out, self.err));
        assert_eq!(last["type"], "ended", "{}\n{}", self.line, self.out);
        last["record"].clone()
    }
}

/// Runs `slipway ARGS` against these nodes, in a home of its own.
pub fn run(home: &Path, nodes: &str, args: &[&str]) -> Said {
    let line = format!("slipway {}", args.join(" "));
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command
        .args(args)
        .env("SLIPWAY_NODES", nodes)
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("SLIPWAY_ENVIRONMENT")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = dies_with_us(&mut command).spawn().unwrap();
    let (out, err) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            break -1;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Said { line, code, out: out.recv().unwrap(), err: err.recv().unwrap(), took: began.elapsed() }
}

fn drain(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        let _ = send.send(String::from_utf8_lossy(&all).into_owned());
    });
    receive
}

/// A text field.
pub fn text<'a>(v: &'a Value, field: &str) -> &'a str {
    v[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {v}"))
}

/// A number field.
pub fn number(v: &Value, field: &str) -> u64 {
    v[field].as_u64().unwrap_or_else(|| panic!("no number {field:?} in {v}"))
}

/// A list field.
pub fn list<'a>(v: &'a Value, field: &str) -> &'a [Value] {
    v[field].as_array().unwrap_or_else(|| panic!("no list {field:?} in {v}"))
}
