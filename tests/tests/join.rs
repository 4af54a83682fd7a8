//! Point 1, start and join: who gets in, who a node is, what is said of it, and how it goes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Testbed, secs, shoal::PORT, wait_for};

const REPAIR: Duration = secs(60);

#[test]
fn nodes_join_move_and_leave() -> Result<()> {
    let mut bed = Testbed::up(4)?;
    bed.host_mut(0).start_shoal()?;
    let token = bed.host(0).shoal(["token"])?.trim().to_string();
    without_the_token_nothing_joins(&mut bed, &token)?;
    joins_through_any_member(&mut bed, &token)?;
    wrong_settings_are_named(&bed)?;

    bed.create(2, "web", 9, &[])?;
    bed.wait_running("web", 9, REPAIR)?;
    a_moved_host_is_the_same_node(&mut bed)?;
    a_leaving_node_hands_over(&mut bed)?;
    bed.done()
}

fn address(bed: &Testbed, host: usize) -> String {
    format!("{}:{PORT}", bed.host(host).address())
}

fn without_the_token_nothing_joins(bed: &mut Testbed, token: &str) -> Result<()> {
    // Without one: it does not even start, for to join nobody without a token would be another cluster.
    let (to, name) = (address(bed, 0), "h3");
    bed.host_mut(3).shoal_settings().joins = vec![to];
    let words = bed.host(3).shoal_up_argv()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = bed.host(3).run(&words, secs(30))?;
    ensure!(ended.status.code() == Some(2), "{ended:?}");
    ensure!(ended.complaint().contains("token"), "{}", ended.complaint());

    // With one of another cluster: it is told no, says so in its log, and is no member anywhere.
    bed.host_mut(2).start_shoal()?;
    let other = bed.host(2).shoal(["token"])?.trim().to_string();
    bed.host_mut(2).stop_shoal()?;
    std::fs::remove_dir_all(bed.host(2).shoal_data())?;
    ensure!(other != token, "two clusters have one token");
    bed.host_mut(3).shoal_settings().token = Some(other);
    bed.host_mut(3).launch_shoal()?;
    let log = bed.host(3).log("shoal");
    wait_for("the refused node to say why", secs(30), || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("does not accept this node's token") { Ok(()) } else { Err(said) }
    })?;
    let members = bed.host(0).shoal_json(["node", "ls"])?;
    ensure!(members.as_array().map(Vec::len) == Some(1), "{name} became a member: {members}");
    // And garbage is no token.
    bed.host_mut(3).stop_shoal()?;
    let wrong = token.replace(['a', 'b', 'c', '1', '2'], "x");
    bed.host_mut(3).shoal_settings().token = Some(wrong);
    let words = bed.host(3).shoal_up_argv()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = bed.host(3).run(&words, secs(30))?;
    ensure!(ended.status.code() == Some(2), "{ended:?}");
    ensure!(ended.complaint().contains("token"), "{}", ended.complaint());
    ensure!(!ended.complaint().contains(token), "the token is told to who does not have it");
    // What refused attempts left is not kept: a first start is tested below.
    let _ = std::fs::remove_dir_all(bed.host(3).shoal_data());
    Ok(())
}

fn joins_through_any_member(bed: &mut Testbed, token: &str) -> Result<()> {
    // Each through the one before it, and the last through one that is not there and one that is.
    for host in 1..4 {
        let mut joins = vec![address(bed, host - 1)];
        if host == 3 {
            joins.insert(0, "10.255.255.1:7946".into());
        }
        let settings = bed.host_mut(host).shoal_settings();
        settings.joins = joins;
        settings.token = Some(token.to_string());
        bed.host_mut(host).start_shoal()?;
    }
    bed.wait_members(&[0, 1, 2, 3], REPAIR)?;
    ensure!(bed.host(3).shoal(["token"])?.trim() == token, "any member prints the token");
    for host in 0..4 {
        let said = bed.host(host).shoal(["status"])?;
        ensure!(said.contains("4 of 4 members alive"), "h{host}: {said}");
    }
    Ok(())
}

