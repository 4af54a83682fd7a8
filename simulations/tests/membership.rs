//! Membership alone, small: a crash is agreed on and no living node is taken for dead.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use simulations::membership::{Args, run};

#[test]
fn eight_nodes_agree_on_a_crash_and_on_nothing_else() {
    let args =
        Args { nodes: 8, loss: vec![0, 5], seed: 7, minutes: 1, news: 2, crashes: 1, json: false };
    for report in run(&args).unwrap() {
        assert!(report.joined_ms.is_some(), "{report:?}");
        assert_eq!((report.false_verdicts, report.undetected), (0, 0), "{report:?}");
        let (first, last) = (report.detected_first.unwrap(), report.detected_last.unwrap());
        assert!(first.median_ms > 500, "nobody can know that fast: {report:?}");
        assert!(last.worst_ms < 10_000, "{report:?}");
        assert!(
            report.convergence.unwrap().worst_ms <= report.convergence_chitchat.unwrap().worst_ms
        );
        assert!(report.bytes_per_node_second.probes > 0);
        assert!(report.bytes_per_node_second.chitchat > 0);
    }
}
