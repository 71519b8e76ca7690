//! An agent that is nobody special, in a part of the tree of cgroups that was given to it: what `Delegate=yes` and
//! `User=` of systemd make.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    ID,
    descendants::{HELPERS, cgroup, cgroups, shop, stops, with},
    worker::{PROGRAM, Package, Worker, free_port, until},
};
use crate::helpers::skip::skip;

const NAME: &str = "an_unprivileged_agent_keeps_instances_in_cgroups_below_the_one_it_was_given";
/// Nobody.
const UID: u32 = 65534;

/// A cgroup below this process's own that belongs to somebody else, as long as this lives.
struct Given(PathBuf);

impl Given {
    fn make() -> Result<Self, String> {
        let why = |e: std::io::Error| e.to_string();
        let read = |path: &str| fs::read_to_string(path).map_err(why);
        let (own, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
        let own = own.lines().find_map(|l| l.strip_prefix("0::/")).ok_or("no cgroups of version 2")?;
        let mount = mounts.lines().find(|l| l.contains(" - cgroup2 ")).ok_or("no cgroups of version 2")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        if fields[3] != "/" {
            return Err(format!("only {} of the tree of cgroups is mounted", fields[3]));
        }
        let given = Self(Path::new(fields[4]).join(own).join(format!("slipway-test-{}", std::process::id())));
        fs::create_dir(&given.0).map_err(why)?;
        for part in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            std::os::unix::fs::chown(given.0.join(part), Some(UID), Some(UID)).map_err(why)?;
        }
        if !given.0.join("cgroup.kill").exists() {
            return Err("cgroups have no cgroup.kill, which is there since Linux 5.14".into());
        }
        Ok(given)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // After its last process.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if !std::thread::panicking() {
            panic!("{} cannot be removed", self.0.display());
        }
    }
}

/// The agent's command: joins the cgroup while it still may, then becomes nobody. The program lies where nobody can
/// read it.
fn command(dir: &Path, given: &Path) -> Vec<String> {
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.join("slipwayd");
    fs::copy(PROGRAM, &program).unwrap();
    fs::create_dir(dir.join("data")).unwrap();
    std::os::unix::fs::chown(dir.join("data"), Some(UID), Some(UID)).unwrap();
    let script = format!(
        "echo $$ > '{}/cgroup.procs' && exec setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs '{}' \"$@\"",
        given.display(),
        program.display()
    );
    ["sh", "-c", &script, "sh"].map(String::from).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_agent_keeps_instances_in_cgroups_below_the_one_it_was_given() {
    let given = match Given::make() {
        Ok(given) => given,
        Err(why) => return skip(NAME, &why),
    };
    let mut w = Worker::start_as("", |dir| command(dir, &given.0)).await;
    let script = format!("env -i setsid sleep 1004 & {HELPERS} exec bin/real \"$@\"");
    let (package, port) = (Package::shop_under("1.0.0", &script), free_port());
    w.offer(&[&package]);
    w.desire(vec![with(&stops("grace: 1s"), 1, &[&package], vec![package.entry(ID, port)])]);
    w.instance_is(ID, "running", "passing").await;
    assert_eq!(w.node.shared.hellos.lock().unwrap().last().unwrap().keeping, "cgroup");
    let home = cgroups(&w).unwrap();
    assert_eq!(home.parent().unwrap(), given.0);
    let place = home.join(format!("production.shop.{ID}"));
    let inside = || -> Vec<u32> {
        let text = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
        text.lines().map(|l| l.parse().unwrap()).collect()
    };
    // The program, four helpers and one that bears no mark.
    until("all of it", || (inside().len() == 6).then_some(())).await;
    let all = inside();
    let nobody = |pid: &u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == UID);
    assert!(all.iter().all(nobody), "{all:?}");

    // A program that crashes takes all of it along, and what comes anew has a cgroup again.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(shop(&w, ID).unwrap().try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("one restart", || w.instance(ID).filter(|i| i.restarts == 1 && i.health == "passing")).await;
    until("all of it anew", || (inside().len() == 6).then_some(())).await;
    assert!(inside().iter().all(|pid| !all.contains(pid)), "{:?} after {all:?}", inside());
    assert!(cgroup(shop(&w, ID).unwrap()).unwrap().ends_with(&format!("production.shop.{ID}")));

    let all = inside();
    w.desire(vec![with(&stops("grace: 1s"), 2, &[&package], vec![])]);
    w.instance_is(ID, "gone", "unknown").await;
    assert!(!home.exists() && all.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    w.kill();
}
