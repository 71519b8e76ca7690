//! Layouts at random: workers, pools, capacity, deployments and their specs. A pool is as tight as a shape says: the
//! room that the instances need, and none, one or two addresses more, or twice as much.
//!
//! Not here: what happens to them (`story`).

use slipway::model::{DeploymentId, Spec, SpecFormat, read_spec};

use super::dice::Dice;

/// Room beyond what the desired instances need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    None,
    One,
    Two,
    Twice,
}

/// One deployment's layout.
#[derive(Clone, Debug)]
pub struct Laid {
    pub id: DeploymentId,
    pub host: bool,
    pub port: u16,
    pub per_worker: u32,
    pub metrics: bool,
    pub singleton: bool,
    /// Seconds.
    pub drain: u64,
    pub pin_ttl: u64,
    /// Milliseconds.
    pub lost_for_good: u64,
    /// Requests a second.
    pub rate: u64,
}

/// A whole layout.
#[derive(Clone, Debug)]
pub struct Shape {
    pub workers: u32,
    pub spare: Spare,
    pub tight_capacity: bool,
    pub deployments: Vec<Laid>,
    /// What each DNS server lags behind by: entries, and at most so many milliseconds.
    pub lags: Vec<(u64, u64)>,
}

impl Shape {
    pub fn draw(dice: &mut Dice) -> Self {
        let host = dice.percent(25);
        let two = dice.percent(25);
        let ids: &[&str] = match (two, dice.percent(50)) {
            (false, true) => &["production/shop"],
            (false, false) => &["staging/shop"],
            (true, true) => &["production/shop", "production/cart"],
            (true, false) => &["production/shop", "staging/shop"],
        };
        let per_worker = if host { 1 } else { dice.within(1, if two { 2 } else { 4 }) as u32 };
        let laid = |(n, id): (usize, &&str), dice: &mut Dice| Laid {
            id: id.parse().expect("an id"),
            host,
            port: 8080 + n as u16,
            per_worker: if n == 0 { per_worker } else { dice.within(1, u64::from(per_worker)) as u32 },
            metrics: dice.percent(60),
            singleton: dice.percent(12),
            drain: dice.within(0, 5),
            pin_ttl: *dice.one(&[1, 5, 30]),
            lost_for_good: *dice.one(&[30, 45, 60, 120, 300, 600]) * 1000,
            rate: if dice.percent(15) { 0 } else { *dice.one(&[20, 100, 400]) },
        };
        let deployments = ids.iter().enumerate().map(|x| laid(x, dice)).collect();
        let lag =
            |dice: &mut Dice| if dice.percent(60) { (0, 0) } else { (dice.within(1, 40), dice.within(100, 4000)) };
        Self {
            workers: dice.within(1, 6) as u32,
            spare: *dice.one(&[Spare::None, Spare::One, Spare::One, Spare::Two, Spare::Twice, Spare::Twice]),
            tight_capacity: dice.percent(30),
            deployments,
            lags: (0..3).map(|_| lag(dice)).collect(),
        }
    }

    /// Instances of all deployments that a worker is to run.
    pub fn per_worker(&self) -> u32 {
        self.deployments.iter().map(|d| d.per_worker).sum()
    }

    /// Addresses of each worker's pool.
    pub fn pool(&self) -> u32 {
        let need = self.per_worker();
        match self.spare {
            Spare::None => need,
            Spare::One => need + 1,
            Spare::Two => need + 2,
            Spare::Twice => need * 2,
        }
    }

    /// Processes that a worker takes.
    pub fn capacity(&self) -> u32 {
        if self.tight_capacity { self.pool() } else { 40 }
    }

    /// What a person reads at the head of a story.
    pub fn told(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} workers, pools of {} (spare {:?}), capacity {}, servers lag {:?}",
            self.workers,
            self.pool(),
            self.spare,
            self.capacity(),
            self.lags
        )];
        lines.extend(self.deployments.iter().map(|d| {
            format!(
                "{}: {} per worker, {}, {}{}drain {} s, pin ttl {} s, lost for good after {} s, {} requests a second",
                d.id,
                d.per_worker,
                if d.host { "host" } else { "pool" },
                if d.metrics { "metrics, " } else { "" },
                if d.singleton { "singleton, " } else { "" },
                d.drain,
                d.pin_ttl,
                d.lost_for_good / 1000,
                d.rate
            )
        }));
        lines
    }
}

impl Laid {
    pub fn spec(&self) -> Spec {
        let text = format!(
            "
service: {}
environment: {}
run: {{command: [bin/shop]}}
address: {}
ports: {{http: {}}}
placement: {{per_worker: {}}}
health: {{http: /healthz, start_within: 10s}}
{}
drain: {}s
lost_for_good: {}ms
singleton: {}
dns: {{pin_ttl: {}s}}
",
            self.id.service,
            self.id.environment,
            if self.host { "host" } else { "pool" },
            self.port,
            self.per_worker,
            if self.metrics { "metrics: {requests: r, errors: e}" } else { "" },
            self.drain,
            self.lost_for_good,
            self.singleton,
            self.pin_ttl,
        );
        read_spec(&text, SpecFormat::Yaml).expect("a spec")
    }
}
