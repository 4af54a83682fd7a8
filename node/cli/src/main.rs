//! `shoal`: one binary for running a node and for asking one.
//!
//! `up` and `demo` run nodes; every other command is a client of a node on this machine and speaks
//! nothing but its HTTP API. What each exit code means is in [`exit`] and in `shoal --help`.

use std::process::ExitCode;

use clap::Parser;

mod age;
mod client;
mod command_line;
mod configs;
mod conflicts;
mod demo;
mod exit;
mod explain;
mod host;
mod import;
mod leave;
mod nodes;
mod output;
mod plan;
mod plan_table;
mod service;
mod simulate;
mod status;
mod token;
mod up;

/// Threads at most, however many cores the host has: what they do for a node (its API, its calls to the engine)
/// is mostly waiting, and the cores are the containers'.
const THREADS: usize = 4;

fn main() -> ExitCode {
    // Wrong usage ends in here, with code 2 and clap's own words.
    let line = command_line::Shoal::parse();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format!("shoal cannot start its threads: {error}"));
            return ExitCode::from(exit::Code::Failed);
        }
    };
    match runtime.block_on(command_line::run(line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.code != exit::Code::ReaderGone {
                output::note(format!("shoal: {failure}"));
            }
            ExitCode::from(failure.code)
        }
    }
}
