//! `dig`, `kdig` and `drill`: every type, codes, truncation, letters as they were written.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    report::Row,
    resolvers::one_version,
    world::{SHOP, TTL, World, run, sizes, version},
};

/// One of them.
pub struct Tool {
    program: &'static str,
    /// How it asks for its version, and which word of the answer that is.
    version: (&'static [&'static str], usize),
    /// What stands before the code in what it prints.
    status: &'static str,
    /// Makes it ask without EDNS, or with room for so little.
    small: &'static [&'static str],
    /// It asks in the letters that it was given, and shows those of the answer.
    letters: bool,
    /// How it is made to ask over TCP, if it does not do that by itself when an answer was cut.
    over_tcp: Option<&'static str>,
}

pub const TOOLS: [Tool; 3] = [
    Tool {
        program: "dig",
        version: (&["-v"], 1),
        status: "status: ",
        small: &["+bufsize=512"],
        letters: true,
        over_tcp: None,
    },
    Tool {
        program: "kdig",
        version: (&["--version"], 4),
        status: "status: ",
        small: &["+bufsize=512"],
        letters: false,
        over_tcp: None,
    },
    Tool {
        program: "drill",
        version: (&["-v"], 2),
        status: "rcode: ",
        small: &["-b", "512"],
        letters: true,
        over_tcp: Some("-t"),
    },
];

/// What a tool printed of an answer.
#[derive(Debug)]
struct Said {
    code: String,
    /// Time to live and data of each record of the answer.
    answers: Vec<(u64, String)>,
    text: String,
}

impl Said {
    fn addresses(&self) -> Vec<IpAddr> {
        self.answers.iter().map(|(_, data)| data.parse().unwrap()).collect()
    }
}

impl Tool {
    fn ask(&self, world: &World, name: &str, kind: &str, more: &[&str]) -> Said {
        let server = format!("@{}", world.node(1));
        // drill wants its options first.
        let args = [more, &[name, &server, kind]].concat();
        let text = run(self.program, &args).unwrap_or_else(|e| panic!("{e}"));
        let code = text.split_once(self.status).map(|(_, rest)| rest.split([',', ';', ' ']).next().unwrap_or_default());
        let section = text.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
        let lines = section.lines().skip(1).take_while(|l| !l.trim().is_empty() && !l.starts_with(';'));
        let answers = lines.map(|l| {
            let fields: Vec<&str> = l.split_whitespace().collect();
            (fields[1].parse().unwrap_or_else(|_| panic!("{text}")), fields[4..].join(" "))
        });
        Said { code: code.unwrap_or_default().to_string(), answers: answers.collect(), text: text.clone() }
    }

    pub fn row(&self, world: &World) -> Row {
        let of = world.versions("shop");
        let mut orders = BTreeSet::new();
        let mut canary = 0;
        world.tap.take();
        for _ in 0..20 {
            // Both families of one client are one look-up, and agree.
            let (a, aaaa) = (self.ask(world, SHOP, "A", &[]), self.ask(world, SHOP, "AAAA", &[]));
            assert_eq!((a.code.as_str(), aaaa.code.as_str()), ("NOERROR", "NOERROR"), "{}", a.text);
            let all = [a.addresses(), aaaa.addresses()].concat();
            let version = one_version(self.program, &all, &of);
            assert_eq!((a.answers.len(), aaaa.answers.len()), sizes(&of, version), "{all:?}");
            canary += u32::from(version == "2.0.0");
            assert!(a.answers.iter().all(|(ttl, _)| *ttl == TTL), "{}", a.text);
            orders.insert(a.addresses());
        }
        assert!((4..=6).contains(&canary), "{}: {canary} of 20 by the canary", self.program);
        assert!(orders.len() >= 10, "{}: {} orders in 20 answers", self.program, orders.len());
        let sends = world.tap.take().options();

        let odd = SHOP.replace("shop.prod", "sHoP.PrOd");
        world.tap.take();
        let odd = self.ask(world, &odd, "A", &[]);
        let asked = world.tap.take().capitals();
        let shown = odd.text.contains("sHoP.PrOduction");
        assert_eq!((asked, shown, odd.answers.is_empty()), (self.letters, self.letters, false), "{}", odd.text);

        let srv = self.ask(world, &format!("_http._tcp.{SHOP}"), "SRV", &[]);
        assert!((4..=8).contains(&srv.answers.len()), "{}", srv.text);
        assert!(srv.answers.iter().all(|(_, data)| data.split(' ').nth(2) == Some("8080")), "{}", srv.text);

        let (missing, empty) = (self.ask(world, &format!("no.{SHOP}"), "A", &[]), self.ask(world, SHOP, "TXT", &[]));
        assert_eq!((missing.code.as_str(), missing.answers.len()), ("NXDOMAIN", 0), "{}", missing.text);
        assert_eq!((empty.code.as_str(), empty.answers.len()), ("NOERROR", 0), "{}", empty.text);

        world.tap.take();
        let name = format!("_http._tcp.mix.{SHOP}");
        let mut mix = self.ask(world, &name, "SRV", self.small);
        if let Some(flag) = self.over_tcp {
            assert!(mix.answers.is_empty() && mix.text.contains("truncated"), "{}", mix.text);
            mix = self.ask(world, &name, "SRV", &[flag]);
        }
        let seen = world.tap.take();
        assert_eq!(mix.answers.len(), of.len(), "{}", mix.text);
        assert!(seen.cut() && seen.connections() == 1, "{}: cut, and all over TCP: {seen:?}", self.program);
        let large = match self.over_tcp {
            None => "TC, then all over TCP".into(),
            Some(flag) => format!("TC, and says so; all over TCP with `{flag}`"),
        };
        Row {
            client: format!("{} {}", self.program, version(self.program, self.version.0, self.version.1)),
            shares: format!("{canary}, one"),
            nothing: "NXDOMAIN; NOERROR without records".into(),
            large,
            keeps: "no".into(),
            order: "as answered, always new".into(),
            sends: if self.letters { sends } else { format!("{sends}; all in lower case") },
        }
    }
}
