//! Time without writes after `kill -9` of the leader: sixteen clients write, each attempt is cut at 150 ms, and whoever
//! fails goes on at the next node. What is told of a kill is the longest gap between two successful writes of anybody.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Options, etcd,
    load::{System, Writer, connection},
    report::Report,
    slipway,
    stats::median,
};

const CLIENTS: usize = 16;
const ATTEMPT: Duration = Duration::from_millis(150);
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// What can be killed.
pub trait Mortal: System {
    fn kill(&mut self, place: usize);
    fn restart(&mut self, place: usize);
}

impl Mortal for slipway::Cluster {
    fn kill(&mut self, place: usize) {
        self.kill(place);
    }
    fn restart(&mut self, place: usize) {
        self.restart(place);
    }
}

impl Mortal for etcd::Cluster {
    fn kill(&mut self, place: usize) {
        self.kill(place);
    }
    fn restart(&mut self, place: usize) {
        self.restart(place);
    }
}

/// Both settings. `etcd_dir`: where a second etcd cluster may live, if there is etcd.
pub async fn run(
    options: &Options,
    mut ours: Option<slipway::Cluster>,
    theirs: Option<etcd::Cluster>,
    etcd_dir: Option<&Path>,
    report: &mut Report,
) {
    println!(
        "# failover: {CLIENTS} clients, attempts cut at {ATTEMPT:?}, {} kills of the leader each, in turns; default settings: Slipway \
         heartbeat 50 ms, a follower waits 600 to 800 ms, etcd 100 ms and 1,000 to 2,000 ms",
        options.kills
    );
    let mut theirs = theirs;
    let gaps = both(options, ours.as_mut(), theirs.as_mut()).await;
    report.failover("failover_default", &gaps);
    drop(theirs);
    println!(
        "# failover at equal longest waits: Slipway as above, etcd --heartbeat-interval {} --election-timeout {}: 400 to 800 ms",
        etcd::EQUAL.heartbeat,
        etcd::EQUAL.election
    );
    let mut theirs = match etcd_dir {
        Some(dir) => Some(etcd::Cluster::start(&dir.join("etcd-equal"), &etcd::EQUAL).await),
        None => return,
    };
    let gaps = both(options, ours.as_mut(), theirs.as_mut()).await;
    report.failover("failover_equal", &gaps);
}

async fn both(
    options: &Options,
    mut ours: Option<&mut slipway::Cluster>,
    mut theirs: Option<&mut etcd::Cluster>,
) -> [Vec<f64>; 2] {
    let mut gaps: [Vec<f64>; 2] = Default::default();
    for _ in 0..options.kills {
        if let Some(ours) = ours.as_deref_mut() {
            gaps[0].push(once(ours).await);
        }
        if let Some(theirs) = theirs.as_deref_mut() {
            gaps[1].push(once(theirs).await);
        }
    }
    for (name, gaps) in ["slipway", "etcd"].iter().zip(&gaps) {
        if !gaps.is_empty() {
            let shown: Vec<String> = gaps.iter().map(|g| format!("{g:.2}")).collect();
            println!("# {name:7} without writes, seconds: median {:.2}; {}", median(gaps), shown.join(" "));
        }
    }
    gaps
}

/// One kill: seconds without a write.
async fn once<S: Mortal>(system: &mut S) -> f64 {
    let leader = system.leader().await;
    let addresses = system.addresses();
    let ended = Arc::new(AtomicBool::new(false));
    let done = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut writers: Vec<S::Writer> = addresses.iter().map(|a| system.writer(connection(a))).collect();
            let (ended, done) = (ended.clone(), done.clone());
            tokio::spawn(async move {
                let mut at = leader;
                while !ended.load(Ordering::Relaxed) {
                    match tokio::time::timeout(ATTEMPT, writers[at].write()).await {
                        Ok(Ok(())) => done.lock().expect("nobody panics").push(Instant::now()),
                        Ok(Err(_)) => {
                            at = (at + 1) % writers.len();
                            tokio::time::sleep(PAUSE).await;
                        }
                        Err(_) => at = (at + 1) % writers.len(),
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(BEFORE).await;
    let killed = Instant::now();
    system.kill(leader);
    let mut back = None;
    while killed.elapsed() < LIMIT && back.is_none_or(|b: Instant| b.elapsed() < AFTER) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if back.is_none() {
            // Answers that were under way may still arrive for a moment.
            let late = killed + Duration::from_millis(100);
            back = done.lock().expect("nobody panics").last().copied().filter(|at| *at > late);
        }
    }
    ended.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("a client that ends");
    }
    let mut done = std::mem::take(&mut *done.lock().expect("nobody panics"));
    done.sort_unstable();
    // From the last write before the kill on; answers that were still under way count.
    let before = done.iter().rposition(|at| *at <= killed).map_or(killed, |place| done[place]);
    let points: Vec<Instant> = std::iter::once(before).chain(done.into_iter().filter(|at| *at > killed)).collect();
    let gap = points.windows(2).map(|two| two[1] - two[0]).max().map_or(LIMIT.as_secs_f64(), |g| g.as_secs_f64());
    system.restart(leader);
    system.leader().await;
    tokio::time::sleep(BEFORE).await;
    gap
}
