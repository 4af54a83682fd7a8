//! `membership`: the members alone, without services.

use super::{Ended, speed};
use crate::membership;
use crate::time::Span;

pub(super) fn run(args: &membership::Args) -> Ended {
    let began = std::time::Instant::now();
    let shown = membership::run(args).and_then(|reports| {
        let lasted: u64 = reports.iter().map(|report| report.virtual_seconds).sum();
        let text = if args.json {
            serde_json::to_string_pretty(&reports)?
        } else {
            membership::table(&reports)
        };
        println!("{text}");
        if !args.json {
            println!("{}", speed(Span::secs(lasted), began.elapsed()));
        }
        Ok(reports.iter().filter(|report| report.is_failure()).count() as u64)
    });
    match shown {
        Ok(failures) => Ended::with(failures),
        Err(error) => {
            println!("the run ended early: {error}");
            Ended::Refused
        }
    }
}
