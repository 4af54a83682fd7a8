//! The simulator as a program of its own. What it can do is in [`simulations::command`]; `shoal simulate`
//! does the same.

mod randomness;

use clap::Parser;
use simulations::command::{self, Simulate};

/// Runs clusters in virtual time, with the product's own code and any failure, replayed from a seed.
#[derive(Parser)]
#[command(name = "simulations")]
struct Cli {
    #[command(subcommand)]
    what: Simulate,
}

fn main() -> std::process::ExitCode {
    let what = Cli::parse().what;
    randomness::begin(what.seed());
    command::run(what, command::Program::Simulations, None).into()
}
