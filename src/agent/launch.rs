//! From an entry and its spec to what the shim executes: environment, `${NAME}` in command and variables, user, cgroup.
//!
//! The environment is only what stands here: an instance inherits nothing of the agent's but PATH. Not here: executing it (`shim`), who a
//! user is (`user`), the form of a template and which names there are (`model`).

use std::{collections::BTreeMap, fs, io::Read as _, net::SocketAddr, path::Path};

use super::{
    assignment::Entry,
    cgroup::Keeping,
    env_file,
    shim::Launch,
    tree,
    user::{self, User},
};
use crate::{
    archive::carriage_return,
    model::{DeploymentId, Spec, Template, address_variable},
};

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
    let user = user.map(User::credentials).transpose()?.flatten();
    if let Some(file) = &spec.run.env_file {
        env.extend(env_file::read(file, user.as_ref())?);
    }
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
    let written = spec.run.env.iter().map(|(name, text)| {
        let value = expand(&format!("run.env.{name}"), text, &env)?;
        Ok::<_, String>((name.clone(), value))
    });
    let written: Vec<_> = written.collect::<Result<_, _>>()?;
    env.extend(written);
    let mut words = spec.run.command.iter().map(|word| expand("run.command", word, &env));
    let program = words.next().ok_or("run.command is empty")??;
    let args: Vec<String> = words.collect::<Result<_, _>>()?;
    // Checked again after expansion, which could have made it absolute.
    if program.starts_with('/') || program.split('/').any(|part| part == "..") {
        return Err(format!("run.command: {program:?} must be a path inside the release"));
    }
    let path = release.join(&program);
    executable(&program, &path)?;
    let cgroup = keeping.place(&format!("{}.{}.{}", deployment.environment, deployment.service, entry.id));
    Ok(Launch { program: path, args, env, cwd: release.into(), user, cgroup })
}

/// What the kernel would only call "not found" or "denied".
fn executable(program: &str, path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs::metadata(path).map_err(|_| format!("run.command: the release holds no {program:?}"))?;
    if !meta.is_file() {
        return Err(format!("run.command: {program:?} is no file"));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(format!("run.command: {program:?} is not executable: chmod +x before it is packed"));
    }
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(256).read_to_end(&mut head));
    read.map_err(|e| format!("run.command: {program:?}: {e}"))?;
    match carriage_return(&head) {
        Some(interpreter) => Err(format!(
            "run.command: the #! line of {program:?} ends with CR LF, so that {interpreter:?} is not found: write its lines with LF alone"
        )),
        None => Ok(()),
    }
}

/// Replaces `${NAME}`; a name that is not set is an error, as an empty address would be worse.
fn expand(field: &str, text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let template = Template::parse(text).map_err(|e| format!("{field}: {e}"))?;
    template.fill(|name| env.get(name).map(String::as_str)).map_err(|name| {
        let ours: Vec<&str> = env.keys().filter(|k| k.starts_with("SLIPWAY_")).map(String::as_str).collect();
        format!("{field}: ${{{name}}} is not set; there are {} and what run.env_file and run.env set", ours.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_unknown_ones_named() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("SLIPWAY_ADDR_HTTP".into(), "x:1".into())]);
        let expand = |text| expand("run.command", text, &env);
        assert_eq!(expand("--l=${A},${SLIPWAY_ADDR_HTTP}$, $${A}").unwrap(), "--l=1,x:1$, ${A}");
        let said = expand("${SLIPWAY_ADDR_HTPP}").unwrap_err();
        assert!(said.contains("SLIPWAY_ADDR_HTPP") && said.contains("SLIPWAY_ADDR_HTTP"), "{said}");
        assert!(expand("${A").is_err());
    }

    #[test]
    fn a_program_that_cannot_start_says_why() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let said = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            executable("run", &path)
        };
        assert_eq!(said("#!/bin/sh\n", 0o755), Ok(()));
        let crlf = said("#!/bin/sh\r\nexit\r\n", 0o755).unwrap_err();
        assert!(crlf.contains("CR LF") && crlf.contains("\"/bin/sh\""), "{crlf}");
        assert!(said("#!/bin/sh\n", 0o644).unwrap_err().contains("chmod +x"));
        assert!(executable("d", dir.path()).unwrap_err().contains("no file"));
        assert!(executable("none", &dir.path().join("none")).unwrap_err().contains("holds no \"none\""));
    }
}
