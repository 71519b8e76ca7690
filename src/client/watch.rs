//! Events as they come, across nodes: a watch that loses its node goes on at the next one after the last event it gave.
//!
//! Invariant: every event after the starting point is given once, in order, or the watch ends with "out of range".

use std::time::Duration;

use tonic::Streaming;

use super::{Client, ClientError, Limits, error};
use crate::wire::v1::{self, events_client::EventsClient};

/// How long a watch looks for a node before it gives up: an election and a restart fit in.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a watch gives.
#[derive(Debug)]
pub enum WatchItem {
    Event(v1::Event),
    /// The node is gone; the watch goes on at another one. Names, else addresses.
    Moved {
        /// The node that was lost.
        from: String,
        /// The node that is followed now.
        to: String,
    },
}

/// A running watch.
pub struct Watch {
    client: Client,
    request: v1::WatchRequest,
    stream: Option<Streaming<v1::Event>>,
    node: Option<usize>,
}

impl Client {
    /// Watches one deployment's events, or all when it is empty, after a position. Ends with what is held when not
    /// following.
    pub fn watch(&self, deployment: &str, after: (u64, u32), follow: bool) -> Watch {
        let request = v1::WatchRequest {
            after_index: after.0,
            after_ordinal: after.1,
            deployment: deployment.into(),
            from_now: false,
            no_follow: !follow,
        };
        Watch { client: self.clone(), request, stream: None, node: None }
    }

    /// Watches only what comes from now on. The position is fixed first, so that a lost node loses no event.
    pub async fn watch_from_now(&self, deployment: &str) -> Result<Watch, ClientError> {
        let applied = self.status().await?.applied_index;
        Ok(self.watch(deployment, (applied, u32::MAX), true))
    }
}

impl Watch {
    /// The next event or change of node; `None` at the end of a watch that does not follow. Safe to drop while waiting.
    pub async fn next(&mut self) -> Result<Option<WatchItem>, ClientError> {
        loop {
            let Some(stream) = &mut self.stream else {
                if let Some(moved) = self.open().await? {
                    return Ok(Some(moved));
                }
                continue;
            };
            match stream.message().await {
                Ok(Some(event)) => {
                    let (index, ordinal) = (self.request.after_index, self.request.after_ordinal);
                    if (event.index, event.ordinal) <= (index, ordinal) && index > 0 {
                        continue;
                    }
                    (self.request.after_index, self.request.after_ordinal) = (event.index, event.ordinal);
                    return Ok(Some(WatchItem::Event(event)));
                }
                Ok(None) if self.request.no_follow => return Ok(None),
                Ok(None) => self.lose(),
                Err(status) => {
                    error::judge(status)?;
                    self.lose();
                }
            }
        }
    }

    fn lose(&mut self) {
        self.stream = None;
        if let Some(node) = self.node {
            self.client.inner.nodes.leave(node);
        }
    }

    async fn open(&mut self) -> Result<Option<WatchItem>, ClientError> {
        let limits = Limits { deadline: PATIENCE, refused: PATIENCE, ..self.client.inner.limits };
        // The first connection fails as fast as any other call.
        let limits = if self.node.is_none() { self.client.inner.limits } else { limits };
        let request = &self.request;
        let (node, stream) = self
            .client
            .call_within(limits, |channel| {
                let request = request.clone();
                async move { EventsClient::new(channel).watch(request).await }
            })
            .await?;
        let before = self.node.replace(node);
        self.stream = Some(stream);
        let nodes = &self.client.inner.nodes;
        Ok(before.filter(|b| *b != node).map(|b| WatchItem::Moved { from: nodes.label(b), to: nodes.label(node) }))
    }
}
