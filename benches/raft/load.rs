//! The load: clients that write as fast as they are answered, over a few connections.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::transport::{Channel, Endpoint};

use super::{Options, host};

const WARM_UP: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_millis(150);

/// A cluster of three that can be written to.
pub trait System {
    const NAME: &'static str;
    type Writer: Writer;

    /// Client addresses of its nodes.
    fn addresses(&self) -> Vec<String>;
    /// Place of the leader among them, once all nodes agree on it.
    fn leader(&self) -> impl Future<Output = usize>;
    /// Someone who writes over this connection.
    fn writer(&self, channel: Channel) -> Self::Writer;
    /// Its processes.
    fn pids(&self) -> Vec<u32>;
}

/// Writes over one connection, one at a time.
pub trait Writer: Clone + Send + 'static {
    /// One committed write.
    fn write(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// What a round gave.
#[derive(Clone, Debug)]
pub struct Sample {
    name: &'static str,
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    failed: usize,
    why: String,
    /// Microseconds of processor time a write, of the client and of each node.
    cpu: Vec<f64>,
}

impl Sample {
    /// Whose it is.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, per_s, p50_ms, p99_ms, .. } = self;
        write!(f, "{name:7} {per_s:8.0} writes/s, p50 {p50_ms:6.2} ms, p99 {p99_ms:6.2} ms")?;
        let cpu: Vec<String> = self.cpu.iter().map(|c| format!("{c:.0}")).collect();
        write!(f, ", cpu/write [{}] us", cpu.join(" "))?;
        if self.failed > 0 {
            write!(f, ", {} failed: {}", self.failed, self.why)?;
        }
        Ok(())
    }
}

/// A connection that is made at its first use, and again when it was lost.
pub fn connection(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(CONNECT).tcp_nodelay(true).connect_lazy()
}

/// One round.
pub async fn run<S: System>(system: &S, clients: usize, options: &Options) -> Sample {
    let addresses = system.addresses();
    let leader = system.leader().await;
    let to: Vec<&String> =
        if options.all { (0..3).map(|i| &addresses[(leader + i) % 3]).collect() } else { vec![&addresses[leader]] };
    // Connection by connection the nodes take turns, the leader first.
    let connections: Vec<Channel> =
        (0..to.len() * options.connections).map(|i| connection(to[i % to.len()])).take(clients).collect();
    let (measuring, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..clients)
        .map(|i| {
            let mut writer = system.writer(connections[i % connections.len()].clone());
            let (measuring, ended) = (measuring.clone(), ended.clone());
            tokio::spawn(async move {
                let (mut took, mut failed, mut why) = (Vec::<u32>::new(), 0_usize, String::new());
                while !ended.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let result = writer.write().await;
                    let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                    match result {
                        Ok(()) if measuring.load(Ordering::Relaxed) => took.push(micros),
                        Ok(()) => {}
                        Err(reason) => {
                            failed += 1;
                            why = reason;
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                (took, failed, why)
            })
        })
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let mut pids = vec![std::process::id()];
    pids.extend(system.pids());
    let before: Vec<f64> = pids.iter().map(|p| host::used_seconds(*p)).collect();
    measuring.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    measuring.store(false, Ordering::Relaxed);
    let elapsed = began.elapsed().as_secs_f64();
    let used: Vec<f64> = pids.iter().zip(before).map(|(p, b)| host::used_seconds(*p) - b).collect();
    ended.store(true, Ordering::Relaxed);
    let (mut all, mut failed, mut why) = (Vec::new(), 0, String::new());
    for task in tasks {
        let (took, lost, reason) = task.await.expect("a client that ends");
        all.extend(took);
        failed += lost;
        if !reason.is_empty() {
            why = reason;
        }
    }
    all.sort_unstable();
    let at = |share: usize| all.get(all.len() * share / 100).map_or(f64::NAN, |us| f64::from(*us) / 1e3);
    let n = all.len() as f64;
    let cpu = used.into_iter().map(|s| s * 1e6 / n).collect();
    Sample { name: S::NAME, per_s: n / elapsed, p50_ms: at(50), p99_ms: at(99), failed, why, cpu }
}
