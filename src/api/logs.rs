//! Instances' logs: from the agent to whoever asked, over at most two hops between nodes.
//!
//! Invariants: nobody waits for an agent that does not answer for longer than [`FIRST`], and an answer that ends for
//! that reason says so; a reader that leaves ends the chain.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::{sync::mpsc, time::timeout};

use super::{Api, ApiError, Caller, Kind, Many};
use crate::{
    model::{DeploymentId, InstanceId, Life, WorkerName},
    wire::v1,
};

/// Longest wait for the first line, or for the end when nothing is followed.
const FIRST: Duration = Duration::from_secs(5);
const DEFAULT_LINES: u32 = 50;
const MAX_LINES: u32 = 10_000;
const MAX_INSTANCES: usize = 200;
const BUFFER: usize = 256;

type Chunks = Many<v1::LogChunk>;

impl Api {
    /// Hands an agent's lines to their reader.
    pub async fn push_logs<S>(&self, _: &Caller, mut lines: S) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<v1::LogChunk, ApiError>> + Unpin,
    {
        let nobody = || ApiError::new(Kind::Cancelled, "no_reader", "nobody reads these logs any more");
        let mut answers = self.sessions.answers();
        while let Some(chunk) = lines.next().await.transpose()? {
            let reader = answers.reader(chunk.request).ok_or_else(nobody)?;
            reader.send(chunk).await.map_err(|_| nobody())?;
        }
        Ok(())
    }

    /// Of all named instances, merged as they come.
    pub async fn logs(&self, _: &Caller, ask: v1::LogsRequest) -> Result<Chunks, ApiError> {
        let read = self.read_or_older().await?;
        let only: Option<InstanceId> = match ask.instance.as_str() {
            "" => None,
            text => Some(text.parse()?),
        };
        let of: Option<DeploymentId> = match ask.deployment.as_str() {
            "" if only.is_some() => None,
            text => Some(text.parse()?),
        };
        if let Some(d) = &of {
            super::catalog::known(&read.state, d)?;
        }
        let mut found: Vec<_> = read
            .state
            .instances
            .values()
            .filter(|i| of.as_ref().is_none_or(|d| d == &i.deployment))
            // A failed instance is what people read logs for.
            .filter(|i| only.map_or(i.life.is_live() || i.life == Life::Failed, |id| id == i.id))
            .map(|i| (i.id, i.worker.clone()))
            .collect();
        if found.is_empty() {
            let what = only.map_or_else(|| "no instance runs".to_string(), |i| format!("instance {i} does not exist"));
            return Err(ApiError::not_found(format!("{what}: `slipway deployment list` shows what does")));
        }
        let lines = if ask.lines == 0 { DEFAULT_LINES } else { ask.lines.min(MAX_LINES) };
        let (send, receive) = mpsc::channel(BUFFER);
        let left_out = found.len().saturating_sub(MAX_INSTANCES);
        if let (Some((id, worker)), true) = (found.get(MAX_INSTANCES), left_out > 0) {
            let why = format!("cut: this one and {} more are left out; ask for one with --instance", left_out - 1);
            // There is room: it is the first.
            let _ = send.send(Ok(complaint(*id, worker, &why))).await;
        }
        found.truncate(MAX_INSTANCES);
        for (id, worker) in found {
            let tail = v1::TailLogs { request: 0, instance: id.to_string(), lines, follow: ask.follow };
            let (api, send) = (self.clone(), send.clone());
            let copy = async move {
                let mut chunks = match api.tail(&worker, tail).await {
                    Ok(chunks) => chunks,
                    Err(e) => {
                        let _ = send.send(Ok(complaint(id, &worker, &e.text))).await;
                        return;
                    }
                };
                while let Some(chunk) = chunks.recv().await {
                    let chunk = chunk.or_else(|e| Ok(complaint(id, &worker, &e.text)));
                    if send.send(chunk).await.is_err() {
                        return;
                    }
                }
            };
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(copy));
        }
        Ok(receive)
    }

    /// Logs of one instance, from wherever its worker's session is.
    pub async fn tail(&self, worker: &WorkerName, ask: v1::TailLogs) -> Result<Chunks, ApiError> {
        if let Some(chunks) = self.sessions.tail(worker, ask.clone()).await {
            return Ok(self.bounded(chunks, worker.clone(), ask));
        }
        let consensus = self.consensus()?;
        let leadership = consensus.leader().borrow().clone();
        let to = if leadership.is_me {
            self.backend.holder(worker)
        } else {
            Some(leadership.leader.ok_or_else(ApiError::no_leader)?.id)
        };
        let nowhere = || {
            let text = format!("worker {worker} is not connected to any node: `slipway worker list`");
            ApiError::new(Kind::Unavailable, "not_connected", text)
        };
        let to = to.filter(|id| *id != consensus.node_id()).ok_or_else(nowhere)?;
        let mut lines =
            timeout(FIRST, self.remote.tail_logs(consensus, to, worker, ask)).await.map_err(|_| nowhere())??;
        let (send, receive) = mpsc::channel(BUFFER);
        let copy = async move {
            loop {
                let chunk = tokio::select! {
                    came = lines.next() => came,
                    () = send.closed() => return,
                };
                let Some(chunk) = chunk else { return };
                let last = chunk.is_err();
                if send.send(chunk).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(copy));
        Ok(receive)
    }

    /// Ends when the agent stays silent although nothing is followed, or never begins.
    fn bounded(&self, mut chunks: mpsc::Receiver<v1::LogChunk>, worker: WorkerName, ask: v1::TailLogs) -> Chunks {
        let follow = ask.follow;
        let (send, receive) = mpsc::channel(BUFFER);
        let copy = async move {
            let mut begun = false;
            loop {
                let came = if follow && begun {
                    tokio::select! {
                        came = chunks.recv() => came,
                        () = send.closed() => return,
                    }
                } else {
                    match timeout(FIRST, chunks.recv()).await {
                        Ok(came) => came,
                        // Nothing written yet is no error for one who follows.
                        Err(_) if follow => {
                            begun = true;
                            continue;
                        }
                        Err(_) => {
                            let what = if begun { "these may not be all lines" } else { "no logs" };
                            let line = format!("({what}: worker {worker} said nothing for {} s)", FIRST.as_secs());
                            let (instance, worker) = (ask.instance, worker.to_string());
                            let last = v1::LogChunk { request: 0, instance, worker, stream: "err".into(), line };
                            // A reader that has gone needs no reason.
                            let _ = send.send(Ok(last)).await;
                            return;
                        }
                    }
                };
                let Some(chunk) = came else { return };
                begun = true;
                if send.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(copy));
        receive
    }
}

/// A line that says why there are none.
fn complaint(id: InstanceId, worker: &WorkerName, why: &str) -> v1::LogChunk {
    v1::LogChunk {
        request: 0,
        instance: id.to_string(),
        worker: worker.to_string(),
        stream: "err".into(),
        line: format!("(no logs: {why})"),
    }
}
