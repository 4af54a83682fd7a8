//! `membership`: the members alone, without services.

use super::Ended;
use crate::membership;

pub(super) fn run(args: &membership::Args) -> Ended {
    let shown = membership::run(args).and_then(|reports| {
        let text = if args.json {
            serde_json::to_string_pretty(&reports)?
        } else {
            membership::table(&reports)
        };
        println!("{text}");
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
