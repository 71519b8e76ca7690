//! A network of its own for one test: a bridge, and a network namespace for each host on it. Links can be cut in one
//! direction.
//!
//! The addresses are those for tests of networks (RFC 2544). Everything is removed when it goes.

use std::{collections::BTreeSet, fs::File, net::Ipv4Addr, process::Command, sync::Arc};

use super::block::Block;

/// Runs a program; what it complains about is the error.
pub fn sh(program: &str, args: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim()))
    }
}

fn ip(args: &str) -> Result<(), String> {
    sh("ip", &args.split(' ').collect::<Vec<_>>()).map(drop)
}

pub struct Net {
    b: u8,
    hosts: u8,
    filtered: bool,
    abandoned: bool,
    /// As long as this is held nobody else has such a network, and nobody sweeps it.
    _number: Arc<File>,
}

/// Numbers of the networks that are on this machine.
pub fn left_behind() -> BTreeSet<u8> {
    let names = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    let spaces =
        names("/run/netns").into_iter().filter_map(|n| n.strip_prefix("slipway-")?.split('-').next()?.parse().ok());
    let bridges = names("/sys/class/net").into_iter().filter_map(|n| n.strip_prefix("slwb")?.parse().ok());
    spaces.chain(bridges).collect()
}

/// Removes all of a network.
pub fn remove(b: u8) {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    // With a namespace its link goes, at both ends.
    for name in names.iter().filter(|n| n.starts_with(&format!("slipway-{b}-"))) {
        let _ = ip(&format!("netns del {name}"));
    }
    // Held by a process that is about to end, a namespace may live on for a moment.
    let links = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let links: Vec<String> = links.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    for link in links.iter().filter(|l| l.starts_with(&format!("slw{b}o")) || **l == format!("slwb{b}")) {
        let _ = ip(&format!("link del {link}"));
    }
}

impl Net {
    /// With hosts 1 to `hosts`; 254 is this side.
    pub fn make(block: &Block, hosts: u8) -> Result<Self, String> {
        let (b, number) = block.number();
        let net = Self { b, hosts, filtered: false, abandoned: false, _number: number };
        remove(b);
        let bridge = format!("slwb{b}");
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", net.address(254)))?;
        ip(&format!("link set {bridge} up"))?;
        for n in 1..=hosts {
            let (ns, outside, inside) = (net.namespace(n), format!("slw{b}o{n}"), format!("slw{b}i{n}"));
            ip(&format!("netns add {ns}"))?;
            ip(&format!("link add {outside} type veth peer name {inside}"))?;
            ip(&format!("link set {outside} master {bridge} up"))?;
            ip(&format!("link set {inside} netns {ns}"))?;
            ip(&format!("-n {ns} addr add {}/24 dev {inside}", net.address(n)))?;
            ip(&format!("-n {ns} link set {inside} up"))?;
            ip(&format!("-n {ns} link set lo up"))?;
        }
        Ok(net)
    }

    pub fn address(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.b, n)
    }

    fn namespace(&self, n: u8) -> String {
        format!("slipway-{}-{n}", self.b)
    }

    /// What goes in front of a command that runs at host `n`. `ip netns exec` would also copy all mounts, and so keep
    /// them busy.
    pub fn within(&self, n: u8) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.namespace(n))]
    }

    /// Links are cut by filters from now on; without this by routes.
    pub fn filter(&mut self) -> Result<(), String> {
        for n in 1..=self.hosts {
            self.nft(n, "add table inet chaos")?;
            self.nft(n, "add chain inet chaos in { type filter hook input priority 0 ; }")?;
        }
        self.filtered = true;
        Ok(())
    }

    fn nft(&self, n: u8, rule: &str) -> Result<(), String> {
        let mut args = vec!["netns".to_string(), "exec".into(), self.namespace(n), "nft".into()];
        args.extend(rule.split(' ').map(String::from));
        sh("ip", &args.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    /// What `from` sends to `to` does not arrive any more.
    pub fn cut(&self, from: u8, to: u8) {
        let done = if self.filtered {
            self.nft(to, &format!("add rule inet chaos in ip saddr {} drop", self.address(from)))
        } else {
            ip(&format!("-n {} route add blackhole {}/32", self.namespace(from), self.address(to)))
        };
        done.unwrap();
    }

    /// It arrives again.
    pub fn mend(&self, from: u8, to: u8) {
        let done = if self.filtered {
            // Everything that is cut on the way to it: one fault is on at a time.
            self.nft(to, "flush chain inet chaos in")
        } else {
            ip(&format!("-n {} route del blackhole {}/32", self.namespace(from), self.address(to)))
        };
        done.unwrap();
    }

    /// Goes without removing anything.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if !self.abandoned {
            remove(self.b);
        }
    }
}
