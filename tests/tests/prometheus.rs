//! Prometheus finds its targets by a shoal socket, with `dockerswarm_sd_configs` as it is.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::image::BUSYBOX;
use tests::{Testbed, needs, run, secs, wait_for};

#[test]
fn prometheus_finds_nodes_and_tasks() -> Result<()> {
    needs::find("promtool")
        .context("promtool is not on PATH: apt-get install prometheus (tests/run does it)")?;
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    // A published port is what a task is scraped at.
    let publish = ["--publish", "mode=host,target=80,published=8080", "--label", "team=a"];
    bed.create(0, "web", 3, &publish)?;
    bed.wait_running("web", 3, secs(60))?;
    ensure!(bed.host(0).docker_by_shoal(["service", "ls"])?.contains(BUSYBOX));

    let nodes = found(&bed, "nodes")?;
    let hosts = labels(&nodes, "__meta_dockerswarm_node_hostname");
    ensure!(hosts == ["h0", "h1", "h2"], "{hosts:?}");
    let addresses = labels(&nodes, "__address__");
    let expected = bed.hosts().iter().map(|host| format!("{}:80", host.address()));
    ensure!(addresses == expected.collect::<Vec<_>>(), "{addresses:?}");

    let tasks = found(&bed, "tasks")?;
    let addresses = labels(&tasks, "__address__");
    let expected = bed.hosts().iter().map(|host| format!("{}:8080", host.address()));
    ensure!(addresses == expected.collect::<Vec<_>>(), "{addresses:?}");
    ensure!(labels(&tasks, "__meta_dockerswarm_service_name").iter().all(|name| name == "web"));
    ensure!(labels(&tasks, "__meta_dockerswarm_service_label_team").iter().all(|team| team == "a"));
    ensure!(labels(&tasks, "__meta_dockerswarm_task_state").iter().all(|state| state == "running"));

    // Services are found by their virtual IPs: asking for them is answered, with none.
    let services = found(&bed, "services")?;
    ensure!(services.is_empty(), "{services:?}");
    bed.done()
}

/// The targets that Prometheus' own tool discovers for a role.
fn found(bed: &Testbed, role: &str) -> Result<Vec<Value>> {
    let api = bed.host(1).shoal_api().url();
    let config = bed.directory().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "scrape_configs:\n- job_name: shoal\n  dockerswarm_sd_configs:\n  - host: {api}\n    role: {role}\n    refresh_interval: 1s\n"
        ),
    )?;
    let look = || {
        let mut command = Command::new("promtool");
        command.args(["check", "service-discovery", "--timeout", "4s"]).arg(&config).arg("shoal");
        let said =
            run::succeed(&mut command, b"", secs(30)).map_err(|error| format!("{error:#}"))?;
        let list = said.find('[').map_or("[]", |at| &said[at..]);
        serde_json::from_str::<Vec<Value>>(list).map_err(|error| format!("{error}: {said}"))
    };
    Ok(wait_for(&format!("promtool to discover {role}"), secs(30), look)?.0)
}

/// One label of all targets, sorted.
fn labels(targets: &[Value], label: &str) -> Vec<String> {
    let text =
        |target: &Value| target["discoveredLabels"][label].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = targets.iter().map(text).collect();
    all.sort();
    all
}
