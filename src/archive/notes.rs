//! Findings in a package that are no reason to refuse it and still surprise its author.
//!
//! Invariant: of each kind there is the first name and a count, so a note is one line however large the package is. Not
//! here: what is refused (`entries`, `tree`).

use std::path::Path;

/// The first of a kind, and how many there are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Several {
    first: String,
    count: usize,
}

impl Several {
    fn add(&mut self, name: &Path) {
        if self.count == 0 {
            self.first = format!("{:?}", name.display().to_string());
        }
        self.count += 1;
    }

    fn and(&mut self, other: Self) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }

    fn named(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(self.first.clone()),
            n => Some(format!("{} and {} more", self.first, n - 1)),
        }
    }
}

/// Remarks about a package.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Notes {
    private: Several,
    crlf: Several,
}

impl Notes {
    /// A file with this mode: on a worker everybody reads it.
    pub fn mode(&mut self, name: &Path, mode: u32) {
        if mode & 0o004 == 0 {
            self.private.add(name);
        }
    }

    /// How an executable file begins.
    pub fn head(&mut self, name: &Path, head: &[u8]) {
        if carriage_return(head).is_some() {
            self.crlf.add(name);
        }
    }

    /// Both.
    pub fn and(&mut self, other: Self) {
        self.private.and(other.private);
        self.crlf.and(other.crlf);
    }

    /// One line each.
    pub fn lines(&self) -> Vec<String> {
        let private = self.private.named().map(|files| {
            format!(
                "not everybody may read {files} here, but every user of a worker will: a package keeps no modes but \"executable\"; \
                 give secrets with run.env_file"
            )
        });
        let crlf = self.crlf.named().map(|files| {
            format!(
                "the #! line of {files} ends with CR LF: no worker can start it as a program; write its lines with LF alone"
            )
        });
        private.into_iter().chain(crlf).collect()
    }
}

/// The interpreter of a script whose first line ends with CR LF: the kernel takes the CR for a part of the name.
pub fn carriage_return(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = line.strip_suffix(b"\r")?;
    Some(String::from_utf8_lossy(line).trim().to_string())
}
