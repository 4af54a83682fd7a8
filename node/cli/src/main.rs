//! `shoal`: one binary for running a node and for asking one.
//!
//! `up` and `demo` run nodes; every other command is a client of a node on this machine and speaks
//! nothing but its HTTP API. What each exit code means is in [`exit`] and in `shoal --help`.

use std::process::ExitCode;

use clap::Parser;

mod age;
mod client;
mod command_line;
mod conflicts;
mod demo;
mod exit;
mod host;
mod leave;
mod nodes;
mod output;
mod service;
mod status;
mod token;
mod up;

fn main() -> ExitCode {
    // Wrong usage ends in here, with code 2 and clap's own words.
    let line = command_line::Shoal::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
