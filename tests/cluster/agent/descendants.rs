//! An instance is its whole tree: whatever it starts ends with it, whoever of program, shim and agent dies first; and a
//! stop asks everyone before it kills. Each way to keep a tree together has its turn: a cgroup, and a shim that is a
//! subreaper.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};
use slipway::wire::v1;

use super::{
    ID,
    worker::{Package, Worker, assignment, free_port, spec_of, until},
};
use crate::helpers::{procs::signal, skip::skip};

const BY_SUBREAPER: &str = "cgroups = false\n";

/// A helper in a session of its own that has lost its parent, with all of what it could inherit: descriptors, standard
/// output.
pub const HELPERS: &str = "setsid sleep 1000 & (setsid sh -c 'sleep 1001 & exec sleep 1002' &) ; sleep 1003 &";

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// A process's parent.
fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether a process has not ended; its parent may not have noticed yet.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The shop of an instance.
pub fn shop(w: &Worker, id: &str) -> Option<u32> {
    w.pids(id).into_iter().find(|pid| name(*pid) == "real")
}

/// The processes of an instance that are no shop.
fn helpers(w: &Worker, id: &str) -> Vec<u32> {
    w.pids(id).into_iter().filter(|pid| name(*pid) == "sleep").collect()
}

/// What a spec says of stopping.
pub fn stops(stop: &str) -> v1::SpecDoc {
    spec_of(&format!(
        "service: shop\nenvironment: production\nports: {{http: 80}}\nhealth: {{http: /healthz, interval: 100ms}}\n\
         run: {{command: [\"bin/shop\", \"--listen\", \"${{SLIPWAY_ADDR_HTTP}}\"], stop: {{{stop}}}}}\n"
    ))
}

pub fn with(spec: &v1::SpecDoc, generation: u64, packages: &[&Package], entries: Vec<v1::Entry>) -> v1::Assignment {
    v1::Assignment { specs: vec![spec.clone()], ..assignment(generation, "activate", packages, entries) }
}

/// The cgroup that a process is in.
pub fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|l| l.strip_prefix("0::")).map(str::to_owned)
}

/// The directory of an agent's cgroups, if it has one.
pub fn cgroups(w: &Worker) -> Option<PathBuf> {
    let log = fs::read_to_string(w.dir.path().join("agent.log")).unwrap();
    let (_, after) = log.split_once("a cgroup of its own below ")?;
    Some(Path::new(after.split_whitespace().next()?).to_path_buf())
}

/// A worker with a shop that has helpers, and what the machine says of it.
async fn with_helpers(config: &str, script: &str) -> (Worker, Package, u16) {
    let mut w = Worker::start_with(config).await;
    let (package, port) = (Package::shop_under("1.0.0", script), free_port());
    w.offer(&[&package]);
    w.desire(vec![with(&stops("grace: 1s"), 1, &[&package], vec![package.entry(ID, port)])]);
    w.instance_is(ID, "running", "passing").await;
    until("its helpers", || (helpers(&w, ID).len() == 4).then_some(())).await;
    (w, package, port)
}

