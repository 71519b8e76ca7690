//! Where a demo lives: a directory, a block of loopback addresses, and the files of its nodes and workers.
//!
//! Invariant: two demos never share a block, as each holds a lock on its directory and a running cluster holds its
//! ports.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Nodes of the demo.
pub const NODES: u8 = 3;
/// Workers of the demo.
pub const WORKERS: u8 = 4;
/// Addresses in a worker's pool: two instances of the old version and two of the new, which is what the strategies need
/// and no more.
const POOL: u8 = 4;
/// Blocks tried: 127.77.0.0/24 to 127.77.63.0/24.
const BLOCKS: u8 = 64;

/// One demo's place.
pub struct Layout {
    /// Third byte of its addresses.
    block: u8,
    /// Its directory.
    pub dir: PathBuf,
    _lock: File,
}

impl Layout {
    /// Takes the first block that nobody uses and empties its directory.
    pub fn claim(base: &Path) -> io::Result<Self> {
        for block in 0..BLOCKS {
            let dir = base.join(format!("slipway-demo-{block}"));
            fs::create_dir_all(&dir)?;
            let lock = File::create(dir.join("lock"))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let layout = Self { block, dir, _lock: lock };
            if (1..=NODES).all(|n| TcpListener::bind(layout.client(n)).is_ok()) {
                layout.empty()?;
                return Ok(layout);
            }
        }
        Err(io::Error::other(format!(
            "all {BLOCKS} demo blocks are in use: stop demos with `make demo-down`, or look below {}",
            base.display()
        )))
    }

    fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.is_dir() {
                make_writable(&path)?;
                fs::remove_dir_all(&path)?;
            } else if path.file_name().is_some_and(|n| n != "lock") {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, self.block, last)
    }

    /// A node's client address.
    pub fn client(&self, node: u8) -> SocketAddr {
        SocketAddr::from((self.ip(node), 7652))
    }

    /// A node's DNS address.
    pub fn dns(&self, node: u8) -> SocketAddr {
        SocketAddr::from((self.ip(node), 8653))
    }

    /// A node's HTTP address.
    pub fn http(&self, node: u8) -> SocketAddr {
        SocketAddr::from((self.ip(node), 7653))
    }

    /// All client addresses, joined by commas, as `--node` takes them.
    pub fn clients(&self) -> String {
        (1..=NODES).map(|n| self.client(n).to_string()).collect::<Vec<_>>().join(",")
    }

    /// Writes the configuration of a node and gives its path.
    pub fn node_config(&self, node: u8) -> io::Result<PathBuf> {
        let text = format!(
            "name = \"n{node}\"\ndata_dir = \"{}\"\npeer_listen = \"{}:7651\"\nclient_listen = \"{}\"\ndns_listen = \"{}\"\n\
             http_listen = \"{}\"\n",
            self.dir.join(format!("n{node}")).display(),
            self.ip(node),
            self.client(node),
            self.dns(node),
            self.http(node),
        );
        self.write(&format!("n{node}.toml"), &text)
    }

    /// Where a worker keeps its data.
    pub fn worker_dir(&self, worker: u8) -> PathBuf {
        self.dir.join(format!("w{worker}"))
    }

    /// Writes the configuration of a worker and gives its path.
    pub fn worker_config(&self, worker: u8) -> io::Result<PathBuf> {
        let nodes: Vec<String> = (1..=NODES).map(|n| format!("\"{}\"", self.client(n))).collect();
        let first = 16 + (worker - 1) * POOL;
        let text = format!(
            "name = \"w{worker}\"\ndata_dir = \"{}\"\nnodes = [{}]\npool = [\"{}-{}\"]\nhost = \"{}\"\nlabels = {{ role = \"web\" }}\n",
            self.worker_dir(worker).display(),
            nodes.join(", "),
            self.ip(first),
            self.ip(first + POOL - 1),
            self.ip(first),
        );
        self.write(&format!("w{worker}.toml"), &text)
    }

    /// Writes a file of the demo and gives its path.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        File::create(&path)?.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// Copies a program beside the demo's data, so that a build meanwhile does not replace it.
    pub fn install(&self, program: &Path, name: &str) -> io::Result<PathBuf> {
        let to = self.dir.join("bin").join(name);
        fs::create_dir_all(self.dir.join("bin"))?;
        fs::copy(program, &to).map_err(|e| {
            io::Error::new(e.kind(), format!("cannot copy {}: {e}; run `make build` first", program.display()))
        })?;
        Ok(to)
    }
}

/// Unpacked releases are read-only; their directories must be writable to be removed.
pub fn make_writable(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::symlink_metadata(dir)?.permissions().mode();
    fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_demos_take_two_blocks() {
        let base = tempfile::tempdir().unwrap();
        let (a, b) = (Layout::claim(base.path()).unwrap(), Layout::claim(base.path()).unwrap());
        assert_ne!(a.client(1), b.client(1));
        assert!(a.worker_config(4).unwrap().exists());
    }

    #[test]
    fn its_configurations_are_valid() {
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::claim(base.path()).unwrap();
        crate::config::NodeConfig::load(&layout.node_config(1).unwrap()).unwrap();
        let worker = crate::config::AgentConfig::load(&layout.worker_config(2).unwrap()).unwrap();
        assert_eq!(worker.pool_addresses().unwrap().len(), usize::from(POOL));
    }
}
