//! Point 2, run: the commands, what of a spec reaches the containers, updates, and the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use membership::id::{NodeId, ServiceId};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::image::BUSYBOX;
use tests::{Act, Testbed, Watch, secs, wait_for};

const REPAIR: Duration = secs(60);

#[test]
fn services_are_created_shown_scaled_and_removed() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    a_whole_spec_arrives(&bed)?;
    scaling_touches_nothing_else(&bed)?;
    the_docker_command_line_works(&bed)?;
    logs_come_from_all_hosts(&bed)?;
    the_exit_code_tells(&bed)?;
    for host in 0..3 {
        let list = bed.host(host).shoal_json(["service", "ls"])?;
        ensure!(list.as_array().is_some_and(Vec::is_empty), "h{host} lists {list}");
        let left = bed.host(host).docker(["ps", "-aq"])?;
        ensure!(left.trim().is_empty(), "containers are left on h{host}: {left}");
    }
    bed.done()
}

fn a_whole_spec_arrives(bed: &Testbed) -> Result<()> {
    // Not detached: it returns when all run, having shown plain lines, for there is no terminal.
    let bind = format!("type=bind,source={},target=/given,readonly", bed.directory().display());
    let words = [
        "service",
        "create",
        "--name",
        "web",
        "--replicas",
        "3",
        "--env",
        "COLOUR=blue",
        "--label",
        "team=a",
        "--container-label",
        "part=front",
        "--mount",
        &bind,
        "--mount",
        "type=volume,source=data,target=/data",
        "--limit-memory",
        "64m",
        "--limit-cpu",
        "0.5",
        "--reserve-memory",
        "16m",
        "--workdir",
        "/tmp",
        "--user",
        "1000:1000",
        "--hostname",
        "{{.Service.Name}}-{{.Task.Slot}}",
        "--stop-signal",
        "SIGKILL",
        BUSYBOX,
        "sleep",
        "1d",
    ];
    let output = bed.host(0).shoal_try(&words, REPAIR)?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(output.stderr.contains("3 of 3 running"), "no progress in lines: {output:?}");
    ensure!(bed.running("web").is_exactly(3).is_ok(), "it returned before: {}", bed.running("web"));

    for (host, container) in bed.running("web").containers() {
        let shown = bed.host(host).docker(["inspect", &container.id])?;
        let shown: Value = serde_json::from_str(&shown)?;
        let one = &shown[0];
        let slot = container.slot.context("a slot")?;
        ensure!(one["Config"]["Env"].to_string().contains("COLOUR=blue"), "{one}");
        ensure!(
            one["Config"]["Hostname"] == format!("web-{slot}"),
            "{}",
            one["Config"]["Hostname"]
        );
        ensure!(one["Config"]["WorkingDir"] == "/tmp" && one["Config"]["User"] == "1000:1000");
        ensure!(one["HostConfig"]["Memory"] == 64 << 20, "{}", one["HostConfig"]);
        ensure!(one["HostConfig"]["NanoCpus"] == 500_000_000, "{}", one["HostConfig"]);
        let mounts = one["Mounts"].to_string();
        ensure!(mounts.contains("/given") && mounts.contains("/data"), "{mounts}");
        for label in ["service.name", "service.id", "task.id", "task.name", "node.id"] {
            let label = format!("com.docker.swarm.{label}");
            ensure!(container.labels.contains_key(&label), "no {label}: {:?}", container.labels);
        }
        ensure!(container.labels.get("part").map(String::as_str) == Some("front"));
        ensure!(
            container.labels.keys().any(|key| key.starts_with("shoal.")),
            "{:?}",
            container.labels
        );
    }

    // Any node shows it, as a table and as JSON.
    let list = bed.host(1).shoal_json(["service", "ls"])?;
    ensure!((&list[0]["running"], &list[0]["desired"]) == (&3.into(), &3.into()), "{list}");
    ensure!(bed.host(2).shoal(["service", "ls"])?.contains("3/3"));
    let tasks = bed.host(2).shoal_json(["service", "ps", "web"])?;
    let tasks = tasks.as_array().context("a list")?;
    ensure!(tasks.len() == 3 && tasks.iter().all(|task| task["state"] == "running"), "{tasks:?}");
    let nodes: BTreeSet<&str> = tasks.iter().filter_map(|task| task["node"].as_str()).collect();
    ensure!(nodes == BTreeSet::from(["h0", "h1", "h2"]), "{nodes:?}");
    let spec = bed.host(1).shoal_json(["service", "inspect", "web"])?;
    ensure!(spec[0]["Spec"]["Labels"]["team"] == "a", "{spec}");
    Ok(())
}

