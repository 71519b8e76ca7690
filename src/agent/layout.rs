//! Where everything lies in an agent's data directory. Names only; nothing here touches the disk.

use std::path::{Path, PathBuf};

use crate::model::{DeploymentId, Digest, InstanceId};

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

    /// Held by the one agent that uses the directory.
    pub fn agent_lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The worker's key.
    pub fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    /// Newest (incarnation, index) obeyed.
    pub fn seen(&self) -> PathBuf {
        self.root.join("seen")
    }

    /// Number of starts.
    pub fn epoch(&self) -> PathBuf {
        self.root.join("epoch")
    }

    /// Packages, complete ones and `*.part`.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    /// Unpacked packages.
    pub fn releases(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// One unpacked package.
    pub fn release(&self, digest: &Digest) -> PathBuf {
        self.releases().join(digest.as_str())
    }

    /// Where packages are unpacked before they are renamed into place.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// All deployments.
    pub fn deployments(&self) -> PathBuf {
        self.root.join("deployments")
    }

    /// One deployment.
    pub fn deployment(&self, id: &DeploymentId) -> DeploymentDir {
        // Both parts are DNS labels, so neither holds a dot.
        DeploymentDir { path: self.deployments().join(format!("{}.{}", id.environment, id.service)) }
    }
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

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Link to the release in use, for people.
    pub fn current(&self) -> PathBuf {
        self.path.join("current")
    }

    /// Link to the release before, for people.
    pub fn previous(&self) -> PathBuf {
        self.path.join("previous")
    }

    /// All instances.
    pub fn instances(&self) -> PathBuf {
        self.path.join("instances")
    }

    /// One instance.
    pub fn instance(&self, id: InstanceId) -> InstanceDir {
        InstanceDir { path: self.instances().join(id.to_string()) }
    }
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

    /// What to execute.
    pub fn launch(&self) -> PathBuf {
        self.path.join("launch")
    }

    /// Until when it may take to stop.
    pub fn stop(&self) -> PathBuf {
        self.path.join("stop")
    }

    /// Who its processes are ([`super::tree::Tree`]).
    pub fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }

    /// How the process ended.
    pub fn exit(&self) -> PathBuf {
        self.path.join("exit")
    }

    /// Why it could not be executed.
    pub fn error(&self) -> PathBuf {
        self.path.join("error")
    }
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
