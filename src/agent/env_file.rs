//! Reads `run.env_file` as the user of the instance.
//!
//! Invariants: an agent that is root opens no file that this user may not read; it waits for nothing (a FIFO, a device)
//! and keeps nothing large. Not here: what a line means (`model::env_file`).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt,
};

use rustix::fs::OFlags;

use super::{shim::Credentials, user::acting_as};
use crate::model::read_env_file;

/// Largest file.
const MOST: u64 = 1 << 20;

/// The variables of a file; `user` is whom the instance runs as, if that is not the agent's own user.
pub fn read(path: &str, user: Option<&Credentials>) -> Result<BTreeMap<String, String>, String> {
    let at = |problem: String| format!("run.env_file {path}: {problem}");
    let text = match user {
        None => text(path),
        Some(user) => acting_as(user, || text(path)),
    };
    let text = text.map_err(|e| {
        let reader = match user {
            Some(Credentials { uid, .. }) if e.kind() == io::ErrorKind::PermissionDenied => {
                format!(" (it is read as the instance's user, number {uid})")
            }
            Some(_) | None => String::new(),
        };
        at(format!("{e}{reader}"))
    })?;
    read_env_file(&text).map_err(|wrong| format!("run.env_file {path}, line {}: {}", wrong.line, wrong.problem))
}

fn text(path: &str) -> io::Result<String> {
    // Looked at before it is opened, as opening a device may do something; and again, as it may be another one by then.
    let fits = |meta: &fs::Metadata| {
        if !meta.is_file() {
            return Err(io::Error::other("is not a regular file"));
        }
        if meta.len() > MOST {
            return Err(io::Error::other("is larger than 1 MiB"));
        }
        Ok(())
    };
    fits(&fs::metadata(path)?)?;
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).map_err(io::Error::other)?;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    fits(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other("is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    #[test]
    fn errors_name_the_file_and_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        fs::write(&path, "# comment\n\nA=1\nB=\"two words\"\n").unwrap();
        let env = read(path.to_str().unwrap(), None).unwrap();
        assert_eq!((env["A"].as_str(), env["B"].as_str()), ("1", "two words"));
        fs::write(&path, "A=1\nexport B=1\n").unwrap();
        let said = read(path.to_str().unwrap(), None).unwrap_err();
        assert!(said.starts_with(&format!("run.env_file {}, line 2: ", path.display())), "{said}");
        assert!(read("/does/not/exist", None).unwrap_err().contains("/does/not/exist: No such file"));
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        fs::File::create(at("large")).unwrap().set_len(MOST + 1).unwrap();
        fs::write(at("bytes"), b"A=\xff\n").unwrap();
        let paths = [at("fifo"), dir.path().into(), "/dev/zero".into(), at("large"), at("bytes"), "/proc/kmsg".into()];
        let (tell, told) = std::sync::mpsc::channel();
        for path in paths {
            let (tell, shown) = (tell.clone(), path.display().to_string());
            std::thread::spawn(move || tell.send(read(path.to_str().unwrap(), None)).unwrap());
            let said = told.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{shown} is waited for"));
            assert!(said.unwrap_err().contains(&shown), "{shown}");
        }
    }

    #[test]
    fn an_agent_that_is_root_reads_nothing_for_a_user_who_may_not() {
        if !rustix::process::geteuid().is_root() {
            // An agent of a user has that user's rights, and no others to give.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("env");
        fs::write(&path, "A=1\n").unwrap();
        let nobody = Credentials { uid: 65534, gid: 65534, groups: Vec::new() };
        for (mode, may) in [(0o600, false), (0o640, false), (0o604, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(path.to_str().unwrap(), Some(&nobody));
            assert_eq!(read.is_ok(), may, "{mode:o}: {read:?}");
            assert!(may || read.unwrap_err().contains("read as the instance's user, number 65534"));
        }
        assert!(rustix::process::geteuid().is_root(), "the agent itself is what it was");
    }
}
