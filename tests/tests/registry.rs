//! Point 2, run: images that no host has are fetched on each, with the credentials that came with the service.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::registry::Registry;
use tests::run::{self, TOOL_BOUND};
use tests::{Testbed, secs, wait_for};

const USER: &str = "reader";
/// Needs a letter in which base64's two alphabets differ, in whatever place it comes to stand.
const PASSWORD: &str = "s?>~?>~?>~?>~t";
const PULLED: std::time::Duration = secs(60);

#[test]
fn images_are_fetched_on_every_host_with_the_services_credentials() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    let registry = Registry::start(&bed, 0, &["team/app", "team/other"], USER, PASSWORD)?;
    log_in(&bed, &registry)?;
    it_is_fetched_everywhere(&bed, &registry)?;
    without_credentials_the_reason_is_said_until_there_are_some(&bed, &registry)?;
    what_the_registry_does_not_have_is_said(&bed, &registry)?;
    nobody_is_shown_the_password(&bed)?;
    bed.done()
}

/// As `docker login` does, which would ask the registry first: from here it cannot be reached.
fn log_in(bed: &Testbed, registry: &Registry) -> Result<()> {
    let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = json!({ "auths": { registry.address(): { "auth": auth } } });
    let folder = bed.directory().join("login");
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join("config.json"), config.to_string())?)
}

/// The docker command line against shoal on the first host, by somebody who is logged in.
fn docker(bed: &Testbed, words: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.arg("--config").arg(bed.directory().join("login"));
    command.args(["-H", &bed.host(0).shoal_api().url()]).args(words);
    run::succeed(&mut command, b"", TOOL_BOUND)
}

fn create(bed: &Testbed, name: &str, image: &str, flags: &[&str]) -> Result<()> {
    let mut words = vec!["service", "create", "--detach", "--name", name, "--replicas", "3"];
    words.extend(flags);
    words.extend([image, "sleep", "1000000"]);
    docker(bed, &words)?;
    Ok(())
}

fn it_is_fetched_everywhere(bed: &Testbed, registry: &Registry) -> Result<()> {
    let image = format!("{}/team/app:1", registry.address());
    // The command line asks the local engine which bytes the tag stands for, and pins them.
    create(bed, "app", &image, &["--with-registry-auth"])?;
    bed.wait_running("app", 3, PULLED)?;
    ensure!(bed.running("app").unevenness() == 0, "{}", bed.running("app"));
    let hosts: Vec<String> = bed.hosts().iter().map(|host| host.address().to_owned()).collect();
    let fetched: Vec<String> =
        registry.fetched("team/app").iter().map(ToString::to_string).collect();
    ensure!(fetched == hosts, "fetched by {fetched:?}, not by all of {hosts:?}");
    Ok(())
}

fn without_credentials_the_reason_is_said_until_there_are_some(
    bed: &Testbed,
    registry: &Registry,
) -> Result<()> {
    let image = format!("{}/team/other:1", registry.address());
    create(bed, "other", &image, &["--no-resolve-image"])?;
    wait_for("the refusal of every host", PULLED, || reasons(bed, "other", "no basic auth"))?;
    ensure!(bed.running("other").total() == 0, "{}", bed.running("other"));
    // New credentials are no new template, and what was refused is tried again by itself.
    docker(
        bed,
        &["service", "update", "--detach", "--no-resolve-image", "--with-registry-auth", "other"],
    )?;
    bed.wait_running("other", 3, PULLED)?;
    // An update that says nothing of credentials keeps them.
    docker(
        bed,
        &["service", "update", "--detach", "--no-resolve-image", "--env-add", "A=1", "other"],
    )?;
    bed.host(1).docker_by_shoal(["service", "rm", "other"])?;
    bed.wait_running("other", 0, PULLED)?;
    Ok(())
}

fn what_the_registry_does_not_have_is_said(bed: &Testbed, registry: &Registry) -> Result<()> {
    let image = format!("{}/team/none:1", registry.address());
    create(bed, "none", &image, &["--no-resolve-image", "--with-registry-auth"])?;
    wait_for("the reason", PULLED, || reasons(bed, "none", "manifest unknown"))?;
    bed.host(2).docker_by_shoal(["service", "rm", "none"])?;
    Ok(())
}

/// Whether tasks on all three hosts were rejected for this reason, and for the missing image.
fn reasons(bed: &Testbed, service: &str, wanted: &str) -> Result<(), String> {
    let said = bed.host(1).shoal_json(["service", "ps", service]).map_err(|e| format!("{e:#}"))?;
    let tasks = said.as_array().cloned().unwrap_or_else(|| vec![said.clone()]);
    let texts: Vec<String> = tasks.iter().map(Value::to_string).collect();
    let fits = |task: &&Value| {
        let why = task["error"].as_str().unwrap_or_default();
        why.contains("No such image") && why.contains(wanted)
    };
    let told: BTreeSet<&str> =
        tasks.iter().filter(fits).filter_map(|task| task["node"].as_str()).collect();
    if told.len() == 3 { Ok(()) } else { Err(texts.join("\n")) }
}

fn nobody_is_shown_the_password(bed: &Testbed) -> Result<()> {
    let secrets = [PASSWORD.to_owned(), STANDARD.encode(format!("{USER}:{PASSWORD}"))];
    let mut shown = Vec::new();
    for host in bed.hosts() {
        shown.push(host.docker_by_shoal(["service", "inspect", "app"])?);
        shown.push(std::fs::read_to_string(host.log("shoal"))?);
        let ids = host.docker(["ps", "-q"])?;
        for id in ids.split_whitespace() {
            shown.push(host.docker(["inspect", id])?);
        }
    }
    let told = shown.iter().any(|text| secrets.iter().any(|secret| text.contains(secret)));
    ensure!(!told, "the password is in what shoal or an engine shows");
    Ok(())
}
