//! `cargo run --release -p tests --bin bench-load`: what clients notice while a service is changed and hosts fail.
//!
//! Three real hosts of this machine, a service whose port is published on all of them and that is on an overlay network.
//! A load generator in a container asks its virtual address and its port on another host, one connection for each
//! request, through a quiet time, scaling up and down, a rolling update and the crash of a host. Counted are the
//! answers, the errors and how long answers took. With `--swarm` the same is done to Docker Swarm, as far as its data
//! path works on this kernel: its virtual addresses and its routing mesh take IPVS.
#![allow(clippy::print_stdout, reason = "this is a command line: it speaks to a person")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use tests::image::BUSYBOX;
use tests::load::{Load, Served, requests};
use tests::{Host, Options, Testbed, secs, wait_for};

const BOUND: Duration = secs(120);
/// Before and after each change.
const MARGIN: Duration = secs(3);
const PUBLISHED: u16 = 8080;
const SERVER: &str = "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";

/// What clients notice while a service is changed and hosts fail
#[derive(Parser)]
#[command(name = "bench-load", version)]
struct Arguments {
    /// Replicas; scaled up to twice as many
    #[arg(long, default_value_t = 6)]
    replicas: usize,
    /// Requests at a time
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Docker Swarm instead of shoal
    #[arg(long)]
    swarm: bool,
    /// The shoal binary; build it with --release
    #[arg(long)]
    shoal: Option<PathBuf>,
    /// Write every figure here as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A cluster with its service, and from where to where requests go.
struct Scene {
    bed: Testbed,
    swarm: bool,
    client: i32,
    targets: Vec<SocketAddr>,
    threads: usize,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    requests: usize,
    errors: usize,
    half_ms: f64,
    p99_ms: f64,
    slowest_ms: f64,
    first_error: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut scene = Scene::up(&arguments)?;
    let all = arguments.replicas;
    if let Err(error) = scene.answers() {
        println!("requests are not answered at {:?}: {error:#}", scene.targets);
        return scene.bed.done();
    }
    scene.phase("quiet", |_| {
        std::thread::sleep(secs(10));
        Ok(())
    })?;
    for (what, replicas) in [("scaled up", 2 * all), ("scaled down", all)] {
        scene.phase(what, |scene| {
            let scale = format!("web={replicas}");
            scene.docker(&["service", "scale", "--detach", &scale])?;
            scene.bed.wait_running("web", replicas, BOUND).map(drop)
        })?;
    }
    scene.phase("updated", |scene| {
        let before = scene.bed.running("web").ids();
        let update = ["service", "update", "--detach", "--update-order", "start-first"];
        let words: Vec<&str> = update.into_iter().chain(["--env-add", "A=b", "web"]).collect();
        scene.docker(&words)?;
        wait_for("all replicas to be new ones", BOUND, || {
            let now = scene.bed.running("web").ids();
            let new = now.len() == all && now.is_disjoint(&before);
            if new { Ok(()) } else { Err(format!("{now:?}")) }
        })?;
        Ok(())
    })?;
    scene.phase("a host crashed", |scene| {
        scene.bed.crash(2)?;
        scene.bed.wait_running("web", all, BOUND).map(drop)
    })?;
    print(&scene.rows);
    if let Some(path) = arguments.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&scene.rows)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    scene.bed.done()
}

impl Scene {
    fn up(arguments: &Arguments) -> Result<Self> {
        let shoal = arguments.shoal.clone().or_else(tests::shoal::find_binary);
        let mut bed = Testbed::with(Options { shoal, ..Options::hosts(3) })?;
        if arguments.swarm {
            bed.swarm_up_all(3)?;
        } else {
            bed.shoal_up_all()?;
        }
        let threads = arguments.threads;
        let (client, targets, rows) = (0, Vec::new(), Vec::new());
        let mut scene = Self { bed, swarm: arguments.swarm, client, targets, threads, rows };
        scene.docker(&["network", "create", "-d", "overlay", "--attachable", "app"])?;
        let replicas = arguments.replicas.to_string();
        let mut create = vec!["service", "create", "--detach", "--name", "web"];
        create.extend(["--network", "app", "--publish", "8080:80", "--replicas", &replicas]);
        create.extend(["--stop-signal", "SIGKILL", "--health-interval", "500ms"]);
        create.extend(["--health-cmd", "wget -q -O /dev/null http://127.0.0.1/"]);
        create.extend(["--health-retries", "5", "--no-resolve-image"]);
        create.extend([BUSYBOX, "sh", "-c", SERVER]);
        scene.docker(&create)?;
        scene.bed.wait_running("web", arguments.replicas, BOUND)?;
        let run = ["run", "-d", "--name", "client", "--network", "app", BUSYBOX, "sleep", "1d"];
        scene.docker(&run)?;
        let pid = scene.bed.host(0).docker(["inspect", "-f", "{{.State.Pid}}", "client"])?;
        scene.client = pid.trim().parse().context("the container's process")?;
        let other = SocketAddr::new(scene.bed.host(1).address().parse()?, PUBLISHED);
        scene.targets = vec![other, scene.virtual_address()?];
        Ok(scene)
    }

    /// The docker command line of the first host, through whoever orchestrates.
    fn docker(&self, words: &[&str]) -> Result<String> {
        let host: &Host = self.bed.host(0);
        if self.swarm { host.docker_with(words) } else { host.docker_by_shoal_with(words) }
    }

    fn virtual_address(&self) -> Result<SocketAddr> {
        let format = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}\n{{end}}";
        let said = self.docker(&["service", "inspect", "-f", format, "web"])?;
        let id = self.docker(&["network", "inspect", "-f", "{{.Id}}", "app"])?;
        let line = said.lines().find(|line| line.starts_with(id.trim()));
        let address = line.and_then(|line| line.split([' ', '/']).nth(1)).unwrap_or_default();
        format!("{address}:80").parse().with_context(|| format!("the service's addresses: {said}"))
    }

    /// Waits until both targets answer.
    fn answers(&self) -> Result<()> {
        for target in &self.targets {
            wait_for(&format!("answers at {target}"), secs(30), || {
                let served =
                    requests(self.client, *target, 1).map_err(|error| format!("{error:#}"))?;
                if served.errors.is_empty() { Ok(()) } else { Err(format!("{served:?}")) }
            })?;
        }
        Ok(())
    }

    fn phase(
        &mut self,
        what: &'static str,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let load = Load::start(self.client, &self.targets, self.threads)?;
        std::thread::sleep(MARGIN);
        act(self)?;
        std::thread::sleep(MARGIN);
        let served = load.stop()?;
        let row = Row::of(what, &served);
        println!("{row:?}");
        self.rows.push(row);
        Ok(())
    }
}

impl Row {
    fn of(what: &'static str, served: &Served) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            what,
            requests: served.requests(),
            errors: served.errors.len(),
            half_ms: ms(served.percentile(50)),
            p99_ms: ms(served.percentile(99)),
            slowest_ms: ms(served.percentile(100)),
            first_error: served.errors.first().map(|(at, why)| format!("{at:.1?}: {why}")),
        }
    }
}

fn print(rows: &[Row]) {
    println!(
        "\n{:<16}{:>10}{:>8}{:>10}{:>10}{:>13}",
        "", "requests", "errors", "p50, ms", "p99, ms", "slowest, ms"
    );
    for row in rows {
        let Row { what, requests, errors, half_ms, p99_ms, slowest_ms, .. } = row;
        println!(
            "{what:<16}{requests:>10}{errors:>8}{half_ms:>10.1}{p99_ms:>10.1}{slowest_ms:>13.1}"
        );
    }
}
