//! The play: eight acts on a running cluster. Each records its row and its complaints; none reads State.

use std::io;

use super::{
    cluster::Cluster,
    judge::{Held, weights_held},
    report::{Phase, Report},
};
use crate::probe::{FailedRequest, FailureKind, starved};

/// Cached answers live so long after a weight changed.
const TTL_MS: u64 = 5_000;
/// Shares are judged over at least so long.
const WINDOW_MS: u64 = 10_000;
/// Largest difference between weight and share, percentage points.
const SHARE_LIMIT: f64 = 3.0;
/// The version that fails on purpose.
pub const CULPRIT: &str = "4.0.0";

/// Whether the culprit failed the request by its own answer.
fn own_error(f: &FailedRequest) -> bool {
    f.kind == FailureKind::Status && f.version.as_deref() == Some(CULPRIT)
}

/// What an act needs and leaves.
pub struct Play<'a> {
    /// The cluster and its instruments.
    pub cluster: &'a mut Cluster,
    /// What was found so far.
    pub report: Report,
}

impl Play<'_> {
    /// Requests of a window's whole seconds, and a version's share of the answers, percent.
    fn share(&self, version: &str, from: u64, to: u64) -> (u64, f64) {
        let seen = self.cluster.seen(from, to.saturating_sub(999));
        (seen.requests, seen.share_percent(version).unwrap_or(0.0))
    }

    fn complain(&mut self, what: String) {
        self.cluster.ui.say(&format!("!! {what}"));
        self.report.complaints.push(what);
    }

    /// A row over a window, with the probe's counts.
    fn row(&self, name: &str, from: u64, to: u64) -> Phase {
        let seen = self.cluster.seen(from, to);
        Phase {
            name: name.to_string(),
            seconds: to.saturating_sub(from) as f64 / 1000.0,
            requests: seen.requests,
            failed: seen.failed_but_by(CULPRIT),
            own_errors: seen.versions.get(CULPRIT).map_or(0, |c| c.failed),
            ..Phase::default()
        }
    }

    /// Requests failed for any reason but the culprit's own errors.
    pub fn failed_requests(&mut self) -> u64 {
        let seen = self.cluster.seen(0, u64::MAX);
        let others = self.cluster.failures(0).into_iter().filter(|f| !own_error(f));
        for f in others.take(10) {
            let version = f.version.as_deref().unwrap_or("no answer");
            let address = f.address.map(|a| a.to_string()).unwrap_or_default();
            self.cluster
                .ui
                .say(&format!("!! failed at {}: {version} {address} {:?}: {}", f.at_wall_ms, f.kind, f.detail));
        }
        self.report.probe_late_max_ms = seen.late_ms;
        if let Some(why) = starved(&seen) {
            self.cluster.ui.say(&format!("!! {why}"));
        }
        seen.failed_but_by(CULPRIT) + seen.not_sent
    }

    /// Runs a command of the CLI in front of the user; its output is shown as it stands. An unexpected exit is a
    /// complaint.
    async fn slipway(&mut self, args: &[&str], expected: i32) -> io::Result<String> {
        let out = self.cluster.slipway(args).await?;
        if out.code != expected {
            self.complain(format!("slipway {} ended with {} instead of {expected}", args.join(" "), out.code));
        }
        Ok(out.text)
    }

    /// Act 2: direct.
    pub async fn first(&mut self) -> io::Result<()> {
        self.cluster.ui.heading("2. The service: spec, release, first rollout (direct)");
        let from = self.cluster.now();
        let spec = self.cluster.layout.write("shop.yaml", include_str!("../../cluster/demo/shop.yaml"))?;
        self.slipway(&["apply", "-f", &spec.display().to_string()], 0).await?;
        for version in ["1.0.0", "2.0.0", "3.0.0", CULPRIT] {
            let dir = self.cluster.package(version).await?;
            self.slipway(&["release", "push", "shop", version, &dir], 0).await?;
        }
        let start = ["rollout", "start", "production/shop", "--to", "1.0.0", "--bake", "2s", "--watch"];
        self.slipway(&start, 0).await?;
        let row = self.row("direct 1.0.0", from, self.cluster.now());
        self.report.phases.push(row);
        Ok(())
    }

    /// Act 4: canary, with the death of the leader in its 25 % step.
    pub async fn canary(&mut self) -> io::Result<()> {
        self.cluster.ui.heading("4. Canary to 2.0.0 by 10, 25, 50, 100 %; the leader dies in the middle of 25 %");
        let from = self.cluster.now();
        let watch = self.cluster.spawn_slipway(&["rollout", "start", "production/shop", "--to", "2.0.0", "--watch"]);
        let at_25 = self.cluster.wait_weight("2.0.0", 2500, from, 60).await?;
        self.cluster.sleep(7_500).await;
        let killed = self.cluster.kill_leader().await?;
        self.report.leader_kill_to_progress_ms = Some(killed.to_progress_ms);
        self.cluster.sleep(2_000).await;
        let caught_up = self.cluster.restart(killed.node).await?;
        self.cluster.ui.say(&format!("   n{} is back and has caught up after {caught_up} ms", killed.node));
        let out = watch.await.map_err(io::Error::other)??;
        if out.code != 0 {
            self.complain(format!("the canary ended with {} instead of 0", out.code));
        }
        let to = self.cluster.now();
        self.judge_canary(from, to, killed.to_progress_ms, at_25);
        Ok(())
    }

    fn judge_canary(&mut self, from: u64, to: u64, leaderless_ms: u64, at_25: u64) {
        let readings = self.cluster.readings.since(from);
        let held: Vec<Held> = weights_held(&readings, "2.0.0").into_iter().filter(|h| h.weight > 0).collect();
        let sequence: Vec<u32> = held.iter().map(|h| h.weight).collect();
        if sequence != [1000, 2500, 5000, 10_000] {
            self.complain(format!("weights of 2.0.0 were {sequence:?}, not each step once"));
        }
        let length = |w: u32| held.iter().find(|h| h.weight == w).map_or(0, |h| h.to.saturating_sub(h.from));
        // A step's weight holds for its bake and the next step's installation; 50 % is like 25 % without a death in it.
        let (with, without) = (length(2500), length(5000));
        let allowed = without + leaderless_ms + 1_000 + 4_000;
        if with + 500 < 15_000 || with > allowed {
            self.complain(format!("the 25 % step held {with} ms: not from 15,000 to {allowed}"));
        }
        let mut worst: f64 = 0.0;
        for h in &held {
            let wanted = f64::from(h.weight) / 100.0;
            let (window_from, window_to) = (h.from + TTL_MS, h.to.min(h.from + 30_000));
            if window_to < window_from + WINDOW_MS {
                self.complain(format!("the {wanted} % step was too short to judge: {} ms", h.to - h.from));
                continue;
            }
            let (requests, got) = self.share("2.0.0", window_from, window_to);
            worst = worst.max((got - wanted).abs());
            if (got - wanted).abs() > SHARE_LIMIT || requests < 500 {
                self.complain(format!("{wanted} %: clients saw {got:.1} % of {requests} requests"));
            }
            let mut row = self.row(&format!("canary {wanted} %"), h.from, h.to);
            row.share_wanted = Some(wanted);
            row.share_seen = Some((got * 10.0).round() / 10.0);
            row.kill_to_progress_ms =
                (h.from <= at_25 + 200 && at_25 <= h.to && h.weight == 2500).then_some(leaderless_ms);
            self.cluster.ui.say(&format!("   {wanted:>5} %  clients saw {got:.1} % of {requests} requests"));
            self.report.phases.push(row);
        }
        self.report.share_error_max_pp = Some((worst * 100.0).round() / 100.0);
        let row = self.row("canary 2.0.0, whole", from, to);
        self.report.phases.push(row);
    }

    /// Act 5: blue-green, back, and forward again.
    pub async fn blue_green(&mut self) -> io::Result<()> {
        self.cluster.ui.heading("5. Blue-green to 3.0.0; rollback by one command; forward again");
        let start = ["rollout", "start", "production/shop", "--to", "3.0.0", "--strategy", "blue-green", "--watch"];
        let from = self.cluster.now();
        self.slipway(&start, 0).await?;
        self.served_by("3.0.0").await;
        let row = self.row("blue-green 3.0.0", from, self.cluster.now());
        self.report.phases.push(row);

        let from = self.cluster.now();
        let back = self.cluster.spawn_slipway(&["rollout", "rollback", "production/shop", "--watch"]);
        let traffic = self.cluster.wait_weight("2.0.0", 10_000, from, 20).await?.saturating_sub(from);
        let out = back.await.map_err(io::Error::other)??;
        if out.code != 0 {
            self.complain(format!("the rollback ended with {} instead of 0", out.code));
        }
        self.served_by("2.0.0").await;
        self.report.rollback_ms = Some(traffic);
        if traffic > 10_000 {
            self.complain(format!("the rollback took {traffic} ms, more than 10 s"));
        }
        let mut row = self.row("rollback to 2.0.0", from, self.cluster.now());
        row.traffic_back_ms = Some(traffic);
        row.capacity_back_ms = self.capacity_back("2.0.0", from);
        self.report.phases.push(row);

        let from = self.cluster.now();
        self.slipway(&start, 0).await?;
        self.served_by("3.0.0").await;
        let row = self.row("forward to 3.0.0", from, self.cluster.now());
        self.report.phases.push(row);
        Ok(())
    }

    /// Act 6: rolling to the version that fails.
    pub async fn failing(&mut self) -> io::Result<()> {
        self.cluster.ui.heading("6. Rolling to 4.0.0, which answers 30 % of requests with errors");
        let from = self.cluster.now();
        let start = ["rollout", "start", "production/shop", "--to", CULPRIT, "--strategy", "rolling", "--watch"];
        self.slipway(&start, 3).await?;
        let readings = self.cluster.readings.since(from);
        let had = readings.iter().find(|r| r.weight(CULPRIT).is_some_and(|w| w > 0)).map(|r| r.at);
        let first_error = self.cluster.failures(from).iter().find(|f| own_error(f)).map(|f| f.at_wall_ms);
        let back =
            had.and_then(|had| readings.iter().find(|r| r.at > had && r.weight("3.0.0") == Some(10_000)).map(|r| r.at));
        let (Some(back), Some(first_error)) = (back, first_error) else {
            self.complain("4.0.0 never had traffic that failed, or traffic never came back".into());
            return Ok(());
        };
        self.served_by("3.0.0").await;
        let mut row = self.row("rolling 4.0.0, rolled back", from, self.cluster.now());
        row.traffic_back_ms = Some(back.saturating_sub(first_error));
        row.capacity_back_ms = self.capacity_back("3.0.0", first_error);
        if row.own_errors == 0 {
            self.complain("4.0.0 had no errors of its own: nothing was shown".into());
        }
        self.report.phases.push(row);
        Ok(())
    }

    /// Act 7: the rollback of what was replaced in place, after more than half of it.
    pub async fn past_half(&mut self) -> io::Result<()> {
        self.cluster
            .ui
            .heading("7. Rolling to 2.0.0 in place, three at a time; rolled back when six of eight are replaced");
        let from = self.cluster.now();
        let start = ["rollout", "start", "production/shop", "--to", "2.0.0", "--strategy", "rolling"];
        let in_place = ["--max-surge", "0", "--max-unavailable", "3", "--parallelism", "3"];
        self.slipway(&[&start[..], &in_place[..]].concat(), 0).await?;
        let past = self.cluster.wait_weight("2.0.0", 7_500, from, 60).await?;
        let back = self.cluster.spawn_slipway(&["rollout", "rollback", "production/shop", "--watch"]);
        let traffic = self.cluster.wait_weight("3.0.0", 10_000, past, 90).await?.saturating_sub(past);
        let out = back.await.map_err(io::Error::other)??;
        if out.code != 0 {
            self.complain(format!("the rollback ended with {} instead of 0", out.code));
        }
        self.served_by("3.0.0").await;
        let mut row = self.row("rolling 2.0.0, back past half", from, self.cluster.now());
        row.traffic_back_ms = Some(traffic);
        row.capacity_back_ms = self.capacity_back("3.0.0", past);
        self.report.phases.push(row);
        Ok(())
    }

    /// Milliseconds from a moment to the last reading before which fewer than eight instances of a version served.
    fn capacity_back(&self, version: &str, from: u64) -> Option<u64> {
        let readings = self.cluster.readings.since(from);
        let full = |r: &&super::metrics::Reading| r.serving(version).is_none_or(|n| n >= 8);
        let first_full_for_good = readings.iter().rev().take_while(full).last()?;
        Some(first_full_for_good.at.saturating_sub(from))
    }

    /// After caches have let go, every answer must come from the version.
    async fn served_by(&mut self, version: &str) {
        self.cluster.sleep(TTL_MS + 1_500).await;
        let from = self.cluster.now();
        self.cluster.sleep(2_500).await;
        let (requests, got) = self.share(version, from, self.cluster.now());
        if requests < 50 || got < 100.0 {
            self.complain(format!(
                "{version} should answer everything by now, and answers {got:.1} % of {requests} requests"
            ));
        }
    }
}
