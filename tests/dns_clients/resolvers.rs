//! What programs look names up with: the resolvers of glibc, musl, Java and Go, each by a small program of ours that
//! prints what it got.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;

use crate::{
    report::Row,
    world::{SHOP, World, run, sh, sizes, source, version},
};

/// The one version that addresses stand for.
pub fn one_version<'v>(who: &str, addresses: &[IpAddr], of: &'v BTreeMap<IpAddr, String>) -> &'v str {
    let all: BTreeSet<&str> = addresses.iter().map(|a| of[a].as_str()).collect();
    assert_eq!(all.len(), 1, "{who}: one version in both families: {addresses:?}");
    all.into_iter().next().unwrap()
}

/// A resolver: the command in front of `NAME TIMES MILLISECONDS`, and what it is known to do; each is asserted.
pub struct Resolver {
    pub client: String,
    command: Vec<String>,
    /// What it calls a name that does not exist, and a name without addresses.
    nothing: [&'static str; 2],
    /// It keeps an answer although its time to live is over.
    keeps: bool,
    /// Look-ups of SRV records; its other arguments.
    srv: Option<Vec<String>>,
    /// A large answer makes it ask again over TCP.
    large: bool,
}

/// One line for each look-up.
type Lines = Vec<Result<Vec<IpAddr>, String>>;

impl Resolver {
    /// Builds the programs in `dir`.
    pub fn all(world: &World) -> Vec<Self> {
        let dir = world.lab.dir().join("programs");
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let gai = source("gai.c").display().to_string();
        sh("gcc", &["-O1", "-o", &at("glibc"), &gai]);
        sh("musl-gcc", &["-O1", "-static", "-o", &at("musl"), &gai]);
        sh("javac", &["-d", dir.to_str().unwrap(), source("Look.java").to_str().unwrap()]);
        let home = dir.display().to_string();
        let cache = format!("GOCACHE={home}/cache");
        let go = source("look.go").display().to_string();
        sh(
            "env",
            &[
                &cache,
                &format!("HOME={home}"),
                "GOFLAGS=-mod=mod",
                "GO111MODULE=off",
                "go",
                "build",
                "-o",
                &at("go"),
                &go,
            ],
        );
        let musl = run("sh", &["-c", "ld-musl-x86_64.so.1 2>&1 || /lib/ld-musl-$(uname -m).so.1 2>&1; true"]).unwrap();
        let musl = musl.lines().find_map(|l| l.strip_prefix("Version ")).unwrap_or("(static)").to_string();
        let java = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", &home, "Look"].map(String::from).to_vec();
        let go = ["env", "GODEBUG=netdns=go", &at("go")].map(String::from).to_vec();
        let (node, mix) = (world.node(1).to_string(), format!("_http._tcp.mix.{SHOP}"));
        let asks = |command: &[String], args: &[&str]| {
            Some(command.iter().cloned().chain(args.iter().map(ToString::to_string)).collect())
        };
        vec![
            Self {
                client: format!("glibc {}", version("ldd", &["--version"], 3).trim_matches(')')),
                command: vec![at("glibc")],
                nothing: ["Name or service not known", "No address associated with hostname"],
                keeps: false,
                srv: None,
                large: false,
            },
            Self {
                client: format!("musl {musl}"),
                command: vec![at("musl")],
                nothing: ["Name does not resolve"; 2],
                keeps: false,
                srv: None,
                large: false,
            },
            Self {
                client: format!("Java {}", version("java", &["--version"], 1)),
                srv: asks(&java, &["srv", &node, &mix]),
                command: java,
                nothing: ["Name or service not known", "No address associated with hostname"],
                keeps: true,
                large: true,
            },
            Self {
                client: format!("{} (netdns=go)", version("go", &["version"], 2).replace("go1", "Go 1")),
                srv: asks(&go, &["srv", &mix]),
                command: go,
                nothing: ["no such host", "no such host"],
                keeps: false,
                large: true,
            },
        ]
    }

    fn look(&self, name: &str, times: u32, pause: u32) -> Lines {
        let (times, pause) = (times.to_string(), pause.to_string());
        let mut args: Vec<&str> = self.command[1..].iter().map(String::as_str).collect();
        args.extend([name, times.as_str(), pause.as_str()]);
        let said = run(&self.command[0], &args).unwrap_or_else(|e| panic!("{e}"));
        let line = |l: &str| match l.split_once(' ') {
            Some(("ok", all)) => Ok(all.split(' ').map(|a| a.parse().unwrap()).collect()),
            _ => Err(l.trim_start_matches("err ").to_string()),
        };
        said.lines().map(line).collect()
    }

    /// Twenty look-ups that are not answered from what a process kept.
    fn twenty(&self) -> Lines {
        match self.keeps {
            false => self.look(SHOP, 20, 1),
            true => (0..20).flat_map(|_| self.look(SHOP, 1, 0)).collect(),
        }
    }

