//! How a test says that it cannot run here: never silently.
//!
//! `make test` collects what is said and fails on a skip that `tests/allowed-skips` does not name.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that `test` cannot run because of `reason`; the caller returns then.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIP: {test}: {reason}");
    let Some(log) = std::env::var_os("SLIPWAY_SKIP_LOG") else { return };
    let file = OpenOptions::new().create(true).append(true).open(&log);
    // One write, so that tests in other processes do not mix lines.
    let line = format!("{test}: {}\n", reason.replace('\n', " "));
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|e| panic!("the skip of {test} cannot be recorded in {}: {e}", log.to_string_lossy()));
}
