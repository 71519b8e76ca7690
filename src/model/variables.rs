//! The environment of an instance: which names there are, and what a spec may write of them.
//!
//! Invariant: what an agent could not expand or execute, whatever its machine, is refused when the spec is read. Not
//! here: values, which the agent knows (`agent::launch`); the file of variables (`env_file`).

use std::collections::{BTreeMap, BTreeSet};

use super::{ModelError, Protocol, RunSpec, Template, is_variable};

/// What agents set beside the addresses of ports.
pub const GIVEN: [&str; 5] = ["PATH", "SLIPWAY_VERSION", "SLIPWAY_INSTANCE", "SLIPWAY_DEPLOYMENT", "SLIPWAY_WORKER"];

/// What agents set for a `run.user`: its home and, twice, its name.
pub const OF_USER: [&str; 3] = ["HOME", "USER", "LOGNAME"];

/// The variable that holds the address and number of a port.
pub fn address_variable(port: &str) -> String {
    format!("SLIPWAY_ADDR_{}", port.to_ascii_uppercase().replace('-', "_"))
}

/// Checks command, variables, their file and the user.
pub fn check(run: &RunSpec, ports: &BTreeMap<String, (u16, Protocol)>) -> Result<(), ModelError> {
    let err = |f: &str, p: String| Err(ModelError::field(f, p));
    if run.env.len() > 200 || run.env.iter().any(|(k, v)| k.len() > 128 || v.len() > 8192) {
        return err("run.env", "at most 200 variables, names up to 128 and values up to 8192 characters".into());
    }
    if let Some(k) = run.env.keys().find(|k| k.starts_with("SLIPWAY_")) {
        return err("run.env", format!("{k:?} is not allowed: names beginning with SLIPWAY_ are set by the agent"));
    }
    if let Some(k) = run.env.keys().find(|k| !is_variable(k)) {
        return err("run.env", format!("{k:?} is no name of a variable: letters, digits, '_' and '.', no digit first"));
    }
    if run.env.values().chain(&run.command).any(|text| text.contains('\0')) {
        return err("run", "a word or value holds a NUL character, which no program can be given".into());
    }
    if let Some(file) = &run.env_file
        && (!file.starts_with('/') || file.contains('\0') || file.len() > 4096)
    {
        return err("run.env_file", format!("{file:?} is not an absolute path on the worker, such as /etc/shop.env"));
    }
    if let Some(user) = &run.user
        && (user.is_empty() || user.len() > 32 || user.contains([':', '/', ' ', '\0', '\n']))
    {
        return err("run.user", format!("{user:?} is no user's name or number"));
    }
    let addresses: Vec<String> = ports.keys().map(|p| address_variable(p)).collect();
    let of_user = OF_USER.into_iter().filter(|_| run.user.is_some());
    let given: BTreeSet<&str> = GIVEN.into_iter().chain(of_user).chain(addresses.iter().map(String::as_str)).collect();
    for word in &run.command {
        let known = |name: &str| given.contains(name) || run.env.contains_key(name);
        names(run, "run.command", word, known, &given)?;
    }
    for (key, value) in &run.env {
        let field = format!("run.env.{key}");
        names(run, &field, value, |name| given.contains(name), &given)?;
    }
    Ok(())
}

/// Every name in a text must be known; a file of variables may set any, which only the worker knows.
fn names(
    run: &RunSpec,
    field: &str,
    text: &str,
    known: impl Fn(&str) -> bool,
    given: &BTreeSet<&str>,
) -> Result<(), ModelError> {
    let template = Template::parse(text).map_err(|e| ModelError::field(field, e))?;
    match template.names().find(|name| !known(name)) {
        Some(name) if run.env_file.is_none() || name.starts_with("SLIPWAY_") => {
            let all = given.iter().copied().collect::<Vec<_>>().join(", ");
            let more = match (field, run.env.contains_key(name)) {
                ("run.command", _) => "and what run.env and run.env_file set",
                (_, true) => "and what run.env_file sets; one variable of run.env cannot use another",
                (_, false) => "and what run.env_file sets",
            };
            Err(ModelError::field(field, format!("${{{name}}} is not set; there are {all}, {more}")))
        }
        Some(_) | None => Ok(()),
    }
}
