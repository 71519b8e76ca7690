//! What an archive has named so far, and where its links end.
//!
//! Invariants: every name is there once; each parent is a directory; a link ends at something that the archive holds.
//! Links are followed as the kernel follows them, in this tree alone. Not here: bytes and headers (`entries`).

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::{ArchiveError, ArchiveLimits, refused};

/// Most links on the way of one link, as in Linux.
const MOST_LINKS: usize = 40;
/// Most names looked at for all links together: a tangle of links must not keep a machine busy.
const MOST_STEPS: usize = 5_000_000;
/// Longest part of a name that file systems take.
const LONGEST_PART: usize = 255;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeNode {
    /// Made for what is inside it; the archive may still name it.
    ImpliedDirectory,
    /// Named by the archive.
    Directory,
    /// With its bytes.
    File,
    /// Symbolic, and what it names.
    Link(PathBuf),
}

/// Everything that an archive has named.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, TreeNode>);

impl Tree {
    /// Whether nothing but directories is there.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|n| matches!(n, TreeNode::Directory | TreeNode::ImpliedDirectory))
    }

    /// What a name stands for.
    pub fn get(&self, name: &Path) -> Option<&TreeNode> {
        self.0.get(name)
    }

    /// Every directory, parents first.
    pub fn directories(self) -> Vec<PathBuf> {
        let directory = |n: &TreeNode| matches!(n, TreeNode::Directory | TreeNode::ImpliedDirectory);
        self.0.into_iter().filter(|(_, n)| directory(n)).map(|(name, _)| name).collect()
    }

    /// Puts `node` at `name`. Gives the directories to make, parents first: those the archive left out, and itself when
    /// it is a new one.
    pub fn put(&mut self, name: PathBuf, node: TreeNode) -> Result<Vec<PathBuf>, ArchiveError> {
        let shown = name.display().to_string();
        let known = match (self.0.get(&name), &node) {
            (None, _) => false,
            // Archives that were added to name their directories again.
            (Some(TreeNode::ImpliedDirectory | TreeNode::Directory), TreeNode::Directory) => true,
            (Some(_), _) => {
                return refused(format!(
                    "{shown:?} is there twice: pack it anew (an archive that was added to keeps both), or name the directory to pack"
                ));
            }
        };
        let mut new = Vec::new();
        let mut parents: Vec<&Path> = name.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        parents.reverse();
        for parent in parents {
            match self.0.get(parent) {
                Some(TreeNode::Directory | TreeNode::ImpliedDirectory) => {}
                Some(TreeNode::File | TreeNode::Link(_)) => {
                    return refused(format!("{shown:?} goes through {:?}, which is no directory", text(parent)));
                }
                None => {
                    self.0.insert(parent.into(), TreeNode::ImpliedDirectory);
                    new.push(parent.to_path_buf());
                }
            }
        }
        if node == TreeNode::Directory && !known {
            new.push(name.clone());
        }
        self.0.insert(name, node);
        Ok(new)
    }

    /// Refuses links that do not end inside.
    pub fn check_links(&self) -> Result<(), ArchiveError> {
        let mut steps = MOST_STEPS;
        for (name, node) in &self.0 {
            if let TreeNode::Link(target) = node {
                self.follow(name, target, &mut steps)?;
            }
        }
        Ok(())
    }

    fn follow(&self, link: &Path, target: &Path, steps: &mut usize) -> Result<(), ArchiveError> {
        let (shown, to) = (text(link), text(target));
        let lost = |why: &str| refused(format!("link {shown:?} to {to:?} leads nowhere in the package: {why}"));
        let mut at = link.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut ahead: Vec<PathBuf> = parts(target);
        let mut links = 1;
        while let Some(part) = ahead.pop() {
            *steps = match steps.checked_sub(1) {
                Some(left) => left,
                None => return refused("its links are too many and too long to follow: replace links by files"),
            };
            if part.as_os_str() == "." {
                continue;
            }
            if part.as_os_str() == ".." {
                if !at.pop() {
                    return refused(format!(
                        "link {shown:?} to {to:?} leads out of the package: put the file itself there, or a relative link that stays inside"
                    ));
                }
                continue;
            }
            at.push(&part);
            match self.0.get(&at) {
                Some(TreeNode::Directory | TreeNode::ImpliedDirectory) => {}
                Some(TreeNode::File) if ahead.is_empty() => {}
                Some(TreeNode::File) => return lost(&format!("{:?} is no directory", text(&at))),
                Some(TreeNode::Link(next)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return lost("too many links on the way, or a circle of them");
                    }
                    at.pop();
                    ahead.extend(parts(next));
                }
                None => {
                    return lost(&format!("there is no {:?}: pack what it names, or leave the link out", text(&at)));
                }
            }
        }
        Ok(())
    }
}

/// The parts of a relative path, the last one first. A slash or dot at its end stays, as it asks for a directory.
fn parts(path: &Path) -> Vec<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut all: Vec<PathBuf> = path.components().map(|c| PathBuf::from(c.as_os_str())).collect();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
        all.push(".".into());
    }
    all.reverse();
    all
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A name without `.` parts; refused when it is absolute, leaves the tree, or no file system takes it.
pub fn inside(name: &Path, raw: &str, limits: ArchiveLimits) -> Result<PathBuf, ArchiveError> {
    fits(name, raw, limits)?;
    let mut clean = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir => return refused(format!("{raw:?} holds '..': pack with names that stay inside")),
            Component::RootDir | Component::Prefix(_) => {
                return refused(format!("{raw:?} is an absolute path: pack with relative names (tar -C DIR .)"));
            }
        }
    }
    Ok(clean)
}

/// What a link names: relative, and not longer than a name.
pub fn target(to: &Path, raw: &str, limits: ArchiveLimits) -> Result<(), ArchiveError> {
    fits(to, raw, limits)?;
    if to.is_absolute() || to.as_os_str().is_empty() {
        return refused(format!(
            "link {raw:?} points to {:?}, outside of the package: only relative links are allowed; put the file itself there",
            text(to)
        ));
    }
    Ok(())
}

fn fits(name: &Path, raw: &str, limits: ArchiveLimits) -> Result<(), ArchiveError> {
    let length = name.as_os_str().len();
    if length > limits.name {
        return refused(format!(
            "a name of {length} characters is too long (at most {}): {:?}…",
            limits.name,
            head(raw)
        ));
    }
    if name.as_os_str().as_encoded_bytes().contains(&0) {
        return refused(format!("{raw:?} holds a NUL character"));
    }
    let long = name.components().map(|c| c.as_os_str().len()).find(|n| *n > LONGEST_PART);
    match long {
        Some(n) => refused(format!("a part of a name has {n} characters (at most {LONGEST_PART}): {:?}…", head(raw))),
        None => Ok(()),
    }
}

fn head(raw: &str) -> String {
    raw.chars().take(60).collect()
}
