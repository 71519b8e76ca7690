//! Readers that leave and disks that are full under a log or standard error: lines are lost, and nothing else happens.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::{
    lab::{Release, SOON, Scratch, eventually, kill_all, package, procs_naming, signal, spec},
    support::{Addresses, Process},
};

/// A whole cluster in one process, whose log goes where the test says.
struct Dev {
    home: Scratch,
    addresses: Addresses,
    process: Process,
}

impl Dev {
    /// `log` says where standard error goes.
    fn start(log: impl FnOnce(&mut Command)) -> Self {
        let home = Scratch::new();
        let addresses = Addresses::allocate();
        let a = &addresses;
        let port = a.client.port();
        let pool = format!("127.13.{}.{}", port >> 8, (port & 0xf8).max(8));
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
        command.args(["--log", "slipway=debug", "dev", "--dir"]).arg(home.path().join("dev"));
        command.args(["--pool", &pool, "--client-listen", &a.client.to_string(), "--peer-listen", &a.peer.to_string()]);
        command.args(["--dns-listen", &a.dns.to_string(), "--http-listen", &a.http.to_string()]);
        let process = Process::spawn_with(command, &home.path().join("out"), log);
        let dev = Self { home, addresses, process };
        eventually("a worker", SOON, || {
            let said = dev.slipway(&["worker", "list"]);
            if said.1.contains("ready") { Ok(()) } else { Err(format!("{said:?}")) }
        });
        dev
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command.args(args).env("SLIPWAY_NODES", self.addresses.client.to_string()).env("HOME", self.home.path());
        command
    }

    fn slipway(&self, args: &[&str]) -> (Option<i32>, String) {
        let out = self.command(args).output().unwrap();
        let both = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8_lossy(&both).into_owned())
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, said) = self.slipway(args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        said
    }

    fn apply(&self, settings: &str) {
        let file = self.home.path().join("shop.yaml");
        std::fs::write(
            &file,
            spec("strategy: direct, bake: 1s, min_requests: 0").replace("per_worker: 2", "per_worker: 1"),
        )
        .unwrap();
        self.ok(&["apply", "-f", file.to_str().unwrap()]);
        let dir = package(self.home.path(), &Release { version: "1.0.0", settings });
        self.ok(&["release", "push", "shop", "1.0.0", dir.to_str().unwrap()]);
    }

    /// An instance whose process is killed is started again, and passes.
    fn starts_again(&self) {
        self.ok(&["rollout", "start", "shop", "--to", "1.0.0", "--watch", "--within", "60s"]);
        let programs = || -> Vec<i32> {
            procs_naming(&self.home.path().join("dev/agent/releases")).iter().map(|p| p.pid).collect()
        };
        let before = eventually("a process", SOON, || programs().first().copied().ok_or("none".into()));
        signal(before, Signal::KILL);
        eventually("another process, passing", SOON, || {
            let shown = self.slipway(&["deployment", "show", "shop", "-o", "json"]).1;
            let again = programs().iter().any(|p| *p != before) && shown.contains("\"restarts\": 1");
            if again && shown.contains("\"passing\"") { Ok(()) } else { Err(shown) }
        });
    }

    fn ends(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "{status}");
        let left = procs_naming(self.home.path());
        assert!(left.is_empty(), "left: {left:?}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.process.kill();
        kill_all(self.home.path());
    }
}

#[test]
fn a_log_whose_reader_leaves_stops_no_task() {
    let mut reader = None;
    let mut dev = Dev::start(|command| {
        let (read, write) = std::io::pipe().unwrap();
        command.stderr(write);
        reader = Some(std::thread::spawn(move || {
            let mut lines = BufReader::new(read).lines();
            // It reads on until the session is there, then it goes, as a logger that is restarted does.
            lines.find(|l| l.as_ref().is_ok_and(|l| l.contains("session open"))).unwrap().unwrap();
        }));
    });
    reader.unwrap().join().unwrap();
    dev.apply("");
    dev.starts_again();
    dev.ends();
}

