//! systemd-resolved between the clients and the nodes: the file of `cluster/forwarders/`, with the nodes' addresses put
//! in.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;

use crate::{
    lab::eventually,
    report::Row,
    resolvers::one_version,
    world::{SHOP, TTL, World, run, sh, sizes},
};

const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// The daemon; ends with this.
pub struct Resolved(Child);

impl Drop for Resolved {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Resolved {
    /// Runs the program from an unpacked package: installing that would put its own file in the place of
    /// `/etc/resolv.conf`.
    pub fn start(world: &World, unpacked: &Path) -> Self {
        let dir = world.lab.dir();
        let file = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/forwarders/systemd-resolved.conf"),
        )
        .unwrap();
        let nodes = world.nodes().map(|n| format!("{n}:53"));
        let shipped = "DNS=127.0.0.1:8653 127.0.0.2:8653 127.0.0.3:8653";
        assert!(file.contains(shipped), "{file}");
        let file = file.replace(shipped, &format!("DNS={}", nodes.join(" ")));
        // It keeps nothing from servers on loopback, unless told to: here they stand for servers elsewhere.
        let file = file + "CacheFromLocalhost=yes\n";
        // Everything that it looks for at a fixed place lies under mounts of this namespace.
        for place in ["/run/systemd", "/etc/systemd"] {
            std::fs::create_dir_all(place).unwrap();
            sh("mount", &["-t", "tmpfs", "tmpfs", place]);
        }
        for place in ["/run/systemd/resolve", "/run/systemd/netif", "/etc/systemd/resolved.conf.d"] {
            std::fs::create_dir_all(place).unwrap();
        }
        std::fs::write("/etc/systemd/resolved.conf.d/slipway.conf", file).unwrap();
        for (name, line) in [
            ("passwd", "systemd-resolve:x:65530:65530::/:/usr/sbin/nologin\n"),
            ("group", "systemd-resolve:x:65530:\n"),
        ] {
            let (ours, theirs) = (dir.join(name), format!("/etc/{name}"));
            std::fs::write(&ours, std::fs::read_to_string(&theirs).unwrap() + line).unwrap();
            sh("mount", &["--bind", ours.to_str().unwrap(), &theirs]);
        }
        sh("chown", &["-R", "65530:65530", "/run/systemd/resolve"]);
        // Without an address that leads anywhere it asks nobody.
        sh("ip", &["link", "add", "out0", "type", "veth", "peer", "name", "out1"]);
        sh("ip", &["addr", "add", "192.0.2.1/24", "dev", "out0"]);
        sh("ip", &["link", "set", "out0", "up"]);
        sh("ip", &["link", "set", "out1", "up"]);
        let log = std::fs::File::create(dir.join("resolved.log")).unwrap();
        let child = Command::new(unpacked.join("lib/systemd/systemd-resolved"))
            .env("SYSTEMD_LOG_LEVEL", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let resolved = Self(child);
        eventually("systemd-resolved answers", Duration::from_secs(20), || {
            let said = ask(SHOP, "A", &[])?;
            let log = || std::fs::read_to_string(dir.join("resolved.log")).unwrap_or_default();
            if said.contains("status: NOERROR") { Ok(()) } else { Err(said + &log()) }
        });
        resolved
    }

    pub fn row(&self, world: &World, version: &str) -> Row {
        let of = world.versions("shop");
        let rest = Duration::from_secs(TTL) + Duration::from_millis(1200);
        // Within its time an answer comes from the cache, with less time left; after it the nodes are asked again.
        std::thread::sleep(rest);
        world.tap.take();
        let (mut canary, mut asked) = (0, 0);
        for _ in 0..20 {
            let begun = Instant::now();
            let first = addresses(&ask(SHOP, "A", &[]).unwrap());
            let version = one_version("systemd-resolved", &first, &of);
            assert_eq!(first.len(), sizes(&of, version).0);
            canary += u32::from(version == "2.0.0");
            let again = addresses(&ask(SHOP, "A", &[]).unwrap());
            if begun.elapsed() < Duration::from_secs(1) {
                assert_eq!(sorted(&first), sorted(&again), "from the cache");
            }
            asked += world.tap.take().at(&world.nodes()).kinds().len();
            std::thread::sleep(rest.saturating_sub(begun.elapsed()));
        }
        assert!(
            (20..=24).contains(&asked),
            "40 questions, half of them within the time to live: the nodes got {asked}"
        );
        assert!((3..=7).contains(&canary), "{canary} of 20 by the canary");

        let (missing, empty) =
            (ask(&format!("no.{SHOP}"), "A", &[]).unwrap(), ask("svc.slipway.internal", "A", &[]).unwrap());
        assert!(missing.contains("status: NXDOMAIN"), "{missing}");
        assert!(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0"), "{empty}");
        world.tap.take();
        let mix = ask(&format!("_http._tcp.mix.{SHOP}"), "SRV", &[]).unwrap();
        let seen = world.tap.take().at(&world.nodes());
        assert!(mix.contains(&format!("ANSWER: {}", of.len())), "{mix}");
        assert!(seen.cut() && seen.connections() >= 1, "{seen:?}");
        // What it sent, after it has found out what the servers can.
        std::thread::sleep(rest);
        world.tap.take();
        ask(SHOP, "A", &[]).unwrap();
        let seen = world.tap.take().at(&world.nodes());
        assert_eq!(seen.kinds(), [RecordType::A], "one question for one");
        Row {
            client: format!("systemd-resolved {version}, its stub asked by dig"),
            shares: format!("{canary}, one"),
            nothing: "NXDOMAIN; NOERROR without records".into(),
            large: "TC, then all over TCP".into(),
            keeps: "for the TTL; from servers on loopback only with `CacheFromLocalhost=yes`".into(),
            order: "as answered".into(),
            sends: seen.options(),
        }
    }
}

fn sorted(all: &[IpAddr]) -> Vec<IpAddr> {
    let mut all = all.to_vec();
    all.sort();
    all
}

fn ask(name: &str, kind: &str, more: &[&str]) -> Result<String, String> {
    let stub = format!("@{STUB}");
    run("dig", &[&["+tries=1", "+time=5", &stub, name, kind], more].concat())
}

fn addresses(said: &str) -> Vec<IpAddr> {
    let section = said.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
    let lines = section.lines().skip(1).take_while(|l| !l.trim().is_empty());
    lines.filter_map(|l| l.split_whitespace().last()?.parse().ok()).collect()
}
