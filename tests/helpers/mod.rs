//! What more than one binary of tests needs: the judge of histories, processes and directories that a killed runner
//! leaves, skips.
//!
//! Each binary names it once, in its `main.rs`. Helpers of one binary lie in that binary's folder.

pub mod history;
pub mod procs;
pub mod scratch;
pub mod skip;
