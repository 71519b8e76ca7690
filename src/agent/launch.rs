//! Turns an entry and its spec into what the shim executes: environment, `${NAME}` in command and variables, user,
//! cgroup.
//!
//! Invariants: `ready` (asked before anything is stopped) and `launch` (which starts) share one reader, so they fail
//! with the same words; an instance inherits nothing of the agent's environment but PATH. Not here: executing it
//! (`shim`), what a user is (`user`), the form of a template and its names (`model`).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    path::Path,
};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{
    assignment::Entry,
    cgroup::Keeping,
    env_file,
    shim::{Credentials, Launch},
    tree,
    user::{self, User, acting_as},
};
use crate::{
    archive::carriage_return,
    model::{DeploymentId, Pair, Spec, Template, address_variable},
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
    let address =
        |(name, port): (&String, &u16)| (address_variable(name), SocketAddr::new(entry.address, *port).to_string());
    let own = entry.ports.iter().map(address).chain([(tree::INSTANCE.to_owned(), entry.id.to_string())]);
    let Prepared { program, args, env, user } = prepare(worker, deployment, &entry.pair, spec, own)?;
    let path = release.join(&program);
    executable(&program, &path, user.as_ref())?;
    let cgroup = keeping.place(&format!("{}.{}.{}", deployment.environment, deployment.service, entry.id));
    Ok(Launch { program: path, args, env, cwd: release.into(), user, cgroup })
}

/// Whether an instance of a pair could be started here, as far as that is known before there is one; the error is what
/// `launch` would say.
pub fn ready(worker: &str, deployment: &DeploymentId, pair: &Pair, spec: &Spec, release: &Path) -> Result<(), String> {
    let names = spec.ports.keys().map(|name| address_variable(name)).chain([tree::INSTANCE.to_owned()]);
    let Prepared { program, user, .. } =
        prepare(worker, deployment, pair, spec, names.map(|name| (name, LATER.into())))?;
    // A program that is named by its instance is looked at when it starts.
    if program.contains(LATER) { Ok(()) } else { executable(&program, &release.join(&program), user.as_ref()) }
}

/// What is known with the batch only; no path and no variable can hold it.
const LATER: &str = "\0";

/// What a spec and this machine make of a start, but for the files of the release.
struct Prepared {
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    user: Option<Credentials>,
}

/// `own` is what an instance has for itself.
fn prepare(
    worker: &str,
    deployment: &DeploymentId,
    pair: &Pair,
    spec: &Spec,
    own: impl Iterator<Item = (String, String)>,
) -> Result<Prepared, String> {
    let mut env =
        BTreeMap::from([("PATH".to_owned(), crate::config::variable("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))]);
    let user = spec.run.user.as_deref().map(user::find).transpose()?;
    env.extend(user.iter().flat_map(User::variables));
    let user = user.map(User::credentials).transpose()?.flatten();
    if let Some(file) = &spec.run.env_file {
        env.extend(env_file::read(file, user.as_ref())?);
    }
    env.extend(own);
    for (name, value) in [
        ("SLIPWAY_VERSION", pair.version.to_string()),
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
    Ok(Prepared { program, args, env, user })
}

/// What the kernel would only call "not found" or "denied".
fn executable(program: &str, path: &Path, user: Option<&Credentials>) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs::metadata(path).map_err(|_| format!("run.command: the release holds no {program:?}"))?;
    if !meta.is_file() {
        return Err(format!("run.command: {program:?} is no file"));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(format!("run.command: {program:?} is not executable: chmod +x before it is packed"));
    }
    let may = || Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?);
    let denied = match user {
        None => may(),
        Some(user) => acting_as(user, may),
    };
    // What an old kernel cannot tell, the start will.
    if let Err(e) = denied
        && e.kind() == io::ErrorKind::PermissionDenied
    {
        let who = user.map_or("the agent's user".into(), |u| format!("the instance's user, number {}", u.uid));
        return Err(format!(
            "run.command: {}: {e} for {who}: let it enter the directories above, and mount them without noexec",
            path.display()
        ));
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
            executable("run", &path, None)
        };
        assert_eq!(said("#!/bin/sh\n", 0o755), Ok(()));
        let crlf = said("#!/bin/sh\r\nexit\r\n", 0o755).unwrap_err();
        assert!(crlf.contains("CR LF") && crlf.contains("\"/bin/sh\""), "{crlf}");
        assert!(said("#!/bin/sh\n", 0o644).unwrap_err().contains("chmod +x"));
        assert!(executable("d", dir.path(), None).unwrap_err().contains("no file"));
        assert!(executable("none", &dir.path().join("none"), None).unwrap_err().contains("holds no \"none\""));
    }

    #[test]
    fn a_program_that_the_instances_user_may_not_reach_is_said_with_who_may_not() {
        use std::os::unix::fs::PermissionsExt as _;
        if !rustix::process::geteuid().is_root() {
            // An agent of a user has that user's rights, and no others to give.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (inner, nobody) = (dir.path().join("release"), Credentials { uid: 65534, gid: 65534, groups: Vec::new() });
        fs::create_dir(&inner).unwrap();
        let path = inner.join("run");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(executable("run", &path, Some(&nobody)), Ok(()));
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        let said = executable("run", &path, Some(&nobody)).unwrap_err();
        assert!(said.contains("user, number 65534") && said.contains("Permission denied"), "{said}");
        assert_eq!(executable("run", &path, None), Ok(()), "root may");
    }
}
