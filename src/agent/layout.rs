//! The paths of everything in an agent's data directory.
//!
//! Invariant: names only; nothing here touches the disk. Not here: what the files hold.

use std::path::{Path, PathBuf};

use crate::model::{DeploymentId, Digest, InstanceId};

/// What lies directly in a directory, by name.
macro_rules! paths {
    ($dir:ident, $field:ident: $($(#[$doc:meta])+ $name:ident = $at:literal;)+) => {
        impl $dir {
            $($(#[$doc])+
            pub fn $name(&self) -> PathBuf {
                self.$field.join($at)
            })+
        }
    };
}

/// The data directory.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which should be absolute: instances have other working directories.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Packages, complete ones and `*.part`.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    /// One unpacked package.
    pub fn release(&self, digest: &Digest) -> PathBuf {
        self.releases().join(digest.as_str())
    }

    /// One deployment.
    pub fn deployment(&self, id: &DeploymentId) -> DeploymentDir {
        // Both parts are DNS labels, so neither holds a dot.
        DeploymentDir { path: self.deployments().join(format!("{}.{}", id.environment, id.service)) }
    }
}

paths! { Layout, root:
    /// Held by the one agent that uses the directory.
    agent_lock = "lock";
    /// The worker's key.
    key = "key";
    /// Newest (incarnation, index) obeyed.
    seen = "seen";
    /// Number of starts.
    epoch = "epoch";
    /// Unpacked packages.
    releases = "releases";
    /// Where packages are unpacked before they are renamed into place.
    staging = "staging";
    /// All deployments.
    deployments = "deployments";
}

/// The deployment a directory name stands for.
pub fn deployment_of(name: &str) -> Option<DeploymentId> {
    let (environment, service) = name.split_once('.')?;
    format!("{environment}/{service}").parse().ok()
}

/// A deployment's directory.
#[derive(Debug, Clone)]
pub struct DeploymentDir {
    path: PathBuf,
}

impl DeploymentDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One instance.
    pub fn instance(&self, id: InstanceId) -> InstanceDir {
        InstanceDir { path: self.instances().join(id.to_string()) }
    }
}

paths! { DeploymentDir, path:
    /// The journal.
    journal = "journal";
    /// Link to the release in use, for people.
    current = "current";
    /// Link to the release before, for people.
    previous = "previous";
    /// All instances.
    instances = "instances";
}

/// An instance's directory.
#[derive(Debug, Clone)]
pub struct InstanceDir {
    path: PathBuf,
}

impl InstanceDir {
    /// From the directory itself, as the shim is told.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its last part, which is the instance's id.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// Locked while a shim lives.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Standard output or error.
    pub fn log(&self, stream: &str) -> PathBuf {
        self.path.join(format!("{stream}.log"))
    }

    /// When its lines were written.
    pub fn log_times(&self, stream: &str) -> PathBuf {
        self.path.join(format!("{stream}.times"))
    }

    /// One start.
    pub fn run(&self, n: u32) -> RunDir {
        RunDir { path: self.path.join(format!("run-{n}")) }
    }
}

/// The directory of one start of an instance.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

paths! { RunDir, path:
    /// What to execute.
    launch = "launch";
    /// Until when it may take to stop.
    stop = "stop";
    /// Who its processes are ([`super::tree::Tree`]).
    identity = "identity";
    /// How the process ended.
    exit = "exit";
    /// Why it could not be executed.
    error = "error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_read_back() {
        let id: DeploymentId = "production/shop".parse().unwrap();
        let dir = Layout::new(Path::new("/d")).deployment(&id);
        assert_eq!(dir.path(), Path::new("/d/deployments/production.shop"));
        assert_eq!(deployment_of("production.shop"), Some(id));
        assert_eq!(deployment_of("lost+found"), None);
    }
}