#[test]
fn a_log_on_a_full_disk_and_one_whose_reader_stands_still_stop_no_task() {
    let mut full = Dev::start(|command| {
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
    });
    full.apply("");
    full.starts_again();
    full.ends();

    let mut unread = None;
    let mut still = Dev::start(|command| {
        let (read, write) = std::io::pipe().unwrap();
        // Full from the beginning.
        rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
        command.stderr(write);
        unread = Some(read);
    });
    still.apply("");
    still.starts_again();
    still.ends();
}

/// Exit code with standard error, or standard output, on a full disk or closed.
fn code(program: &str, args: &[&str], out: Option<&Path>, err: Option<&Path>) -> Option<i32> {
    let open = |path: Option<&Path>| match path {
        None => Stdio::null(),
        Some(path) if path == Path::new("closed") => std::io::pipe().unwrap().1.into(),
        Some(path) => File::options().write(true).open(path).unwrap().into(),
    };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(open(out)).stderr(open(err));
    command.env("HOME", "/nonexistent").status().unwrap().code()
}

#[test]
fn standard_error_that_cannot_be_written_changes_no_exit_code() {
    let (slipway, slipwayd) = (env!("CARGO_BIN_EXE_slipway"), env!("CARGO_BIN_EXE_slipwayd"));
    for (program, args) in [
        (slipway, &["apply", "-f", "/nonexistent.yaml"][..]),
        (slipway, &["--node", "127.0.0.1:1", "--timeout", "1s", "cluster", "status"]),
        (slipway, &["rollout", "start"]),
        (slipway, &["rollout", "start", "no such name", "--to", "1"]),
        (slipwayd, &["config", "check", "node", "--config", "/nonexistent.toml"]),
        (slipwayd, &["check", "/nonexistent"]),
        (slipwayd, &["--log", "no=such=filter", "check", "/nonexistent"]),
        (slipwayd, &["agent", "drain", "--data-dir", "/nonexistent"]),
        (slipwayd, &["no-such-verb"]),
        (slipwayd, &["shim", "/nonexistent", "1"]),
    ] {
        let well = code(program, args, None, None);
        assert!(well.is_some_and(|c| c != 0 && c != 101), "{args:?}: {well:?}");
        for err in ["/dev/full", "closed"] {
            assert_eq!(code(program, args, None, Some(Path::new(err))), well, "{args:?} with {err}");
        }
    }
}

#[test]
fn standard_output_that_is_full_is_a_failure_and_a_reader_that_left_is_none() {
    let (slipway, slipwayd) = (env!("CARGO_BIN_EXE_slipway"), env!("CARGO_BIN_EXE_slipwayd"));
    for (program, args) in [
        (slipway, &["--help"][..]),
        (slipway, &["rollout", "start", "--help"]),
        (slipway, &["completions", "bash"]),
        (slipwayd, &["--help"]),
        (slipwayd, &["--version"]),
        (slipwayd, &["config", "print", "node", "--name", "n1", "--data-dir", "/nonexistent"]),
        (slipwayd, &["config", "check", "node", "--name", "n1", "--data-dir", "/nonexistent"]),
    ] {
        assert_eq!(code(program, args, None, None), Some(0), "{args:?}");
        assert_eq!(code(program, args, Some(Path::new("closed")), None), Some(0), "{args:?}");
        assert_eq!(code(program, args, Some(Path::new("/dev/full")), None), Some(1), "{args:?}");
    }
}

#[test]
fn a_watch_whose_reader_left_did_not_see_the_end() {
    let mut dev = Dev::start(|command| {
        command.stderr(Stdio::null());
    });
    dev.apply("healthy = false");
    let mut watch = dev.command(&["rollout", "start", "shop", "--to", "1.0.0", "--watch"]);
    let mut child = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("started"), "{line}");
    // The reader is gone with its buffer: the next line meets nobody.
    assert_eq!(child.wait().unwrap().code(), Some(4));
    // Who watches on sees how it ends; one whose reader is gone by then has seen it too.
    let mut watch = dev.command(&["rollout", "watch", "shop"]);
    let end = watch.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code();
    let again = dev.command(&["rollout", "watch", "shop"]).stdout(std::io::pipe().unwrap().1).status().unwrap();
    assert!(end.is_some_and(|c| c != 0 && c != 4) && again.code() == end, "{end:?} {again}");
    dev.ends();
}
