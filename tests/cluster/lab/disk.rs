//! A small disk of its own for a daemon: ext4 on a loop device. It can be filled up, and its power can be cut.
//!
//! The power cut is ext4's own shutdown without a flush of its journal: from that instant nothing reaches the device,
//! so after the next mount there is what was synced, and of the rest what had been written back by then. `kill -9`
//! alone loses nothing, as the kernel keeps what a process wrote.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::ioctl::{Setter, ioctl, opcode};
use tempfile::NamedTempFile;

use super::{net::sh, scratch::MEMORY};

/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// Do not write the journal out before.
const NO_LOG_FLUSH: u32 = 2;
const FILL: &str = "fill";

pub struct Disk {
    image: NamedTempFile,
    at: PathBuf,
}

impl Disk {
    /// Mounted at `at`, which is made.
    pub fn make(at: &Path, mib: u64) -> Result<Self, String> {
        let why = |e: std::io::Error| format!("{}: {e}", at.display());
        std::fs::create_dir_all(at).map_err(why)?;
        let image = Self::image_file(at).map_err(why)?;
        image.as_file().set_len(mib << 20).map_err(why)?;
        let disk = Self { image, at: at.into() };
        sh("mkfs.ext4", &["-q", "-F", "-m", "0", disk.image()])?;
        disk.mount()?;
        Ok(disk)
    }

    /// In memory where that is possible: what a machine's own disk is busy with is not what is looked at here. By its
    /// name the test's directory is known, with which it is swept if nobody is left to drop it.
    fn image_file(at: &Path) -> std::io::Result<NamedTempFile> {
        let memory = Path::new(MEMORY);
        let test = at.strip_prefix(std::env::temp_dir()).ok().and_then(|below| below.iter().next());
        match test.filter(|_| memory.is_dir()) {
            Some(test) => NamedTempFile::with_prefix_in(format!("{}-disk-", test.to_string_lossy()), memory),
            None => NamedTempFile::new(),
        }
    }

    fn image(&self) -> &str {
        self.image.path().to_str().unwrap()
    }

    fn mount(&self) -> Result<(), String> {
        sh("mount", &["-o", "loop", self.image(), self.at.to_str().unwrap()]).map(drop)
    }

    /// From now on every write fails and nothing more reaches the device.
    pub fn cut_power(&self) {
        let root = File::open(&self.at).unwrap();
        // SAFETY: the opcode is ext4's, and takes a pointer to these 32 bits.
        unsafe { ioctl(&root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.unwrap();
    }

    /// Power is back: mounted anew from what the device has. Nothing may use it any more.
    pub fn power_up(&mut self) {
        sh("umount", &[self.at.to_str().unwrap()]).unwrap();
        // From a copy: another process may have a copy of our mounts, as `unshare -m` makes one, and so keep the dead
        // file system alive, which this device would then be mounted as again.
        let copy = Self::image_file(&self.at).unwrap();
        sh("cp", &["--sparse=always", self.image(), copy.path().to_str().unwrap()]).unwrap();
        self.image = copy;
        self.mount().unwrap();
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut fill = File::create(self.at.join(FILL)).unwrap();
        let block = vec![1; 64 << 10];
        while fill.write_all(&block).is_ok() {}
        while fill.write_all(&[1]).is_ok() {}
    }

    /// Gives it back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.at.join(FILL)).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = self.at.to_str().unwrap_or_default();
        if sh("umount", &[at]).is_err() {
            let _ = sh("umount", &["-l", at]);
        }
    }
}
