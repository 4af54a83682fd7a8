//! The simulator's own program with chitchat itself: one seed is one run, to the byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::process::Command;

/// What the program printed, whole, and its last line.
fn run(seed: &str, more: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulations"))
        .args(["run", "--gossip", "real", "--hosts", "6", "--replicas", "12", "--seed", seed])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap_or_default().to_owned();
    (text, last)
}

#[test]
fn real_gossip_is_replayed_from_its_seed() {
    let (text, last) = run("3", &["--twice"]);
    assert!(last.starts_with("seed 3 trace ") && last.ends_with(" violations 0"), "{text}");
    // Everything that was measured, not the trace alone.
    assert_eq!(run("3", &[]).0, text);
    assert_ne!(run("4", &[]).1.split(' ').nth(3), last.split(' ').nth(3));
}
