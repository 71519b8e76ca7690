//! Checks before a start that the ports of an instance are free, and names the process that holds one.
//!
//! Invariant: a port that cannot be checked counts as free, and the log says so. Not here: whose socket answers later
//! (`check`).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::Instance;
use crate::{
    agent::{
        files,
        process::{self, Found},
        runtime::{Runtime, in_use},
    },
    model::{Protocol, address_variable},
};

/// How long a port may still be in use before a start fails, and the time between looks: a predecessor's socket may
/// just be closing.
const PORTS_WITHIN: Duration = Duration::from_secs(2);
const PORTS_LOOK: Duration = Duration::from_millis(50);

impl Instance {
    /// Waits a little until no process listens where the instance is to listen. It may find this very run instead: an
    /// agent started its shim just before the agent was killed.
    pub(super) async fn ports_free(&self) -> Result<Option<Found>, String> {
        let run = self.dir.run(self.run);
        let mut waited = Duration::ZERO;
        loop {
            let Some(port) = self.port_taken().await else { return Ok(None) };
            files::ensure_dir(run.path()).map_err(|e| format!("{}: {e}", run.path().display()))?;
            match process::find(&self.dir, self.run).await {
                Ok(Found::Nothing) => {}
                Ok(found @ (Found::Running(_) | Found::Ended(_))) => return Ok(Some(found)),
                // Whoever has the port says more than a lock that is held.
                Err(stuck) => return Err(self.in_use(port).await.unwrap_or_else(|| stuck.to_string())),
            }
            if self.orders.borrow().stop {
                return Ok(Some(Found::Nothing));
            }
            if waited >= PORTS_WITHIN {
                // Who it is, unless he has just gone.
                let Some(taken) = self.in_use(port).await else { continue };
                // A shim that comes late finds the run ended, and leaves.
                let ended = files::replace(&run.exit(), taken.as_bytes(), 0o600);
                ended.map_err(|e| format!("{taken}; {}: {e}", run.path().display()))?;
                return Err(taken);
            }
            tokio::time::sleep(PORTS_LOOK).await;
            waited += PORTS_LOOK;
        }
    }

    /// The first port that somebody has already.
    async fn port_taken(&self) -> Option<(&String, SocketAddr, Protocol)> {
        for (name, port) in &self.entry.ports {
            let protocol = self.spec.ports.get(name).map_or(Protocol::Tcp, |(_, protocol)| *protocol);
            let at = SocketAddr::new(self.entry.address, *port);
            match self.look(move |runtime| runtime.is_free(at, protocol)).await {
                Ok(true) => {}
                Ok(false) => return Some((name, at, protocol)),
                Err(e) => {
                    tracing::warn!(instance = %self.entry.id, "cannot see whether {at} is free, so it is taken as free: {e}");
                }
            }
        }
        None
    }

    /// Who has a port, in words.
    async fn in_use(&self, (name, at, protocol): (&String, SocketAddr, Protocol)) -> Option<String> {
        let holder = self.look(move |runtime| runtime.holder(at, protocol)).await.ok()??;
        Some(in_use(at, protocol, &holder, &address_variable(name)))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Runtime) -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let runtime = Arc::clone(&self.shared.runtime);
        let looked = tokio::task::spawn_blocking(move || look(runtime.as_ref())).await;
        looked.unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }
}