fn script() -> String {
    format!("{HELPERS} exec bin/real \"$@\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn helpers_of_a_crashed_program_end_with_it_and_do_not_stop_the_restart() {
    let (mut w, package, _) = with_helpers(BY_SUBREAPER, &script()).await;
    assert_eq!(w.node.shared.hellos.lock().unwrap().last().unwrap().keeping, "subreaper: cgroups = false");
    let first = w.pids(ID);
    kill(shop(&w, ID).unwrap());
    until("one restart", || w.instance(ID).filter(|i| i.restarts == 1 && i.health == "passing")).await;
    until("all anew", || (w.pids(ID).len() == 5).then_some(())).await;
    assert!(w.pids(ID).iter().all(|pid| !first.contains(pid)), "none of the first run is left");
    w.desire(vec![assignment(2, "activate", &[&package], vec![])]);
    w.instance_is(ID, "gone", "unknown").await;
    assert!(w.pids(ID).is_empty(), "none of the second either");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_shim_agent_or_both_none_is_doubled_and_none_left_behind() {
    for config in [BY_SUBREAPER, ""] {
        let (mut w, package, _) = with_helpers(config, &script()).await;
        if config.is_empty() && cgroups(&w).is_none() {
            skip(
                "killed_shim_agent_or_both_none_is_doubled_and_none_left_behind",
                "in cgroups: this test may not make any",
            );
            continue;
        }
        let main = shop(&w, ID).unwrap();
        // The shim alone: what runs goes on.
        kill(parent(main));
        until("no shim", || (parent(main) == 1 || name(parent(main)) != "slipwayd").then_some(())).await;
        assert_eq!(w.instance(ID).unwrap().health, "passing");
        // Shim and agent: it is adopted.
        w.kill();
        w.restart();
        let report = w.instance_is(ID, "running", "passing").await;
        assert_eq!((shop(&w, ID), report.restarts), (Some(main), 0));
        // The program after its shim: what it left is ended before the next run.
        let before = w.pids(ID);
        kill(main);
        until("one restart", || w.instance(ID).filter(|i| i.restarts == 1 && i.health == "passing")).await;
        until("all anew", || (w.pids(ID).len() == 5).then_some(())).await;
        assert!(w.pids(ID).iter().all(|pid| !before.contains(pid)), "strays of the killed shim are ended");
        // Agent, shim and program at once.
        let (main, before) = (shop(&w, ID).unwrap(), w.pids(ID));
        w.kill();
        kill(parent(main));
        kill(main);
        w.restart();
        until("another restart", || w.instance(ID).filter(|i| i.restarts == 2 && i.health == "passing")).await;
        until("all anew again", || (w.pids(ID).len() == 5).then_some(())).await;
        assert!(w.pids(ID).iter().all(|pid| !before.contains(pid)));
        // A stop without a shim.
        kill(parent(shop(&w, ID).unwrap()));
        w.desire(vec![assignment(2, "activate", &[&package], vec![])]);
        w.instance_is(ID, "gone", "unknown").await;
        assert!(w.pids(ID).is_empty());
    }
}

/// The shims of a worker.
fn shims(w: &Worker) -> Vec<u32> {
    let data = w.data("").display().to_string();
    let of_ours = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = words.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        words.get(1).is_some_and(|w| w == "shim") && words.get(2).is_some_and(|w| w.starts_with(&data))
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(of_ours).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_killed_at_any_moment_of_a_start_leaves_one_instance_or_none() {
    for n in 0..6 {
        let mut w = Worker::start_with(BY_SUBREAPER).await;
        let (package, port) = (Package::shop_under("1.0.0", &script()), free_port());
        w.offer(&[&package]);
        w.desire(vec![with(&stops("grace: 1s"), 1, &[&package], vec![package.entry(ID, port)])]);
        let shim = until("its shim", || shims(&w).first().copied()).await;
        // Not a wait for something: the moment of the kill is what varies.
        tokio::time::sleep(std::time::Duration::from_millis(3 * n)).await;
        signal(i32::try_from(shim).unwrap(), Signal::KILL);
        // Before its identity was kept the run begins anew; between that and the first word it has failed; after that
        // it runs on.
        let end = || w.instance(ID).filter(|i| i.health == "passing" || i.life == "failed");
        let end = until("its end or its health", end).await;
        if end.life == "failed" {
            assert!(end.exit.contains("its shim was killed") && w.pids(ID).is_empty(), "{}", end.exit);
        } else {
            until("all of it", || (w.pids(ID).len() == 5).then_some(())).await;
            assert_eq!(w.pids(ID).into_iter().filter(|pid| name(*pid) == "real").count(), 1, "none doubled");
        }
        w.desire(vec![assignment(2, "activate", &[&package], vec![])]);
        until("nothing is left", || (w.pids(ID).is_empty() && shims(&w).is_empty()).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_has_a_cgroup_of_its_own_and_nothing_of_it_stays() {
    let (mut w, package, _) = with_helpers("", &script()).await;
    let Some(home) = cgroups(&w) else {
        skip("an_instance_has_a_cgroup_of_its_own_and_nothing_of_it_stays", "this test may not make cgroups");
        return;
    };
    assert_eq!(w.node.shared.hellos.lock().unwrap().last().unwrap().keeping, "cgroup");
    let place = format!("production.shop.{ID}");
    for pid in w.pids(ID) {
        assert!(cgroup(pid).unwrap().ends_with(&place), "{pid}");
    }
    assert!(home.join(&place).is_dir());
    // Neither a cleared environment nor a session of its own leads out.
    let shim = parent(shop(&w, ID).unwrap());
    assert!(!cgroup(shim).unwrap().ends_with(&place));
    w.desire(vec![assignment(2, "activate", &[&package], vec![])]);
    w.instance_is(ID, "gone", "unknown").await;
    assert!(w.pids(ID).is_empty() && !home.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cgroup_what_hides_from_its_killed_shim_is_ended_all_the_same() {
    let pid_file = tempfile::NamedTempFile::new().unwrap();
    let hide = format!("env -i setsid sh -c 'sleep 1004 & echo $! > {}; wait' &", pid_file.path().display());
    let (w, _, _) = with_helpers("", &format!("{hide} {}", script())).await;
    if cgroups(&w).is_none() {
        skip("in_a_cgroup_what_hides_from_its_killed_shim_is_ended_all_the_same", "this test may not make cgroups");
        return;
    }
    let main = shop(&w, ID).unwrap();
    let hidden = || fs::read_to_string(pid_file.path()).ok()?.trim().parse::<u32>().ok();
    let hidden = until("the hidden one", hidden).await;
    kill(parent(main));
    kill(main);
    until("one restart", || w.instance(ID).filter(|i| i.restarts == 1 && i.health == "passing")).await;
    assert!(!lives(hidden), "{hidden} is ended too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_becomes_a_daemon_is_told_to_stay_in_the_foreground() {
    let mut w = Worker::start_with(BY_SUBREAPER).await;
    let (package, port) = (Package::shop_under("1.0.0", "setsid bin/real \"$@\" & exit 0"), free_port());
    w.offer(&[&package]);
    w.desire(vec![with(&stops("grace: 1s"), 1, &[&package], vec![package.entry(ID, port)])]);
    let failed = w.instance_is(ID, "failed", "unknown").await;
    assert!(failed.exit.contains("exited with status 0, and left processes behind (pid "), "{}", failed.exit);
    assert!(failed.exit.contains("must stay in the foreground"), "{}", failed.exit);
    assert!(w.pids(ID).is_empty(), "the daemon does not serve on");
}

/// A program under a shell that does not pass signals on, and that writes down how it ends.
fn under_a_shell(asked: &Path) -> String {
    let trap = format!("echo asked > {}; exit 0", asked.display());
    format!("sh -c 'trap \"{trap}\" TERM; bin/real \"$@\" & while :; do sleep 0.05; done' sh \"$@\"; true")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_asks_the_whole_group_and_grace_is_everyones() {
    // `main` stops the shell alone; the others are asked when it has ended.
    for (generation, to) in [(1, "group"), (2, "main")] {
        let mut w = Worker::start_with(BY_SUBREAPER).await;
        let asked = w.dir.path().join("asked");
        let (package, port) = (Package::shop_under("1.0.0", &under_a_shell(&asked)), free_port());
        w.offer(&[&package]);
        let spec = stops(&format!("to: {to}, grace: 20s"));
        w.desire(vec![with(&spec, generation, &[&package], vec![package.entry(ID, port)])]);
        w.instance_is(ID, "running", "passing").await;
        w.desire(vec![with(&spec, generation + 1, &[&package], vec![])]);
        w.instance_is(ID, "gone", "unknown").await;
        assert_eq!(fs::read_to_string(&asked).unwrap(), "asked\n", "to {to}");
        assert!(w.pids(ID).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_its_signal_is_killed_after_one_grace_for_all() {
    let mut w = Worker::start_with(BY_SUBREAPER).await;
    let script = "setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & exec bin/real \"$@\"";
    let (package, port) = (Package::shop_under("1.0.0", script), free_port());
    w.offer(&[&package]);
    let spec = stops("grace: 1s");
    w.desire(vec![with(&spec, 1, &[&package], vec![package.entry(ID, port)])]);
    w.instance_is(ID, "running", "passing").await;
    let main = shop(&w, ID).unwrap();
    w.desire(vec![with(&spec, 2, &[&package], vec![])]);
    until("the program's end", || (!Path::new(&format!("/proc/{main}")).exists()).then_some(())).await;
    // The agent dies in the grace: the shim sees to the rest.
    w.kill();
    until("the end of all", || w.pids(ID).is_empty().then_some(())).await;
    w.restart();
    let gone = w.instance_is(ID, "gone", "unknown").await;
    assert!(gone.exit.contains("status 0"), "{}", gone.exit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_its_groups_and_its_home() {
    let say = |program: &str, args: &[&str]| {
        String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap().trim().to_owned()
    };
    if say("id", &["-u"]) != "0" {
        skip("a_user_has_its_groups_and_its_home", "becoming another user takes root");
        return;
    }
    let mut w = Worker::start().await;
    // The release must be readable for others.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(w.dir.path(), mode).unwrap();
    let package = Package::script("1.0.0", "echo \"$HOME $USER $LOGNAME $(id -u) $(id -G)\" >&2; exit 3");
    w.offer(&[&package]);
    let text = "service: shop\nenvironment: production\nports: {http: 80}\nhealth: {http: /healthz, interval: 100ms}\n\
                run: {command: [\"bin/shop\"], user: games}\n";
    w.desire(vec![with(&spec_of(text), 1, &[&package], vec![package.entry(ID, free_port())])]);
    let failed = w.instance_is(ID, "failed", "unknown").await;
    let entry = say("getent", &["passwd", "games"]);
    let home = entry.split(':').nth(5).unwrap();
    let want = format!("{home} games games {} {}", say("id", &["-u", "games"]), say("id", &["-G", "games"]));
    assert!(failed.exit.contains(&want), "{} is not {want}", failed.exit);
}