    pub fn row(&self, world: &World) -> Row {
        let who = self.client.as_str();
        world.resolve_by(&[world.node(1)]);
        let of = world.versions("shop");
        world.tap.take();
        let lines = self.twenty();
        let seen = world.tap.take();
        let mut canary = 0;
        for addresses in &lines {
            let addresses = addresses.as_ref().unwrap_or_else(|e| panic!("{who}: {e}"));
            let version = one_version(who, addresses, &of);
            let (four, six) = sizes(&of, version);
            assert_eq!(addresses.len(), four + six, "{who}: {addresses:?}");
            canary += u32::from(version == "2.0.0");
        }
        assert!(lines.len() == 20 && (4..=6).contains(&canary), "{who}: {canary} of {} by the canary", lines.len());
        assert_eq!(seen.kinds().len(), 40, "{who}: two questions a look-up: {:?}", seen.kinds());
        assert!(!seen.capitals(), "{who}: it mixes letters by itself");
        let order = self.order(world);

        let [missing, empty] = [format!("no.{SHOP}"), "svc.slipway.internal".into()].map(|n| self.look(&n, 1, 0));
        for (line, wanted) in [missing, empty].iter().zip(self.nothing) {
            let said = line[0].as_ref().expect_err("nothing to find");
            assert!(said.contains(wanted), "{who}: {said:?}, not {wanted:?}");
        }
        let odd = self.look(&SHOP.replace("shop.prod", "sHoP.PrOd"), 1, 0);
        one_version(who, odd[0].as_ref().unwrap_or_else(|e| panic!("{who}: {e}")), &of);

        Row {
            client: who.into(),
            shares: format!("{canary}, one"),
            nothing: if self.nothing[0] == self.nothing[1] {
                format!("both \"{}\"", self.nothing[0])
            } else {
                format!("\"{}\"; \"{}\"", self.nothing[0], self.nothing[1])
            },
            large: self.large(world),
            keeps: self.keep(world),
            order,
            sends: seen.options(),
        }
    }

    /// How the addresses that a program gets compare with those on the wire.
    fn order(&self, world: &World) -> String {
        let (mut same, mut six_first, mut firsts) = (0, 0, BTreeSet::new());
        for _ in 0..8 {
            world.tap.take();
            let got = self.look(SHOP, 1, 0).remove(0).unwrap();
            let seen = world.tap.take();
            let (six, four) = (seen.addresses(RecordType::AAAA), seen.addresses(RecordType::A));
            let family = |v6: bool| got.iter().filter(|a| a.is_ipv6() == v6).copied().collect::<Vec<_>>();
            same += u32::from(family(true) == six && family(false) == four);
            six_first += u32::from(got[0].is_ipv6());
            firsts.insert(family(false)[0]);
        }
        let within = match same {
            8 => "as answered",
            0 => "sorted anew",
            _ => "partly sorted anew",
        };
        assert!(firsts.len() > 1 || same == 0, "{}: always {firsts:?} first", self.client);
        let which = match six_first {
            8 => "IPv6 first",
            0 => "IPv4 first",
            _ => "families mixed",
        };
        format!("{which}, {within}")
    }

    /// Many records in one answer.
    fn large(&self, world: &World) -> String {
        let Some(srv) = &self.srv else { return "asks for addresses only: 8 fit".into() };
        world.tap.take();
        let args: Vec<&str> = srv[1..].iter().map(String::as_str).collect();
        let said = run(&srv[0], &args).unwrap_or_else(|e| panic!("{e}"));
        let seen = world.tap.take();
        assert_eq!(said.trim(), format!("ok {}", world.versions("shop").len()), "{}", self.client);
        assert_eq!(seen.cut() && seen.connections() == 1, self.large, "{}: {seen:?}", self.client);
        if self.large { "TC, then all over TCP".into() } else { "all over UDP".into() }
    }

    /// Whether a process asks again within the time to live, and after it.
    fn keep(&self, world: &World) -> String {
        world.tap.take();
        // Six seconds, which is three times the time to live.
        let lines = self.look(SHOP, 7, 1000);
        assert!(lines.iter().all(Result::is_ok), "{lines:?}");
        let asked = world.tap.take().kinds().len();
        match self.keeps {
            false => assert_eq!(asked, 14, "{}: asks each time", self.client),
            true => assert_eq!(asked, 2, "{}: asks once", self.client),
        }
        if self.keeps { "30 s by default, whatever the TTL (seen: 6 s with a TTL of 2 s)".into() } else { "no".into() }
    }

    /// With three servers: how many look-ups of 20 had two versions, and whom it asked.
    pub fn three_servers(&self, world: &World) -> (u32, BTreeSet<Ipv4Addr>) {
        world.resolve_by(&world.nodes());
        let of = world.versions("shop");
        world.tap.take();
        let lines = self.twenty();
        let seen = world.tap.take();
        let versions = |all: &[IpAddr]| all.iter().map(|a| of[a].as_str()).collect::<BTreeSet<_>>().len();
        let mixed =
            lines.iter().filter(|l| versions(l.as_ref().unwrap_or_else(|e| panic!("{}: {e}", self.client))) > 1);
        let asked = seen.0.iter().filter_map(|p| match p {
            crate::tap::Packet::Asked(at, ..) => Some(*at),
            crate::tap::Packet::Told(..) | crate::tap::Packet::Connected(_) => None,
        });
        (u32::try_from(mixed.count()).unwrap(), asked.collect())
    }

    /// With a first server that is not there, and a second one that is: how long a look-up takes.
    pub fn first_is_down(&self, world: &World) -> Duration {
        world.resolve_by(&[Ipv4Addr::new(127, 9, 9, 9), world.node(2)]);
        let begun = Instant::now();
        let found = self.look(SHOP, 1, 0).remove(0);
        one_version(&self.client, &found.unwrap_or_else(|e| panic!("{}: {e}", self.client)), &world.versions("shop"));
        begun.elapsed()
    }
}
