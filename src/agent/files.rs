//! Small durable files: write, fsync, rename, fsync the parent. Everything the agent relies on after a crash goes
//! through here.
//!
//! Not here: the journal, which only appends (`journal`).

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Makes a directory's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Makes a directory and its parents, private to the agent's user, durably; those that exist are left alone.
pub fn ensure_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        ensure_dir(parent)?;
    }
    // Others may pass through (an instance may run as another user) but not list.
    match fs::DirBuilder::new().mode(0o711).create(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    match dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Replaces a file as a whole: after a crash it holds either the old or the new bytes.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temporary = dir.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(dir)
}

/// Writes a file in its place, which takes no room when it is as long as before and within one sector: for a disk that
/// is full.
pub fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// Points a symbolic link at `target`, atomically; `None` removes it.
pub fn relink(link: &Path, target: Option<&Path>) -> io::Result<()> {
    let dir = link.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    match target {
        Some(target) if fs::read_link(link).is_ok_and(|old| old == target) => return Ok(()),
        Some(target) => {
            let temporary = dir.join(".link.new");
            remove_if_there(&temporary)?;
            std::os::unix::fs::symlink(target, &temporary)?;
            fs::rename(&temporary, link)?;
        }
        None => remove_if_there(link)?,
    }
    sync_dir(dir)
}

/// Removes a file or link; that it is not there is fine.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads a file; `None` when it is not there.
pub fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes what a directory holds and leaves itself, so that a full disk need not take it again.
pub fn empty_dir(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        remove_tree(&entry?.path())?;
    }
    Ok(())
}

/// Removes a tree that may hold read-only directories; that it is not there is fine.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    fn open_up(dir: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
            }
        }
        Ok(())
    }
    match fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => {
            open_up(dir)?;
            fs::remove_dir_all(dir)
        }
        Ok(_) => fs::remove_file(dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seen");
        replace(&file, b"one", 0o600).unwrap();
        replace(&file, b"two", 0o600).unwrap();
        assert_eq!(read_if_there(&file).unwrap().unwrap(), b"two");
        let link = dir.path().join("current");
        relink(&link, Some(Path::new("a"))).unwrap();
        relink(&link, Some(Path::new("b"))).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("b"));
        relink(&link, None).unwrap();
        assert!(fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn a_read_only_tree_can_be_removed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        ensure_dir(&deep).unwrap();
        fs::write(deep.join("f"), b"x").unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o555)).unwrap();
        remove_tree(&dir.path().join("a")).unwrap();
        remove_tree(&dir.path().join("a")).unwrap();
        assert!(!dir.path().join("a").exists());
    }
}
