//! Changes of members while faults happen: nodes join, leave, are killed and replaced, again and again, each with a
//! directory of its own that is never used twice.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use slipway::{client::Client, wire::v1};

use super::load::{self, Shared};
use crate::lab::Daemon;

/// A step that is still refused after this time is a failure: no fault lasts as long.
const LIMIT: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(300);
/// One try to join: it waits for the log to be copied.
const TRY: Duration = Duration::from_secs(15);

/// A place where a node can run.
pub struct Place {
    /// Configuration of a node that is called `NAME`.
    pub config: String,
    pub within: Vec<String>,
    pub client: String,
}

/// What was done.
#[derive(Default)]
pub struct Changes {
    pub stop: AtomicBool,
    pub joined: AtomicU32,
    pub left: AtomicU32,
    pub replaced: AtomicU32,
}

struct Member {
    id: u64,
    daemon: Daemon,
}

pub struct Churn {
    pub shared: Arc<Shared>,
    pub changes: Arc<Changes>,
    pub dir: PathBuf,
    /// Two, so that a new node can take the place of one that still has its own.
    pub places: [Place; 2],
    /// Nodes that stay.
    pub stay: Arc<Vec<String>>,
    pub made: usize,
}

impl Churn {
    /// One joins; then it leaves, or is killed and replaced by the next. At the end all have left.
    pub fn run(mut self) {
        let runtime = load::runtime();
        while !self.changes.stop.load(Ordering::Relaxed) {
            let done = runtime.block_on(async {
                let mut member = self.join().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                while !self.made.is_multiple_of(3) && !self.changes.stop.load(Ordering::Relaxed) {
                    member = self.replace(member).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                self.leave(member).await
            });
            if let Err(why) = done {
                return self.shared.complain(why);
            }
        }
    }

    async fn join(&mut self) -> Result<Member, String> {
        self.made += 1;
        let name = format!("m{}", self.made);
        let place = &self.places[self.made % 2];
        let mut daemon = Daemon::new(&self.dir, &name, "node", &place.config.replace("NAME", &name), &place.within);
        daemon.flags = super::NEW.map(String::from).into();
        daemon.start();
        let only = std::slice::from_ref(&place.client);
        let seed = self.stay[self.made % self.stay.len()].clone();
        let client = load::client(only, 0);
        let reply = self
            .until(&format!("{name} joins"), || async {
                let ask = client.join(v1::JoinRequest { seed: seed.clone() });
                tokio::time::timeout(TRY, ask).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
            })
            .await
            .map_err(|why| format!("{why}\n{}", daemon.tail()))?;
        self.changes.joined.fetch_add(1, Ordering::Relaxed);
        Ok(Member { id: reply.node_id, daemon })
    }

    /// It leaves, ends by itself and says why.
    async fn leave(&self, mut member: Member) -> Result<(), String> {
        self.remove(member.id).await.map_err(|why| format!("{why}\n{}", member.daemon.tail()))?;
        let name = member.daemon.name.clone();
        let until = Instant::now() + LIMIT;
        while member.daemon.ended().is_none() {
            if Instant::now() > until {
                return Err(format!("{name} was removed and still runs:\n{}", member.daemon.tail()));
            }
            tokio::time::sleep(AGAIN).await;
        }
        let said = member.daemon.tail();
        if !said.contains("cannot come back") {
            return Err(format!("{name} was removed and ended without saying so:\n{said}"));
        }
        self.changes.left.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// It is killed, another one joins, and then the dead one is removed.
    async fn replace(&mut self, mut member: Member) -> Result<Member, String> {
        member.daemon.kill();
        let new = self.join().await?;
        self.remove(member.id).await?;
        self.changes.replaced.fetch_add(1, Ordering::Relaxed);
        Ok(new)
    }

    async fn remove(&self, node: u64) -> Result<(), String> {
        let client: Client = load::client(&self.stay, self.made);
        self.until(&format!("node {node} begins to leave"), || async {
            client.leave(v1::LeaveRequest { node, lose_packages: false }).await.map_err(|e| e.to_string())
        })
        .await?;
        self.until(&format!("node {node} is removed"), || async {
            let status = client.status().await.map_err(|e| e.to_string())?;
            match status.nodes.iter().find(|n| n.node_id == node) {
                Some(row) if row.role == "removed" => Ok(()),
                row => Err(format!("{row:?}")),
            }
        })
        .await
    }

    /// Tries again until it succeeds: faults stand in the way of any of this for a while.
    async fn until<T, F: Future<Output = Result<T, String>>>(
        &self,
        what: &str,
        mut step: impl FnMut() -> F,
    ) -> Result<T, String> {
        let until = Instant::now() + LIMIT;
        loop {
            match step().await {
                Ok(done) => return Ok(done),
                Err(why) if Instant::now() > until => return Err(format!("not within {LIMIT:?}: {what}: {why}")),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}
