//! Reads the nodes' `/metrics` pages at a steady pace and keeps what they said: the demo judges from these and from the
//! probe, never from State.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::clock::Clock;

/// Time between two readings.
const PACE: Duration = Duration::from_millis(100);

/// What one node said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReading {
    /// Weight of each version of the demo's deployment, in basis points.
    pub weights: BTreeMap<String, u32>,
    /// Instances of each version that DNS may name.
    pub serving: BTreeMap<String, u32>,
    /// Whether it leads.
    pub leader: bool,
    /// Index applied.
    pub applied: u64,
    /// Index its DNS view has reached; 0 while it is not ready.
    pub view: u64,
}

/// All nodes at one moment. A node that did not answer is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Wall-clock milliseconds, as the probe's seconds.
    pub at: u64,
    /// By node number.
    pub nodes: BTreeMap<u8, NodeReading>,
}

impl Reading {
    /// The weight of a version, when all nodes that answer agree on it.
    pub fn weight(&self, version: &str) -> Option<u32> {
        let mut all = self.nodes.values().map(|n| n.weights.get(version).copied().unwrap_or(0));
        let first = all.next()?;
        all.all(|w| w == first).then_some(first)
    }

    /// Instances of a version that all answering nodes agree may be named.
    pub fn serving(&self, version: &str) -> Option<u32> {
        let mut all = self.nodes.values().map(|n| n.serving.get(version).copied().unwrap_or(0));
        let first = all.next()?;
        all.all(|w| w == first).then_some(first)
    }

    /// The node that says it leads, the one with the newest log if several do.
    pub fn leader(&self) -> Option<u8> {
        self.nodes.iter().filter(|(_, n)| n.leader).max_by_key(|(_, n)| n.applied).map(|(id, _)| *id)
    }
}

/// The running reader.
pub struct Readings {
    kept: Arc<Mutex<Vec<Reading>>>,
    task: JoinHandle<()>,
}

impl Readings {
    /// Starts reading.
    pub fn start(nodes: BTreeMap<u8, SocketAddr>, clock: Clock) -> Self {
        let kept: Arc<Mutex<Vec<Reading>>> = Arc::default();
        let to = kept.clone();
        let task = tokio::spawn(async move {
            let http =
                reqwest::Client::builder().timeout(Duration::from_millis(500)).no_proxy().build().unwrap_or_default();
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                pace.tick().await;
                let asked = nodes.iter().map(|(id, addr)| read_one(&http, *id, *addr));
                let nodes = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
                let reading = Reading { at: clock.wall_ms(), nodes };
                to.lock().push(reading);
            }
        });
        Self { kept, task }
    }

    /// The newest reading.
    pub fn last(&self) -> Reading {
        self.kept.lock().last().cloned().unwrap_or_default()
    }

    /// All readings from a moment on.
    pub fn since(&self, at: u64) -> Vec<Reading> {
        let kept = self.kept.lock();
        kept.iter().filter(|r| r.at >= at).cloned().collect()
    }

    /// Waits until a reading after `from` fits; `None` when the deadline passes first.
    pub async fn wait(&self, from: u64, limit: Duration, fits: impl Fn(&Reading) -> bool) -> Option<Reading> {
        let found = async {
            loop {
                let last = self.last();
                if last.at > from && fits(&last) {
                    return last;
                }
                tokio::time::sleep(PACE / 4).await;
            }
        };
        tokio::time::timeout(limit, found).await.ok()
    }
}

impl Drop for Readings {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_one(http: &reqwest::Client, id: u8, addr: SocketAddr) -> Option<(u8, NodeReading)> {
    let page = http.get(format!("http://{addr}/metrics")).send().await.ok()?.text().await.ok()?;
    Some((id, parse(&page)))
}

/// The lines of a page that the demo reads.
pub fn parse(page: &str) -> NodeReading {
    let mut reading = NodeReading::default();
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let whole = value.max(0.0).round() as u64;
        let small = u32::try_from(whole).unwrap_or(u32::MAX);
        match name {
            "slipway_canary_traffic_weight" => reading.weights.extend(label(labels, "version").map(|v| (v, small))),
            "slipway_instances_serving" => reading.serving.extend(label(labels, "version").map(|v| (v, small))),
            "slipway_raft_leader" => reading.leader = whole == 1,
            "slipway_raft_applied_index" => reading.applied = whole,
            "slipway_dns_view_index" => reading.view = whole,
            _other_series => {}
        }
    }
    reading
}

fn label(labels: &str, key: &str) -> Option<String> {
    let at = labels.find(&format!("{key}=\""))? + key.len() + 2;
    labels.get(at..)?.split('"').next().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_it_needs() {
        let page = "# TYPE slipway_raft_leader gauge\nslipway_raft_leader 1\nslipway_raft_applied_index 57\n\
                    slipway_canary_traffic_weight{service=\"production/shop\",version=\"2.0.0\"} 2500\n\
                    slipway_instances_serving{service=\"production/shop\",version=\"2.0.0\"} 2\nslipway_dns_view_index 55\n";
        let r = parse(page);
        assert!(r.leader && r.applied == 57 && r.view == 55);
        assert_eq!(r.weights.get("2.0.0"), Some(&2500));
        assert_eq!(r.serving.get("2.0.0"), Some(&2));
    }

    #[test]
    fn nodes_that_differ_have_no_common_weight() {
        let node = |w| NodeReading { weights: [("2.0.0".to_string(), w)].into(), ..NodeReading::default() };
        let mut reading = Reading { at: 1, nodes: [(1, node(1000)), (2, node(1000))].into() };
        assert_eq!(reading.weight("2.0.0"), Some(1000));
        reading.nodes.insert(3, node(2500));
        assert_eq!(reading.weight("2.0.0"), None);
        assert_eq!(Reading::default().weight("2.0.0"), None);
    }
}
