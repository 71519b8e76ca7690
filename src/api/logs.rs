//! Instances' logs: from the agent to whoever asked, over at most two hops between nodes.
//!
//! Invariants: nobody waits for an agent that does not answer for longer than [`Limits`], and no instance for another;
//! each instance's answer has an end, which says why there is no line or not all; a reader that leaves ends the chain.
//! Not here: which instances are meant (`select`), what an end says of an instance (`ends`).

mod ends;
mod select;

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::{sync::mpsc, time::timeout};

use self::ends::End;
use super::{Api, ApiError, Caller, Kind, Many};
use crate::{
    model::{LogFound, WorkerName},
    state::Instance,
    wire::v1::{self, logs_item::Body},
};

/// How long agents may be silent.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Before the first word, which an agent says before it looks for anything.
    answer: Duration,
    /// Between words, until all that was there has come: others may be asked for as much.
    silence: Duration,
}

const LIMITS: Limits = Limits { answer: Duration::from_secs(3), silence: Duration::from_secs(5) };
const DEFAULT_LINES: u32 = 50;
const MAX_LINES: u32 = 10_000;
const MAX_INSTANCES: usize = 200;
const BUFFER: usize = 256;

type Items = mpsc::Sender<Result<v1::LogsItem, ApiError>>;

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
            reader.send(Ok(chunk)).await.map_err(|_| nobody())?;
        }
        Ok(())
    }

    /// Of all that are meant, merged as they come, after a list of them.
    pub async fn logs(&self, _: &Caller, ask: v1::LogsRequest) -> Result<Many<v1::LogsItem>, ApiError> {
        let read = self.read_or_older().await?;
        let mut found = select::instances(&read.state, &ask)?;
        let left_out = found.len().saturating_sub(MAX_INSTANCES);
        found.truncate(MAX_INSTANCES);
        let (send, receive) = mpsc::channel(BUFFER);
        let source = |i: &&Instance| v1::LogSource {
            instance: i.id.to_string(),
            worker: i.worker.to_string(),
            version: i.pair.version.to_string(),
        };
        let items = found.iter().map(source).collect();
        let sources = v1::LogSources { items, left_out: u32::try_from(left_out).unwrap_or(u32::MAX) };
        // There is room: it is the first.
        let _ = send.send(Ok(item(Body::Sources(sources)))).await;
        let lines = match ask.lines {
            Some(lines) => lines.min(MAX_LINES),
            None if ask.since_ms > 0 => MAX_LINES,
            None => DEFAULT_LINES,
        };
        for instance in found {
            let tail = v1::TailLogs {
                request: 0,
                instance: instance.id.to_string(),
                lines,
                // Nothing is added to the log of what has ended.
                follow: ask.follow && instance.life.is_live(),
                since_ms: ask.since_ms,
            };
            let (api, worker, send) = (self.clone(), instance.worker.clone(), send.clone());
            let end = End::of(instance, &tail);
            let copy = async move {
                let follow = tail.follow;
                pass_on(&end, follow, LIMITS, api.tail(&worker, tail), &send).await;
            };
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(copy));
        }
        Ok(receive)
    }

    /// Logs of one instance, from wherever its worker's session is.
    pub async fn tail(&self, worker: &WorkerName, ask: v1::TailLogs) -> Result<Many<v1::LogChunk>, ApiError> {
        if let Some(chunks) = self.sessions.tail(worker, ask.clone()).await {
            return Ok(chunks);
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
        let mut lines = self.remote.tail_logs(consensus, to, worker, ask).await?;
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
}

fn item(body: Body) -> v1::LogsItem {
    v1::LogsItem { body: Some(body) }
}

/// Copies one instance's answer to the reader of all, with its end.
async fn pass_on(
    end: &End,
    follow: bool,
    limits: Limits,
    asking: impl Future<Output = Result<Many<v1::LogChunk>, ApiError>>,
    send: &Items,
) {
    if let Err(end) = copied(end, follow, limits, asking, send).await {
        // A reader that has gone needs no reason.
        let _ = send.send(Ok(item(Body::End(end)))).await;
    }
}

/// Copies what an agent says, to the end that it says itself; another end is the error.
async fn copied(
    end: &End,
    follow: bool,
    limits: Limits,
    asking: impl Future<Output = Result<Many<v1::LogChunk>, ApiError>>,
    send: &Items,
) -> Result<(), v1::LogEnd> {
    let first = async {
        let mut chunks = asking.await?;
        let first = chunks.recv().await.transpose()?;
        Ok((chunks, first))
    };
    let first: Result<_, ApiError> = timeout(limits.answer, first).await.map_err(|_| end.silent(limits.answer))?;
    let (mut chunks, mut came) = first.map_err(|e| end.broken(false, &e.text))?;
    let (mut ended, mut some) = (false, false);
    while let Some(chunk) = came {
        let body = match chunk.found.parse() {
            Ok(LogFound::Heard) => None,
            Ok(found) => {
                ended = true;
                Some(Body::End(end.found(found, &chunk.line)))
            }
            Err(_) => {
                some = true;
                Some(Body::Chunk(chunk))
            }
        };
        if let Some(body) = body
            && send.send(Ok(item(body))).await.is_err()
        {
            return Ok(());
        }
        if ended && !follow {
            return Ok(());
        }
        let next = async {
            tokio::select! {
                came = chunks.recv() => came,
                () = send.closed() => None,
            }
        };
        // Once all that was there has come, nothing need come for a long time.
        let next = if ended { Ok(next.await) } else { timeout(limits.silence, next).await };
        let silent = format!("{} said nothing for {} s", end.worker(), limits.silence.as_secs());
        let next = next.map_err(|_| end.broken(some, &silent))?;
        came = next.transpose().map_err(|e| end.broken(some, &e.text))?;
    }
    Err(end.broken(some, &format!("{} has ended its answer", end.worker())))
}

#[cfg(test)]
mod tests;
