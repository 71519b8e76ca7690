//! One health check of one run of an instance: it asks, judges the status, and looks up whose socket answered.
//!
//! Invariants: the status decides as soon as the head is there; an answer counts only when a process of the instance
//! gave it. The owner of the socket is looked up until the instance passes and then every [`OWNER_EVERY`] checks, as
//! each look reads /proc. Not here: when to check and what follows (`instance`), hysteresis (`probe`).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    runtime::{Answers, Runtime},
    tree::Tree,
};
use crate::{
    ask::{AskError, Way},
    model::{HealthCheck, InstanceId, StatusRule},
};

/// Checks of an instance that passes from one look at the socket's owner to the next.
pub const OWNER_EVERY: u32 = 10;

/// The check of one run.
#[derive(Debug)]
pub struct Check {
    instance: InstanceId,
    way: Way,
    at: SocketAddr,
    path: String,
    status: StatusRule,
    timeout: Duration,
    runtime: Arc<dyn Runtime>,
    process: Tree,
    said: AtomicBool,
    strange: AtomicBool,
}

impl Check {
    /// Prepares it for the process of a run.
    pub fn new(
        instance: InstanceId,
        check: &HealthCheck,
        at: SocketAddr,
        runtime: Arc<dyn Runtime>,
        process: Tree,
    ) -> Self {
        Self {
            instance,
            way: Way::of(check),
            at,
            path: check.http.clone(),
            status: check.status.clone(),
            timeout: Duration::from_millis(check.timeout.0),
            runtime,
            process,
            said: AtomicBool::new(false),
            strange: AtomicBool::new(false),
        }
    }

    /// Asks once; `owner`: looks whose socket it is, too. The error says what came back.
    pub async fn ask(&self, owner: bool) -> Result<(), String> {
        self.answer().await?;
        if owner { self.own().await } else { Ok(()) }
    }

    async fn answer(&self) -> Result<(), String> {
        let asked = tokio::time::timeout(self.timeout, self.way.get(self.at, &self.path, &[])).await;
        let answer = within(asked, self.timeout, &self.path)?;
        let (passes, said) = (self.status.takes(answer.status()), answer.said());
        answer.dismiss();
        if passes { Ok(()) } else { Err(format!("{} answered {said}", self.path)) }
    }

    /// Whether the newest look found another process. To find out which one costs a look at every process, so the check
    /// does not hurry to look again.
    pub fn is_strange(&self) -> bool {
        self.strange.load(Ordering::Relaxed)
    }

    async fn own(&self) -> Result<(), String> {
        let (runtime, process, at) = (Arc::clone(&self.runtime), self.process.clone(), self.at);
        let look = tokio::task::spawn_blocking(move || runtime.answers(&process, at)).await;
        let answers = look.unwrap_or_else(|e| Answers::Unknown(e.to_string()));
        self.strange.store(matches!(answers, Answers::Other(_)), Ordering::Relaxed);
        match answers {
            Answers::Own => Ok(()),
            Answers::Other(holder) => Err(format!("{at} is answered by {holder}, which is not this instance's")),
            Answers::Nobody => Err(format!("{at} answers, but nothing on this machine listens there")),
            Answers::Gone => Err("its process has ended".into()),
            Answers::Unknown(why) => {
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(instance = %self.instance, "cannot see whose socket {at} is, so any answer counts: {why}");
                }
                Ok(())
            }
        }
    }
}

/// Gets a page for a scrape; the error says what happened instead.
pub async fn page(way: &Way, at: SocketAddr, path: &str, timeout: Duration) -> Result<Vec<u8>, String> {
    let ask = async {
        let answer = way.get(at, path, &[]).await?;
        if !answer.is_page() {
            return Ok(Err(format!("{path} answered {}", answer.said())));
        }
        answer.page().await.map(Ok)
    };
    within(tokio::time::timeout(timeout, ask).await, timeout, path)?
}

fn within<T>(
    asked: Result<Result<T, AskError>, tokio::time::error::Elapsed>,
    timeout: Duration,
    path: &str,
) -> Result<T, String> {
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(format!("{path} {e}")),
        Err(_) => Err(format!("{path} did not answer within {} ms", timeout.as_millis())),
    }
}
