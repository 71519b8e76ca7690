//! The demo's service as a real process: its answers, its exact share of errors, its end on SIGTERM, its refusals.
//!
//! The unit tests inside `cluster/shop/main.rs` run here too, as examples are not tested by themselves.

#[allow(dead_code)]
#[path = "../../cluster/shop/main.rs"]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The example's binary, which `cargo test`, `cargo nextest run` and `make test` build beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this program's path");
    let path = test.parent().and_then(|deps| deps.parent()).expect("target/debug").join("examples/shop");
    assert!(path.exists(), "{} is not built: run `cargo build --example shop`", path.display());
    path
}

/// A running shop in a directory of its own; killed when dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Running {
    fn start(settings: &str) -> Running {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("shop.toml"), settings).expect("settings");
        let mut child = Command::new(program())
            .args(["--listen", "127.0.0.1:0"])
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = String::new();
        let stderr = child.stderr.take().expect("piped");
        BufReader::new(stderr).read_line(&mut said).expect("a line");
        let address = said.trim().rsplit(' ').next().and_then(|a| a.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {said:?}"));
        Running { child, address, _directory: directory }
    }

    /// Sends a request without waiting for its answer.
    fn send(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").expect("sent");
        stream
    }

    fn get(&self, path: &str) -> String {
        answer(self.send(path))
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    }

    /// The exit code, within the deadline.
    fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("still running after {within:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn it_answers_with_its_version_and_counts() {
    let shop = Running::start("version = \"4.0.0\"\nerror_percent = 30\n");
    let answers: Vec<String> = (0..100).map(|_| shop.get("/")).collect();
    assert_eq!(answers.iter().filter(|a| a.starts_with("HTTP/1.1 500")).count(), 30);
    assert_eq!(answers.iter().filter(|a| a.starts_with("HTTP/1.1 200") && a.ends_with("shop 4.0.0\n")).count(), 70);
    assert!(answers.iter().all(|a| a.contains("x-version: 4.0.0\r\n")));
    assert!(shop.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(shop.get("/smoke").starts_with("HTTP/1.1 200"));
    let metrics = shop.get("/metrics");
    assert!(metrics.contains("http_requests_total{code=\"200\"} 70\n"), "{metrics}");
    assert!(metrics.contains("http_requests_total{code=\"500\"} 30\n"), "{metrics}");
}

#[test]
fn it_can_be_unhealthy() {
    let shop = Running::start("version = \"1.0.0\"\nhealthy = false\n");
    assert!(shop.get("/healthz").starts_with("HTTP/1.1 503"));
}

#[test]
fn sigterm_finishes_open_requests() {
    let mut shop = Running::start("version = \"1.0.0\"\nlatency_ms = 700\n");
    let idle = TcpStream::connect(shop.address).expect("an idle connection");
    let open = shop.send("/");
    let end = Instant::now() + Duration::from_secs(5);
    while !shop.get("/metrics").contains("shop_open_requests 1\n") {
        assert!(Instant::now() < end, "the request never came in");
    }
    shop.terminate();
    let text = answer(open);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("shop 1.0.0\n"), "{text}");
    assert_eq!(shop.exit_code(Duration::from_secs(5)), Some(0));
    assert!(TcpStream::connect(shop.address).is_err(), "still listening");
    drop(idle);
}

#[test]
fn wrong_arguments_and_settings_exit_with_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |args: &[&str]| {
        let out = Command::new(program())
            .args(args)
            .current_dir(directory.path())
            .env_remove("SLIPWAY_ADDR_HTTP")
            .output()
            .expect("it runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for (args, says) in [
        (vec!["--listen", "nowhere"], "\"nowhere\" is no ADDRESS:PORT"),
        (vec!["--verbose"], "unknown argument"),
        (vec![], "SLIPWAY_ADDR_HTTP"),
        (vec!["--listen", "127.0.0.1:0"], "no shop.toml"),
    ] {
        let (code, stderr) = run(&args);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    std::fs::write(directory.path().join("shop.toml"), "version = \"1\"\nlatency = 5\n").expect("settings");
    let (code, stderr) = run(&["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("latency"), "{stderr}");
}
