//! The addresses that an agent was configured with: how many, and what its machine lacks of them, for people (the
//! agent's log and `worker list` say the same).

/// Largest pool of one worker: what its agent's settings take and what the cluster registers.
pub const MAX_POOL: usize = 1024;

/// `here` addresses of the pool are on the machine, those of `missing` are not, nor is `host` if it is named; `None`:
/// nothing is missing.
pub fn lacking(here: usize, missing: &[String], host: Option<&str>) -> Option<String> {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        let are = if missing.len() == 1 { "is" } else { "are" };
        let all = here + missing.len();
        parts.push(format!("pool {here} of {all}: {} {are} not on this machine", missing.join(", ")));
    }
    if let Some(host) = host {
        parts.push(format!("host {host} is not on this machine: services in address mode host cannot listen"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
