//! `slipway demo`: a real cluster on loopback plays every strategy in front of the user, with a killed leader in the
//! middle.
//!
//! Everything it does goes through the programs a user has (`slipwayd`, `slipway`); everything it concludes comes from
//! the probe's records and the nodes' metrics. Not here: the probe itself, which users want too (`probe`).

mod cluster;
mod judge;
mod layout;
mod metrics;
mod processes;
mod report;
mod script;
mod ui;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cluster::Cluster;
use layout::Layout;
use report::Report;
use script::Play;
use ui::Ui;

use crate::{
    clock::Clock,
    probe::{Probe, ProbeConfig},
};

/// What `slipway demo` is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Play it all and stop.
    Play,
    /// Bring the cluster up with its service and leave it running.
    Up,
    /// Stop every cluster that `Up` left running.
    Down,
}

/// Runs the demo; the exit status is 0 only if every expectation held.
pub async fn run(action: Action, clock: Clock) -> u8 {
    let ui = Ui::new();
    let done = match action {
        Action::Play => play(ui, clock).await,
        Action::Up => up(ui, clock).await.map(|()| true),
        Action::Down => down(&ui).await.map(|()| true),
    };
    match done {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(e) => {
            Ui::new().say(&format!("demo: {e}"));
            1
        }
    }
}

fn base() -> PathBuf {
    crate::config::temporary_dir()
}

/// Runs `work`, and whatever comes of it (an error, ctrl-c), stops everything of the demo.
async fn play(ui: Ui, clock: Clock) -> io::Result<bool> {
    let layout = Layout::claim(&base())?;
    let dir = layout.dir.clone();
    let mut report = Report::default();
    let outcome = tokio::select! {
        outcome = acts(layout, ui, clock, &mut report) => outcome,
        _ = tokio::signal::ctrl_c() => Err(io::Error::other("interrupted")),
    };
    let ui = Ui::new();
    if let Err(e) = &outcome {
        report.complaints.push(e.to_string());
        ui.say(&format!("!! {e}"));
    }
    let stubborn = processes::stop_all(&dir).await;
    if !stubborn.is_empty() {
        report.complaints.push(format!("processes did not stop when asked: {}", stubborn.join("; ")));
    }
    report.ok = report.complaints.is_empty() && report.failed_requests == 0;
    ui.heading("8. What was seen");
    ui.say(&report.table());
    for complaint in &report.complaints {
        ui.say(&format!("!! {complaint}"));
    }
    if report.ok {
        forget(&dir);
    } else {
        ui.say(&format!("logs are in {}", dir.display()));
    }
    ui.say(&report.json());
    Ok(report.ok)
}

async fn acts(layout: Layout, ui: Ui, clock: Clock, report: &mut Report) -> io::Result<()> {
    let mut cluster = Cluster::up(layout, ui, clock.clone()).await?;
    let mut play = Play { cluster: &mut cluster, report: Report::default() };
    let done = scenes(&mut play, &clock).await;
    if let Some(probe) = &play.cluster.probe {
        probe.stop().await;
    }
    play.report.failed_requests = play.failed_requests();
    *report = play.report;
    done
}

async fn scenes(play: &mut Play<'_>, clock: &Clock) -> io::Result<()> {
    play.first().await?;
    play.cluster.ui.heading("3. 500 clients ask DNS and the service, 200 requests a second");
    let config = ProbeConfig::new("shop.production.svc.slipway.internal", play.cluster.dns_servers(), 8080);
    play.cluster.probe = Some(Probe::start(config, clock.clone()).map_err(io::Error::other)?);
    play.cluster.sleep(3_000).await;
    play.canary().await?;
    play.blue_green().await?;
    play.failing().await?;
    play.past_half().await
}

/// Brings the cluster and its service up and leaves them running.
async fn up(ui: Ui, clock: Clock) -> io::Result<()> {
    let layout = Layout::claim(&base())?;
    let dir = layout.dir.clone();
    let clients = layout.clients();
    let dns = layout.dns(1);
    let mut cluster = Cluster::up(layout, ui, clock).await?;
    let mut play = Play { cluster: &mut cluster, report: Report::default() };
    play.first().await?;
    fs::write(dir.join("up"), "")?;
    let ui = Ui::new();
    ui.say("\nThe cluster stays up; `make demo-down` stops it. To use it:");
    ui.say(&format!("  export SLIPWAY_NODES={clients}"));
    ui.say("  slipway rollout start production/shop --to 2.0.0 --watch");
    ui.say(&format!("  dig @{} -p {} shop.production.svc.slipway.internal", dns.ip(), dns.port()));
    Ok(())
}

/// Stops every cluster that was left running.
async fn down(ui: &Ui) -> io::Result<()> {
    let mut stopped = 0;
    for entry in fs::read_dir(base())?.flatten() {
        let dir = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with("slipway-demo-");
        if ours && dir.join("up").exists() {
            for line in processes::stop_all(&dir).await {
                ui.say(&format!("had to be killed: {line}"));
            }
            forget(&dir);
            stopped += 1;
            ui.say(&format!("stopped the demo in {}", dir.display()));
        }
    }
    if stopped == 0 {
        ui.say("no demo is up");
    }
    Ok(())
}

/// Removes a demo's directory; what cannot be removed is only left in the directory for temporary files.
fn forget(dir: &Path) {
    let _ = layout::make_writable(dir);
    let _ = fs::remove_dir_all(dir);
}
