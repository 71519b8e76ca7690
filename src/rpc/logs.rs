//! Instances' logs: from the agent to whoever asked, over at most two hops between nodes.
//!
//! Invariants: nobody waits for an agent that does not answer for longer than [`FIRST`], and an answer that ends for that reason says so; a
//! reader that leaves ends the chain.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming};

use super::{Shared, error};
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

/// What `tail` yields.
pub(super) type Chunks = mpsc::Receiver<Result<v1::LogChunk, Status>>;

impl Shared {
    /// `Workers.PushLogs`: hands an agent's lines to their reader.
    pub(super) async fn take_logs(&self, mut stream: Streaming<v1::LogChunk>) -> Result<(), Status> {
        let nobody = || error::status(Code::Cancelled, "no_reader", "nobody reads these logs any more");
        let mut answers = self.sessions.answers();
        while let Some(chunk) = stream.message().await? {
            let reader = answers.reader(chunk.request).ok_or_else(nobody)?;
            reader.send(chunk).await.map_err(|_| nobody())?;
        }
        Ok(())
    }

    /// `Workers.Logs`: all named instances, merged as they come.
    pub(super) async fn read_logs(&self, ask: v1::LogsRequest) -> Result<Chunks, Status> {
        let read = self.read_or_older().await?;
        let only: Option<InstanceId> = match ask.instance.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|e| error::invalid(&e))?),
        };
        let of: Option<DeploymentId> = match ask.deployment.as_str() {
            "" if only.is_some() => None,
            text => Some(text.parse().map_err(|e| error::invalid(&e))?),
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
            return Err(error::not_found(format!("{what}: `slipway deployment list` shows what does")));
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
            let (shared, send) = (self.clone(), send.clone());
            let copy = async move {
                let mut chunks = match shared.tail(&worker, tail).await {
                    Ok(chunks) => chunks,
                    Err(status) => {
                        let _ = send.send(Ok(complaint(id, &worker, status.message()))).await;
                        return;
                    }
                };
                while let Some(chunk) = chunks.recv().await {
                    let chunk = chunk.or_else(|s| Ok(complaint(id, &worker, s.message())));
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
    pub(super) async fn tail(&self, worker: &WorkerName, ask: v1::TailLogs) -> Result<Chunks, Status> {
        if let Some(chunks) = self.sessions.tail(worker, ask.clone()).await {
            return Ok(self.bounded(chunks, worker.clone(), ask));
        }
        let consensus = self.consensus()?;
        let leadership = consensus.leader().borrow().clone();
        let to = if leadership.is_me {
            self.backend.holder(worker)
        } else {
            Some(leadership.leader.ok_or_else(error::no_leader)?.id)
        };
        let nowhere = || {
            let text = format!("worker {worker} is not connected to any node: `slipway worker list`");
            error::status(Code::Unavailable, "not_connected", text)
        };
        let to = to.filter(|id| *id != consensus.node_id()).ok_or_else(nowhere)?;
        let mut client = consensus.peer_client(to).ok_or_else(nowhere)?;
        let header = Some(consensus.peer_header(to));
        let request = v1::PeerTailRequest { header, worker: worker.to_string(), tail: Some(ask) };
        let stream = timeout(FIRST, client.tail_logs(request)).await.map_err(|_| nowhere())??;
        let (send, receive) = mpsc::channel(BUFFER);
        let copy = async move {
            let mut stream = stream.into_inner();
            loop {
                let chunk = tokio::select! {
                    came = stream.message() => came.transpose(),
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