/// A setting that is wrong ends the start with exit code 2, named as it was given, wherever it came from.
fn wrong_settings_are_named(bed: &Testbed) -> Result<()> {
    for (flag, value, named) in [
        ("--listen", "nonsense", "listen"),
        ("--profile", "moon", "profile"),
        ("--join", "nowhere", "join"),
        ("--runtime", "podman", "runtime"),
        ("--label", "=novalue", "label"),
        ("--api", "tcp://0.0.0.0:1", "api"),
        ("--data-dir", "relative", "data"),
    ] {
        let mut words = bed.host(1).shoal_up_argv()?;
        match words.iter().position(|word| word == flag) {
            Some(at) => words[at + 1] = value.into(),
            None => words.extend([flag.into(), value.into()]),
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ended = bed.host(1).run(&words, secs(30))?;
        let said = ended.complaint();
        ensure!(ended.status.code() == Some(2), "{flag} {value}: {:?} {said}", ended.status);
        ensure!(said.contains(named) && said.contains(value), "{flag} {value}: {said}");
    }
    let mut words = vec!["env".to_string(), "SHOAL_REBALANCE=maybe".into()];
    words.extend(bed.host(1).shoal_up_argv()?);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = bed.host(1).run(&words, secs(30))?;
    ensure!(ended.status.code() == Some(2), "{ended:?}");
    ensure!(ended.complaint().contains("SHOAL_REBALANCE"), "{}", ended.complaint());
    Ok(())
}

fn id_of(bed: &Testbed, asked: usize, name: &str) -> Result<(String, String)> {
    let members = bed.host(asked).shoal_json(["node", "ls"])?;
    let all = members.as_array().context("a list")?;
    let member = all.iter().find(|one| one["name"] == name).context("not a member")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    Ok((text(&member["id"]), text(&member["addr"])))
}

fn a_moved_host_is_the_same_node(bed: &mut Testbed) -> Result<()> {
    // h0 joined nobody: it finds the others because it knows them, at another address of its own.
    for host in [2, 0] {
        let name = bed.host(host).name();
        let (id, old) = id_of(bed, 1, &name)?;
        bed.crash(host)?;
        bed.wait_running("web", 9, REPAIR)?;
        bed.readdress(host)?;
        bed.restart(host)?;
        bed.wait_members(&[0, 1, 2, 3], REPAIR)?;
        for asked in 0..4 {
            let (now, at) = id_of(bed, asked, &name)?;
            ensure!(now == id, "{name} is another node at its new address");
            ensure!(at != old && at.starts_with(bed.host(host).address()), "{name} is at {at}");
            let members = bed.host(asked).shoal_json(["node", "ls"])?;
            ensure!(members.as_array().map(Vec::len) == Some(4), "{members}");
        }
        bed.wait_running("web", 9, REPAIR)?;
    }
    Ok(())
}

fn a_leaving_node_hands_over(bed: &mut Testbed) -> Result<()> {
    // Each of the four has two or three by then, or will: what leaves must have something to hand over.
    wait_for("h1 to have something to hand over", secs(120), || {
        let count = bed.running("web");
        if count.on(1) >= 2 && count.is_exactly(9).is_ok() {
            Ok(())
        } else {
            Err(count.to_string())
        }
    })?;
    let before = bed.running("web").ids();
    let stay = bed.running_on(&[0, 2, 3], "web").ids();
    let watch = bed.watch();
    let left = bed.host(1).shoal_process().context("it runs")?;
    let output = bed.host(1).shoal_try(&["leave"], secs(120))?;
    ensure!(output.status.success(), "{output:?}");
    wait_for("its process to end", secs(10), || {
        if left.is_alive() { Err("alive".to_string()) } else { Ok(()) }
    })?;
    bed.wait_running_on(&[0, 2, 3], "web", 9, secs(10))?;
    ensure!(bed.running("web").on(1) == 0, "{}", bed.running("web"));
    let (fewest, _) = watch.fewest_and_most("web", &before);
    ensure!(fewest == 9, "{fewest} ran at the fewest while a node left");
    ensure!(stay.is_subset(&bed.running("web").ids()), "what was elsewhere moved");
    for host in [0, 2, 3] {
        bed.wait_state(host, 1, "left", secs(15))?;
    }
    // It may come back, as the same node.
    let (id, _) = id_of(bed, 0, "h1")?;
    bed.host_mut(1).start_shoal()?;
    bed.wait_members(&[0, 1, 2, 3], REPAIR)?;
    ensure!(id_of(bed, 0, "h1")?.0 == id, "it came back as another node");
    Ok(())
}
