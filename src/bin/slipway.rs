//! `slipway`, the command line: everything is in the library's `cli`.

use std::process::ExitCode;

use slipway::{cli, console};

fn main() -> ExitCode {
    // A shell asks for completions: before threads are made, as it says so in a variable that is taken away.
    if cli::complete() {
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("SLIPWAY_LOG"))
        .log_internal_errors(false)
        .with_writer(console::log(false, false))
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            console::note(&format!("error: cannot start threads: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(std::env::args_os(), slipway::clock::Clock::real()));
    // A thread that still reads a file or a terminal must not hold the exit up.
    runtime.shutdown_background();
    console::flush();
    ExitCode::from(code)
}
