//! One request: a lookup through the client's cache, one GET on a fresh connection, one record.

use reqwest::header::{CONNECTION, HOST};

use super::{
    ClientState, Shared,
    record::{FailureKind, ProbeOutcome},
};
use crate::model::innermost;

/// Sends one request for a client and records what came of it.
pub async fn send(shared: &Shared, client: &ClientState) {
    let at_ms = shared.clock.wall_ms();
    let resolved = {
        let mut cache = client.lock().await;
        shared.resolver.resolve(&mut cache, &shared.records).await
    };
    let address = match resolved {
        Ok(address) => address,
        Err(why) => {
            let outcome = ProbeOutcome::Failed { kind: FailureKind::Lookup, version: None, address: None, detail: why };
            shared.records.request(at_ms, outcome);
            return;
        }
    };
    let config = &shared.config;
    let sent = shared.clock.micros();
    let url = match address {
        std::net::IpAddr::V4(a) => format!("http://{a}:{}{}", config.port, config.path),
        std::net::IpAddr::V6(a) => format!("http://[{a}]:{}{}", config.port, config.path),
    };
    let answer = shared.http.get(url).header(HOST, &config.name).header(CONNECTION, "close").send().await;
    let by_address = || {
        let known = config.versions.read();
        known.get(&address).cloned()
    };
    let failed = |e: &reqwest::Error, version: Option<String>| {
        let kind = match (e.is_timeout(), e.is_connect()) {
            (true, _) => FailureKind::Timeout,
            (false, true) => FailureKind::Connect,
            (false, false) => FailureKind::Broken,
        };
        ProbeOutcome::Failed { kind, version, address: Some(address), detail: innermost(e).to_string() }
    };
    let outcome = match answer {
        Err(e) => failed(&e, by_address()),
        Ok(answer) => {
            let status = answer.status().as_u16();
            let said = answer.headers().get("x-version").and_then(|v| v.to_str().ok()).map(str::to_string);
            let version = said.or_else(by_address);
            match answer.bytes().await {
                Err(e) => failed(&e, version),
                Ok(_) => ProbeOutcome::Answered {
                    version: version.unwrap_or_else(|| "unknown".into()),
                    address,
                    status,
                    us: shared.clock.micros().saturating_sub(sent),
                },
            }
        }
    };
    shared.records.request(at_ms, outcome);
}
