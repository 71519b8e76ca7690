//! Clocks of daemons that are wrong: libfaketime, told by a file that can change while they run.

use std::path::{Path, PathBuf};

use super::net::sh;

/// Removes what libfaketime keeps in memory for a process that was killed and had a wrong clock.
pub fn forget_clock(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{pid}"));
    }
}

/// A wrong clock for one daemon.
pub struct Skew {
    library: PathBuf,
    told: PathBuf,
    monotonic: bool,
}

impl Skew {
    /// `told` is the file; `monotonic`: the monotonic clock is wrong too. The error says what is missing.
    pub fn make(told: &Path, monotonic: bool) -> Result<Self, String> {
        let library = std::fs::read_dir("/usr/lib")
            .map_err(|e| e.to_string())?
            .flatten()
            .map(|d| d.path().join("faketime/libfaketimeMT.so.1"))
            .find(|p| p.exists())
            .ok_or("libfaketime is not installed (Debian: faketime)")?;
        let skew = Self { library, told: told.into(), monotonic };
        skew.set("-3600s");
        let mut args = skew.within();
        args.remove(0);
        args.extend(["date", "+%s"].map(String::from));
        let seconds = |text: String| text.trim().parse::<i64>().map_err(|e| format!("date: {text:?}: {e}"));
        let wrong = seconds(sh("env", &args.iter().map(String::as_str).collect::<Vec<_>>())?)?;
        let right = seconds(sh("date", &["+%s"])?)?;
        skew.set("+0s");
        let off = right - wrong;
        if (3500..3700).contains(&off) { Ok(skew) } else { Err(format!("libfaketime does not work: off by {off} s")) }
    }

    /// What goes in front of the daemon's command.
    pub fn within(&self) -> Vec<String> {
        let mut args = vec![
            "env".into(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.told.display()),
            "FAKETIME_CACHE_DURATION=1".into(),
        ];
        if !self.monotonic {
            args.push("FAKETIME_DONT_FAKE_MONOTONIC=1".into());
        }
        args
    }

    /// How wrong it is from now on, in libfaketime's words: `-3600s`, `+0s x1.02`.
    pub fn set(&self, how: &str) {
        let new = self.told.with_extension("new");
        std::fs::write(&new, how).unwrap();
        std::fs::rename(new, &self.told).unwrap();
    }
}
