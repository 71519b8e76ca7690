//! `slipway`, the command line: everything is in the library's `cli`.

use std::process::ExitCode;

use anyhow::Context;

fn main() -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("SLIPWAY_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let code = runtime.block_on(slipway::cli::run(std::env::args_os(), slipway::clock::Clock::real()));
    // A thread that still reads a file or a terminal must not hold the exit up.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
