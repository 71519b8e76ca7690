//! From an entry and its spec to what the shim executes: environment, `${NAME}` in the command, user, cgroup.
//!
//! The environment is only what stands here: an instance inherits nothing of the agent's but PATH. Not here: executing it (`shim`), who a user is (`user`).

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use super::{
    assignment::Entry,
    cgroup::Keeping,
    shim::Launch,
    tree,
    user::{self, User},
};
use crate::model::{DeploymentId, Spec};

/// Largest file of variables.
const MAX_ENV_FILE: u64 = 1 << 20;
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Builds it; the error says what is wrong with the spec or this machine.
pub fn launch(
    worker: &str,
    deployment: &DeploymentId,
    entry: &Entry,
    spec: &Spec,
    release: &Path,
    keeping: &Keeping,
) -> Result<Launch, String> {
    let mut env =
        BTreeMap::from([("PATH".to_owned(), crate::config::variable("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))]);
    let user = spec.run.user.as_deref().map(user::find).transpose()?;
    env.extend(user.iter().flat_map(User::variables));
    if let Some(file) = &spec.run.env_file {
        env.extend(env_file(file)?);
    }
    env.extend(spec.run.env.clone());
    for (name, port) in &entry.ports {
        env.insert(address_variable(name), SocketAddr::new(entry.address, *port).to_string());
    }
    for (name, value) in [
        ("SLIPWAY_VERSION", entry.pair.version.to_string()),
        (tree::INSTANCE, entry.id.to_string()),
        (tree::DEPLOYMENT, deployment.to_string()),
        ("SLIPWAY_WORKER", worker.to_owned()),
    ] {
        env.insert(name.into(), value);
    }
    let mut words = spec.run.command.iter().map(|word| expand(word, &env));
    let program = words.next().ok_or("run.command is empty")??;
    let args: Vec<String> = words.collect::<Result<_, _>>()?;
    // Checked again after expansion, which could have made it absolute.
    if program.starts_with('/') || program.split('/').any(|part| part == "..") {
        return Err(format!("run.command: {program:?} must be a path inside the release"));
    }
    let path = release.join(&program);
    if !path.exists() {
        return Err(format!("run.command: the release holds no {program:?}"));
    }
    let user = user.map(User::credentials).transpose()?.flatten();
    let cgroup = keeping.place(&format!("{}.{}.{}", deployment.environment, deployment.service, entry.id));
    Ok(Launch { program: path, args, env, cwd: release.into(), user, cgroup })
}

/// The variable that holds the address and number of a port.
pub fn address_variable(port: &str) -> String {
    format!("SLIPWAY_ADDR_{}", port.to_ascii_uppercase().replace('-', "_"))
}

/// Replaces `${NAME}`; a name that is not set is an error, as an empty address would be worse.
fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').ok_or_else(|| format!("run.command: {text:?}: '${{' without '}}'"))?;
        let value = env.get(name).ok_or_else(|| {
            let ours: Vec<&str> = env.keys().filter(|k| k.starts_with("SLIPWAY_")).map(String::as_str).collect();
            format!("run.command: ${{{name}}} is not set; there are {} and what run.env sets", ours.join(", "))
        })?;
        out.push_str(before);
        out.push_str(value);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn env_file(path: &str) -> Result<BTreeMap<String, String>, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("run.env_file {path}: {e}"))?.len();
    if size > MAX_ENV_FILE {
        return Err(format!("run.env_file {path}: larger than 1 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("run.env_file {path}: {e}"))?;
    let mut env = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("run.env_file {path}, line {}: write NAME=value", n + 1))?;
        let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        env.insert(name.trim().to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_unknown_ones_named() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("SLIPWAY_ADDR_HTTP".into(), "x:1".into())]);
        assert_eq!(expand("--l=${A},${SLIPWAY_ADDR_HTTP}$", &env).unwrap(), "--l=1,x:1$");
        let said = expand("${SLIPWAY_ADDR_HTPP}", &env).unwrap_err();
        assert!(said.contains("SLIPWAY_ADDR_HTPP") && said.contains("SLIPWAY_ADDR_HTTP"), "{said}");
        assert!(expand("${A", &env).is_err());
    }

    #[test]
    fn files_of_variables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# comment\n\nA=1\nB=\"two words\"\n").unwrap();
        let env = env_file(path.to_str().unwrap()).unwrap();
        assert_eq!((env["A"].as_str(), env["B"].as_str()), ("1", "two words"));
        std::fs::write(&path, "A=1\nwrong\n").unwrap();
        assert!(env_file(path.to_str().unwrap()).unwrap_err().contains("line 2"));
        assert!(env_file("/does/not/exist").unwrap_err().contains("/does/not/exist"));
    }
}
