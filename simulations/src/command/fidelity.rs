//! `fidelity`: chitchat itself and its model side by side.

use clap::Args;

use super::Ended;
use crate::fidelity::{MARGIN_MS, MARGIN_PERCENT, compare};

#[derive(Args, Clone, Debug)]
pub struct FidelityFlags {
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(3..=300))]
    hosts: u16,
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &FidelityFlags) -> Ended {
    let comparison = compare(flags.hosts.into(), flags.seed);
    if flags.json {
        match serde_json::to_string_pretty(&comparison) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                println!("the figures cannot be put into JSON: {error}");
                return Ended::Refused;
            }
        }
    } else {
        println!(
            "{} hosts, seed {}: chitchat itself, and its model",
            comparison.hosts, comparison.seed
        );
        for pair in &comparison.pairs {
            let show = |value: Option<u64>| value.map_or("never".to_owned(), |v| v.to_string());
            let apart = if pair.agree { "" } else { "  APART" };
            let (real, modelled) = (show(pair.real), show(pair.modelled));
            println!("  {:<44} {real:>9} {modelled:>9} {}{apart}", pair.what, pair.unit);
        }
        println!(
            "they agree where they are less than {MARGIN_PERCENT}% apart, or {MARGIN_MS} ms for times"
        );
    }
    if comparison.agrees() { Ended::Clean } else { Ended::Found }
}
