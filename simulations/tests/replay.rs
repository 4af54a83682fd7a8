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
    // How fast this machine was is no part of it.
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("speed "));
    let text = lines.collect::<Vec<_>>().join("\n");
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

/// The same of a scenario, whose file says that gossip is real, and what its seed is.
#[test]
fn a_scenario_with_real_gossip_is_replayed_from_its_seed() {
    let file = std::env::temp_dir().join(format!("shoal-real-{}.toml", std::process::id()));
    let text = "title = 't'\nabout = 'a'\nlook_at = 'l'\nduration = '20s'\nseed = 9\ngossip = 'real'\n\
        [[hosts]]\ncount = 4\n[[services]]\nname = 'web'\nreplicas = 4\n\
        [[timeline]]\nat = '5s'\ndo = 'crash'\non = 'host-4'\nfor = '5s'\n";
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_simulations"))
        .args(["scenario", "--twice"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("seed 9 trace ") && last.ends_with(" violations 0"), "{text}");
}
