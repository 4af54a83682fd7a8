//! Swarm's own words against shoal's sockets, by the real docker command line, as people type them on new hosts:
//! `swarm init` on the first, `join-token`, `swarm join` on the others, `swarm leave`. Wrong tokens and addresses
//! cost nothing, and a node that has something keeps it.

use anyhow::{Result, ensure};
use tests::{Testbed, run, secs, wait_for};

#[test]
fn a_cluster_is_made_with_swarm_init_and_join_alone() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    // Nobody is told of anybody: three clusters of one.
    for host in 0..3 {
        bed.host_mut(host).start_shoal()?;
    }
    let first = bed.host(0).address().to_owned();
    let init = bed.host(0).docker_by_shoal(["swarm", "init", "--advertise-addr", &first])?;
    ensure!(init.contains("docker swarm join --token SHOAL-1-"), "{init}");
    let token = bed.host(0).docker_by_shoal(["swarm", "join-token", "-q", "worker"])?;
    let token = token.trim();

    what_cannot_be_joined_changes_nothing(&bed, token)?;
    what_a_node_has_it_keeps(&bed, token)?;

    // With Swarm's port, and with none.
    let join = ["swarm", "join", "--token", token, &first];
    let (said, _) = wait_for("the last task to be gone and h1 to join", secs(60), || {
        bed.host(1).docker_by_shoal(join).map_err(|error| format!("{error:#}"))
    })?;
    ensure!(said.contains("This node joined a swarm as a manager."), "{said}");
    bed.wait_members(&[0, 1], secs(60))?;
    let second = format!("{}:2377", bed.host(1).address());
    bed.host(2).docker_by_shoal(["swarm", "join", "--token", token, &second])?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    let again = refused(&bed, 2, &["swarm", "join", "--token", token, &first])?;
    ensure!(again.contains("This node is already part of a swarm"), "{again}");
    bed.create(2, "web", 6, &[])?;
    bed.wait_running("web", 6, secs(60))?;

    // Nobody has to be told anything when processes start again.
    let before = bed.running("web").ids();
    for host in 0..3 {
        bed.host_mut(host).kill_shoal()?;
    }
    for host in 0..3 {
        bed.host_mut(host).start_shoal()?;
    }
    bed.wait_members(&[0, 1, 2], secs(60))?;
    bed.stays_as("web", &before, secs(8))?;

    let asked = refused(&bed, 2, &["swarm", "leave"])?;
    ensure!(asked.contains("--force"), "{asked}");
    bed.host(2).docker_by_shoal(["swarm", "leave", "--force"])?;
    bed.wait_members(&[0, 1], secs(60))?;
    bed.wait_running_on(&[0, 1], "web", 6, secs(60))?;
    ensure!(bed.running_on(&[2], "web").total() == 0, "something was left behind");
    bed.done()
}

/// What the docker command line says about a command that shoal on a host must refuse.
fn refused(bed: &Testbed, host: usize, words: &[&str]) -> Result<String> {
    let api = bed.host(host).shoal_api().url();
    let mut command = std::process::Command::new("docker");
    command.env_clear().envs(run::inherited_environment()).args(["-H", &api]).args(words);
    let output = run::run(&mut command, b"", secs(60))?;
    ensure!(!output.status.success(), "{words:?} was not refused: {output:?}");
    Ok(output.complaint().to_owned())
}

fn cluster_id(bed: &Testbed, host: usize) -> Result<String> {
    let shown = bed.host(host).docker_by_shoal(["info", "--format", "{{.Swarm.Cluster.ID}}"])?;
    Ok(shown.trim().to_owned())
}

fn what_cannot_be_joined_changes_nothing(bed: &Testbed, token: &str) -> Result<()> {
    let before = cluster_id(bed, 1)?;
    let first = bed.host(0).address();
    let others = bed.host(2).docker_by_shoal(["swarm", "join-token", "-q", "worker"])?;
    let said = refused(bed, 1, &["swarm", "join", "--token", others.trim(), first])?;
    ensure!(said.contains("does not accept this node's token"), "{said}");
    let said = refused(bed, 1, &["swarm", "join", "--token", "SWMTKN-1-x-y", first])?;
    ensure!(said.contains("invalid join token"), "{said}");
    let said = refused(bed, 1, &["swarm", "join", "--token", token, "10.255.255.1:2377"])?;
    ensure!(said.contains("Nothing was changed"), "{said}");
    ensure!(cluster_id(bed, 1)? == before, "it is in another cluster");
    Ok(())
}

fn what_a_node_has_it_keeps(bed: &Testbed, token: &str) -> Result<()> {
    bed.create(1, "mine", 1, &[])?;
    bed.wait_running("mine", 1, secs(60))?;
    let said = refused(bed, 1, &["swarm", "join", "--token", token, bed.host(0).address()])?;
    ensure!(said.contains("would be lost"), "{said}");
    bed.host(1).docker_by_shoal(["service", "rm", "mine"])?;
    bed.wait_running("mine", 0, secs(60))?;
    Ok(())
}
