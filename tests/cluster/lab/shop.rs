//! Packages of the demo's service, and its spec with short times.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A version of `shop` and how it behaves.
pub struct Release<'a> {
    pub version: &'a str,
    /// Further lines of its `shop.toml`.
    pub settings: &'a str,
}

fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_slipway")).with_file_name("examples").join("shop");
    assert!(path.exists(), "{} is not built: cargo build --example shop", path.display());
    path
}

/// Writes the package's directory below `dir`.
pub fn package(dir: &Path, release: &Release<'_>) -> PathBuf {
    let stripped = dir.join("shop");
    if !stripped.exists() {
        std::fs::copy(program(), &stripped).unwrap();
        // Smaller to pack; as it is when there is no strip.
        let _ = Command::new("strip").arg(&stripped).status();
    }
    let to = dir.join(format!("shop-{}", release.version));
    std::fs::create_dir_all(to.join("bin")).unwrap();
    std::fs::copy(&stripped, to.join("bin/shop")).unwrap();
    std::fs::write(to.join("shop.toml"), format!("version = {:?}\n{}\n", release.version, release.settings)).unwrap();
    to
}

/// The spec of `production/shop` with two instances a worker and these rollout fields. What they do not say is short:
/// nothing is kept, nobody waits for requests.
pub fn spec(rollout: &str) -> String {
    let mut rollout = rollout.to_string();
    for (field, short) in [("grace:", "grace: 0s"), ("bake:", "bake: 1s"), ("min_requests:", "min_requests: 0")] {
        if !rollout.contains(field) {
            rollout = format!("{short}, {rollout}");
        }
    }
    format!(
        "service: shop
environment: production
run:
  command: [bin/shop, --listen, \"${{SLIPWAY_ADDR_HTTP}}\"]
  stop: {{signal: TERM, grace: 5s}}
address: pool
ports: {{http: 8080}}
placement: {{per_worker: 2}}
health: {{http: /healthz, interval: 200ms, timeout: 2s, healthy_after: 1, unhealthy_after: 5, start_within: 15s}}
metrics: {{path: /metrics, requests: http_requests_total, errors: 'http_requests_total{{code=~\"5..\"}}'}}
drain: 1s
dns: {{ttl: 1s, pin_ttl: 1s}}
rollout: {{{rollout}}}
"
    )
}
