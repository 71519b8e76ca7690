//! The servers as processes: ours and the echo from this program, Knot from Debian; each on the servers' core, each
//! ended with this one.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use super::{SERVER_CORE, host, names, ports};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Killed when dropped, and when this process dies.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    said: Option<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

impl Process {
    /// A server of this program (see `serve`).
    pub fn of_ours(what: &str, services: u32, dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        command.args(["--serve", what, &services.to_string()]).arg(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = bound(command).spawn().expect("a program that starts");
        let mut first = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        said.read_line(&mut first).expect("its address");
        let address = first.trim().parse().unwrap_or_else(|_| panic!("{what} did not start, see above"));
        let input = child.stdin.take();
        Self { child, input, said: Some(said), address }
    }

    /// Knot with one thread for UDP and the same names.
    pub fn knot(program: &Path, dir: &Path, services: u32) -> Self {
        let address = ports::free();
        let mut zone = format!(
            "$ORIGIN {0}.\n$TTL 5\n@ SOA ns1 hostmaster 1 60 10 3600 2\n@ NS ns1\nns1 A 127.0.0.1\n",
            names::ZONE
        );
        for n in 1..=services {
            let [a, b, c] = names::network(n, 0);
            for e in 1..=names::ENDPOINTS {
                let _ = writeln!(zone, "{}. A {a}.{b}.{c}.{e}", names::service(n));
            }
        }
        let dir = dir.display();
        let config = format!(
            "server:\n  listen: {}@{}\n  rundir: {dir}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             database:\n  storage: {dir}\nlog:\n  - target: {dir}/log\n    any: warning\n\
             zone:\n  - domain: {}\n    file: {dir}/zone\n    zonefile-load: whole\n    journal-content: none\n",
            address.ip(),
            address.port(),
            names::ZONE
        );
        std::fs::write(format!("{dir}/zone"), zone).expect("room for a zone");
        std::fs::write(format!("{dir}/knot.conf"), config).expect("room for a file");
        let mut command = Command::new(program);
        command
            .args(["-c", &format!("{dir}/knot.conf")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = bound(command).spawn().expect("knotd");
        let this = Self { child, input: None, said: None, address };
        this.wait_for(services);
        this
    }

    /// Has it change so many routes a second from now on; how many it has changed until now.
    pub fn changes(&mut self, per_s: u32) -> u64 {
        let (input, said) = (self.input.as_mut().expect("one of ours"), self.said.as_mut().expect("one of ours"));
        writeln!(input, "changes {per_s}").and_then(|()| input.flush()).expect("it runs");
        let mut line = String::new();
        said.read_line(&mut line).expect("it runs");
        line.trim().parse().expect("a cluster that goes on")
    }

    /// Asks until the answer is right.
    fn wait_for(&self, service: u32) {
        let (query, since) = (names::query(&names::service(service)), Instant::now());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(self.address).expect("an address");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let mut buffer = [0; 2048];
        loop {
            let got = socket.send(&query).and_then(|_| socket.recv(&mut buffer));
            if got.is_ok_and(|n| names::is_right(&query, service, &buffer[..n])) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "no right answer from {}", self.address);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this program says on the servers' core when called so.
pub fn output_of_ours(args: &[&str]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.args(args).stdin(Stdio::null()).stderr(Stdio::inherit());
    let out = bound(command).output().expect("a program that starts");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The command on the servers' core, dying with its parent.
fn bound(mut command: Command) -> Command {
    // SAFETY: between fork and exec only two system calls are made, which allocate nothing.
    unsafe {
        command.pre_exec(|| {
            host::pin(SERVER_CORE);
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
    command
}

/// Where Knot is, and which.
pub fn find_knot() -> Result<(PathBuf, String), String> {
    let dirs = std::env::var("PATH").unwrap_or_default();
    let mut all = dirs.split(':').chain(["/usr/sbin"]).map(|d| Path::new(d).join("knotd"));
    let program = all.find(|p| p.is_file()).ok_or("knotd is not there: scripts/setup.sh bench-dns installs it")?;
    let out = Command::new(&program).arg("--version").output().map_err(|e| e.to_string())?;
    Ok((program, String::from_utf8_lossy(&out.stdout).trim().to_owned()))
}