fn scaling_touches_nothing_else(bed: &Testbed) -> Result<()> {
    let watch = bed.watch();
    let three = bed.running("web").ids();
    bed.host(1).shoal(["service", "scale", "web=8"])?;
    let eight = bed.running("web");
    ensure!(eight.is_exactly(8).is_ok() && three.is_subset(&eight.ids()), "{eight}");
    bed.host(2).shoal(["service", "scale", "--detach", "web=2"])?;
    bed.wait_running("web", 2, REPAIR)?;
    ensure!(bed.running("web").ids().is_subset(&eight.ids()), "scaled down by replacing");
    ensure!(watch.starts("web").len() == 5, "{:?}", watch.starts("web"));
    bed.host(0).shoal(["service", "rm", "web"])?;
    bed.wait_running("web", 0, REPAIR)?;
    nothing_is_left(bed, "web")
}

/// Containers that were stopped for good are removed too.
fn nothing_is_left(bed: &Testbed, service: &str) -> Result<()> {
    wait_for(&format!("all containers of {service} to be removed"), REPAIR, || {
        for host in 0..3 {
            let left = bed.containers(host, service).map_err(|error| format!("{error:#}"))?;
            if !left.is_empty() {
                return Err(format!("h{host}: {left:?}"));
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The unmodified docker CLI, on a socket of shoal's.
fn the_docker_command_line_works(bed: &Testbed) -> Result<()> {
    bed.host(1).docker_by_shoal([
        "service",
        "create",
        "--quiet",
        "--no-resolve-image",
        "--name",
        "dock",
        "--replicas",
        "4",
        "--stop-signal",
        "SIGKILL",
        BUSYBOX,
        "sleep",
        "1d",
    ])?;
    ensure!(bed.running("dock").is_exactly(4).is_ok(), "{}", bed.running("dock"));
    let list = bed.host(2).docker_by_shoal(["service", "ls"])?;
    ensure!(list.contains("dock") && list.contains("4/4"), "{list}");
    let tasks = bed.host(0).docker_by_shoal(["service", "ps", "dock"])?;
    ensure!(tasks.matches("Running").count() >= 8, "desired and current of four: {tasks}");
    let nodes = bed.host(0).docker_by_shoal(["node", "ls"])?;
    ensure!(nodes.matches("Ready").count() == 3, "{nodes}");
    let shown = bed.host(2).docker_by_shoal(["service", "inspect", "--pretty", "dock"])?;
    ensure!(shown.contains(BUSYBOX), "{shown}");
    bed.host(2).docker_by_shoal(["service", "scale", "-d", "dock=6"])?;
    bed.wait_running("dock", 6, REPAIR)?;
    // What Swarm has no part in is the local engine's.
    let local = bed.host(2).docker_by_shoal(["ps", "-q"])?;
    ensure!(local.lines().count() == bed.running("dock").on(2), "{local}");
    bed.host(0).docker_by_shoal(["service", "rm", "dock"])?;
    bed.wait_running("dock", 0, REPAIR)?;
    nothing_is_left(bed, "dock")
}

fn logs_come_from_all_hosts(bed: &Testbed) -> Result<()> {
    let talk = "i=0; while :; do i=$((i+1)); echo line $i of $NAME; sleep 1; done";
    bed.host(0).shoal([
        "service",
        "create",
        "--name",
        "talk",
        "--replicas",
        "3",
        "--env",
        "NAME={{.Task.Slot}}",
        "--stop-signal",
        "SIGKILL",
        BUSYBOX,
        "sh",
        "-c",
        talk,
    ])?;
    // Each line carries its slot and its host, whichever node is asked.
    let tags: Vec<String> = bed
        .running("talk")
        .containers()
        .map(|(host, one)| format!("talk.{}@h{host}", one.slot.unwrap_or_default()))
        .collect();
    ensure!(tags.len() == 3, "{tags:?}");
    for host in 0..3 {
        for tag in &tags {
            bed.wait_said(host, &["service", "logs", "talk"], tag, secs(20))?;
        }
    }
    // Followed: later lines arrive from all of them.
    let api = bed.host(1).shoal_api().url();
    let binary = bed.host(1).shoal_up_argv()?.remove(0);
    let words = [&binary, "--host", &api, "service", "logs", "-f", "--tail", "1", "talk"];
    let follower = bed.host(1).spawn("follow", &words.map(String::from), &[])?;
    let log = bed.host(1).log("follow");
    wait_for("three more lines of each replica", secs(30), || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let enough = |tag: &String| said.lines().filter(|line| line.contains(tag)).count() >= 4;
        if tags.iter().all(enough) { Ok(()) } else { Err(said) }
    })?;
    ensure!(follower.is_alive(), "`logs -f` ended by itself");
    follower.signal(Signal::SIGKILL)?;
    bed.host(0).shoal(["service", "rm", "talk"])?;
    bed.wait_running("talk", 0, REPAIR)?;
    nothing_is_left(bed, "talk")
}

fn the_exit_code_tells(bed: &Testbed) -> Result<()> {
    let code = |words: &[&str]| -> Result<(Option<i32>, String)> {
        let output = bed.host(0).shoal_try(words, REPAIR)?;
        Ok((output.status.code(), output.complaint().to_string()))
    };
    let (refused, said) = code(&["service", "ps", "nobody"])?;
    ensure!(refused == Some(1) && said.contains("nobody"), "{refused:?} {said}");
    let (wrong, said) = code(&["service", "create", "--replicas", "many", BUSYBOX])?;
    ensure!(wrong == Some(2) && said.contains("many"), "{wrong:?} {said}");
    let nowhere = ["--constraint", "node.hostname==nowhere", "--timeout", "2s", "--name", "stuck"];
    let mut words = vec!["service", "create"];
    words.extend(nowhere);
    words.extend([BUSYBOX, "sleep", "1d"]);
    let (waiting, said) = code(&words)?;
    ensure!(waiting == Some(3) && said.contains("stuck"), "{waiting:?} {said}");
    ensure!(said.contains("constraints not satisfied"), "progress gives no reason: {said}");
    bed.host(0).shoal(["service", "rm", "stuck"])?;
    let (lost, said) = code(&["--host", "unix:///nowhere.sock", "service", "ls"])?;
    ensure!(lost == Some(4) || lost == Some(2), "{lost:?} {said}");
    Ok(())
}

#[test]
fn updates_go_one_by_one_and_stop_when_they_fail() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 6, &["--update-monitor", "1s"])?;
    bed.wait_running("web", 6, REPAIR)?;

    // Stop-first, one at a time: never more than one slot down.
    let (watch, first) = (bed.watch(), bed.running("web").ids());
    bed.host(1).shoal(["service", "update", "--env-add", "V=2", "web"])?;
    let second = bed.running("web");
    ensure!(second.is_exactly(6).is_ok() && second.ids().is_disjoint(&first), "{second}");
    let (fewest, most) = watch.fewest_and_most("web", &first);
    ensure!(
        (fewest, most) == (5, 6),
        "{fewest} to {most} ran during a stop-first update: {:#?}",
        watch.happenings()
    );
    ensure!(watch.starts("web").len() == 6, "{:?}", watch.starts("web"));

    // Start-first: never fewer than wanted.
    let (watch, second) = (bed.watch(), second.ids());
    let order = ["--update-order", "start-first", "--env-add", "V=3"];
    let mut words = vec!["service", "update"];
    words.extend(order);
    words.push("web");
    bed.host(2).shoal_with(&words)?;
    let third = bed.running("web");
    ensure!(third.is_exactly(6).is_ok() && third.ids().is_disjoint(&second), "{third}");
    let (fewest, most) = watch.fewest_and_most("web", &second);
    ensure!(fewest == 6 && most <= 8, "{fewest} to {most} ran during a start-first update");

    failing_updates_pause(&bed)?;
    several_at_once(&bed)?;
    an_update_outlives_its_stewards(&mut bed)?;
    bed.done()
}

fn failing_updates_pause(bed: &Testbed) -> Result<()> {
    let before = bed.running("web").ids();
    let words = ["service", "update", "--image", "shoal/nonesuch:1", "web"];
    let output = bed.host(0).shoal_try(&words, REPAIR)?;
    let said = output.complaint();
    ensure!(output.status.code() == Some(3), "{:?} {said}", output.status);
    ensure!(said.contains("update paused") && said.contains("nonesuch"), "{said}");
    let left = bed.running("web").ids();
    ensure!(left.len() >= 5 && left.is_subset(&before), "{}", bed.running("web"));
    let shown = bed.host(1).shoal_json(["service", "inspect", "web"])?;
    ensure!(shown[0]["UpdateStatus"]["State"] == "paused", "{}", shown[0]["UpdateStatus"]);
    bed.wait_said(2, &["service", "ps", "--no-trunc", "web"], "nonesuch", secs(10))?;

    // Back: what still runs is of the old spec already and is not touched.
    bed.host(1).shoal(["service", "rollback", "web"])?;
    let count = bed.running("web");
    ensure!(count.is_exactly(6).is_ok() && left.is_subset(&count.ids()), "{count}");

    // A command that ends at once, with the rollback left to shoal.
    let before = bed.running("web").ids();
    let words = [
        "service",
        "update",
        "--update-failure-action",
        "rollback",
        "--args",
        "sh -c 'exit 7'",
        "--restart-delay",
        "1s",
        "web",
    ];
    let output = bed.host(2).shoal_try(&words, REPAIR)?;
    let said = output.complaint();
    ensure!(output.status.code() == Some(3) && said.contains("rolled back"), "{output:?}");
    bed.wait_running("web", 6, REPAIR)?;
    let same = bed.running("web").ids().intersection(&before).count();
    ensure!(same >= 4, "a rollback of what hardly began replaced {} of 6", 6 - same);
    Ok(())
}

fn several_at_once(bed: &Testbed) -> Result<()> {
    let (watch, before) = (bed.watch(), bed.running("web").ids());
    let words = [
        "service",
        "update",
        "--update-parallelism",
        "3",
        "--update-order",
        "stop-first",
        "--force",
        "web",
    ];
    bed.host(0).shoal(words)?;
    let count = bed.running("web");
    ensure!(count.is_exactly(6).is_ok() && count.ids().is_disjoint(&before), "{count}");
    let (fewest, most) = watch.fewest_and_most("web", &before);
    ensure!((3..6).contains(&fewest) && most == 6, "{fewest} to {most} ran, three at once");
    ensure!(watch.of("web", Act::Started).len() == 6, "{:?}", watch.starts("web"));
    Ok(())
}

/// The host that drives the update crashes half way; the next steward goes on at that place. Then that one too.
fn an_update_outlives_its_stewards(bed: &mut Testbed) -> Result<()> {
    for round in ["first", "second"] {
        let steward = steward_of(bed, "web")?;
        let others: Vec<usize> =
            bed.running_hosts().into_iter().filter(|host| *host != steward).collect();
        let asked = *others.first().context("a host that stays")?;
        let watch = Watch::start(bed.engines(&others));
        let before = bed.running_on(&others, "web").ids();
        let all = bed.watch();
        let value = format!("ROUND={round}");
        let words = ["service", "update", "--detach", "--update-parallelism", "1", "--env-add"];
        let words: Vec<&str> = words.into_iter().chain([value.as_str(), "web"]).collect();
        bed.host(asked).shoal_with(&words)?;
        wait_for("the update to be half way", REPAIR, || match all.starts("web").len() {
            few @ 0..2 => Err(format!("{few} starts")),
            _ => Ok(()),
        })?;
        ensure!(steward_of(bed, "web")? == steward, "another host became the steward meanwhile");
        bed.crash(steward)?;
        let updated = |bed: &Testbed| -> Result<usize> {
            let mut updated = 0;
            for (on, one) in bed.running("web").containers() {
                let env = ["inspect", "-f", "{{.Config.Env}}", &one.id];
                updated += usize::from(bed.host(on).docker(env)?.contains(&value));
            }
            Ok(updated)
        };
        wait_for("all six to be of the new spec", REPAIR, || {
            let count = bed.running("web");
            count.is_exactly(6)?;
            match updated(bed) {
                Ok(6) => Ok(()),
                other => Err(format!("{count}, {other:?} updated")),
            }
        })?;
        bed.wait_said(asked, &["service", "inspect", "web"], "\"State\": \"completed\"", secs(30))?;
        // Stop-first, one at a time: the lost host's replicas come on top of those of the hosts that stayed.
        let (fewest, _) = watch.fewest_and_most("web", &before);
        let most_down = before.len() - fewest;
        ensure!(most_down <= 1, "{most_down} were down at once: {:#?}", watch.happenings());
    }
    Ok(())
}

/// The host that is responsible for a service's rollouts, by the rule that all nodes go by.
fn steward_of(bed: &Testbed, service: &str) -> Result<usize> {
    let asked = bed.host(*bed.running_hosts().first().context("a host that runs")?);
    let shown = asked.shoal_json(["service", "inspect", service])?;
    let id: ServiceId = shown[0]["ID"].as_str().context("an id")?.parse()?;
    let mut nodes: BTreeMap<NodeId, usize> = BTreeMap::new();
    for index in bed.running_hosts() {
        let me = bed.host(index).docker_by_shoal(["info", "--format", "{{.Swarm.NodeID}}"])?;
        nodes.insert(me.trim().parse()?, index);
    }
    let steward = placement::steward(id, nodes.keys().copied()).context("nobody is there")?;
    nodes.get(&steward).copied().context("a host of the bed")
}
