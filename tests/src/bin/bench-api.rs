//! `cargo run --release -p tests --bin bench-api`: how fast a node answers when there is much to tell.
//!
//! Starts a few nodes on the loopback with the built-in process runtime, fills them (300 services of ten replicas
//! unless told otherwise, each a sleeping process), and then asks one node over and over what the docker
//! command line asks for `service ls`, `service ps` and `node ls`. Needs neither root nor Docker, and some 2 GB of
//! memory for the processes. The last rounds are taken while other clients hold connections open, send garbage and
//! ask for everything at once.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tests::{secs, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The answer that is wanted in 99 of 100 cases.
const WANTED: Duration = Duration::from_millis(100);
/// For the nodes to meet and for all replicas to run.
const FILL: Duration = secs(600);

/// How fast a node answers when there is much to tell
#[derive(Parser, Debug)]
struct Arguments {
    /// Services
    #[arg(long, default_value_t = 300)]
    services: usize,
    /// Replicas of each
    #[arg(long, default_value_t = 10)]
    replicas: usize,
    /// Nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How often each question is asked
    #[arg(long, default_value_t = 500)]
    requests: usize,
    /// The shoal binary; build it with --release
    #[arg(long)]
    shoal: Option<PathBuf>,
}

/// A node; ended when dropped, and what it started with it.
struct Node {
    child: Child,
    socket: PathBuf,
    addr: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn start(
        shoal: &Path,
        folder: &Path,
        index: usize,
        join: Option<(SocketAddr, &str)>,
    ) -> Result<Node> {
        let name = format!("n{index}");
        let addr = free_addr()?;
        let socket = folder.join(format!("{name}.sock"));
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
        let mut command = Command::new(shoal);
        command
            .args(["up", "--runtime", "process", "--profile", "lan", "--config", "/dev/null"])
            .args(["--name", &name, "--listen", &addr.to_string(), "--log", "warn"])
            .arg("--data-dir")
            .arg(folder.join(&name))
            .args(["--api", &format!("unix://{}", socket.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some((member, token)) = join {
            command.args(["--join", &member.to_string(), "--token", token]);
        }
        let child = command.spawn().with_context(|| format!("starting {}", shoal.display()))?;
        let node = Node { child, socket, addr };
        wait_for("a node's answer", secs(30), || {
            node.cli(shoal, &["status"]).map_err(|error| format!("{error:#}"))
        })?;
        Ok(node)
    }

    fn cli(&self, shoal: &Path, words: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.socket.display());
        let output = Command::new(shoal).args(["--host", &host]).args(words).output()?;
        if !output.status.success() {
            bail!("shoal {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn free_addr() -> Result<SocketAddr> {
    for _ in 0..50 {
        let addr = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    bail!("no port is free for both UDP and TCP")
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shoal = arguments.shoal.clone().or_else(tests::shoal::find_binary);
    let shoal = shoal.context("no shoal binary found: build it with cargo build --release")?;
    let folder = tempfile::tempdir()?;
    let mut nodes = vec![Node::start(&shoal, folder.path(), 0, None)?];
    let token = nodes[0].cli(&shoal, &["token"])?.trim().to_owned();
    for index in 1..arguments.nodes {
        let join = Some((nodes[0].addr, token.as_str()));
        nodes.push(Node::start(&shoal, folder.path(), index, join)?);
    }
    let filled = fill(&arguments, &nodes[0]).await;
    let measured = match filled {
        Ok(()) => measure(&arguments, &shoal, &nodes[0]).await,
        Err(error) => Err(error),
    };
    // The nodes are asked to end what they started before they are ended themselves.
    let emptied = empty(&arguments, &nodes[0]).await;
    measured.and(emptied)
}

fn spec(index: usize, replicas: usize) -> Value {
    json!({
        "Name": format!("service-{index}"),
        "Labels": { "com.docker.stack.namespace": format!("stack-{}", index % 20) },
        "TaskTemplate": { "ContainerSpec": { "Image": "sleep", "Command": ["sleep"], "Args": ["1000000"] } },
        "Mode": { "Replicated": { "Replicas": replicas } },
    })
}

async fn fill(arguments: &Arguments, node: &Node) -> Result<()> {
    let begun = Instant::now();
    for index in 0..arguments.services {
        let body = spec(index, arguments.replicas).to_string();
        let answer = ask(&node.socket, "POST", "/services/create", &body).await?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "creating a service: {answer}");
    }
    println!("{} services created in {:.1} s", arguments.services, begun.elapsed().as_secs_f64());
    let wanted = arguments.services * arguments.replicas;
    loop {
        let running = running(node).await?;
        if running == wanted {
            break;
        }
        ensure!(begun.elapsed() < FILL, "{running} of {wanted} run after {} s", FILL.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("{wanted} tasks running after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn running(node: &Node) -> Result<usize> {
    let services = body(&ask(&node.socket, "GET", "/services?status=true", "").await?)?;
    let of = |one: &Value| one["ServiceStatus"]["RunningTasks"].as_u64().unwrap_or(0);
    let count: u64 = services.as_array().into_iter().flatten().map(of).sum();
    Ok(usize::try_from(count)?)
}

async fn empty(arguments: &Arguments, node: &Node) -> Result<()> {
    for index in 0..arguments.services {
        ask(&node.socket, "DELETE", &format!("/services/service-{index}"), "").await?;
    }
    let begun = Instant::now();
    loop {
        let tasks = body(&ask(&node.socket, "GET", "/tasks", "").await?)?;
        let left = tasks.as_array().map_or(0, Vec::len);
        if left == 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < FILL, "{left} tasks are left after {} s", FILL.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What the docker command line asks for each of its commands.
fn questions() -> Vec<(&'static str, Vec<String>)> {
    let encoded = |filter: &str| -> String {
        let text = filter.bytes();
        text.map(|b| {
            if b.is_ascii_alphanumeric() || b == b'-' {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
    };
    let name = encoded(r#"{"name":{"service-17":true}}"#);
    let tasks = encoded(r#"{"service":{"service-17":true}}"#);
    vec![
        ("service ls", vec!["/services?status=true".to_owned()]),
        (
            "service ps",
            vec![
                format!("/services?filters={name}"),
                format!("/tasks?filters={tasks}"),
                "/services/service-17".to_owned(),
                "/nodes".to_owned(),
            ],
        ),
        ("node ls", vec!["/nodes".to_owned(), "/info".to_owned()]),
        ("all tasks", vec!["/tasks".to_owned()]),
    ]
}

async fn measure(arguments: &Arguments, shoal: &Path, node: &Node) -> Result<()> {
    println!(
        "\n| asked | p50, ms | p99, ms | most, ms | wanted |\n| --- | --- | --- | --- | --- |"
    );
    let mut missed = asked(arguments, node, "").await?;
    for words in [&["service", "ls"][..], &["service", "ps", "service-17"], &["node", "ls"]] {
        let mut times = Vec::new();
        for _ in 0..arguments.requests.div_ceil(5) {
            let begun = Instant::now();
            node.cli(shoal, words)?;
            times.push(begun.elapsed());
        }
        row(&format!("`shoal {}`, the whole process", words.join(" ")), &mut times, false);
    }
    let hostile = hostile(node)?;
    missed += asked(arguments, node, ", beside hostile clients").await?;
    drop(hostile);
    ensure!(missed == 0, "{missed} answers were too slow");
    Ok(())
}

async fn asked(arguments: &Arguments, node: &Node, note: &str) -> Result<usize> {
    let mut missed = 0;
    for (name, paths) in questions() {
        let mut times = Vec::new();
        for _ in 0..arguments.requests {
            let begun = Instant::now();
            for path in &paths {
                let answer = ask(&node.socket, "GET", path, "").await?;
                ensure!(
                    answer.starts_with("HTTP/1.1 200"),
                    "{path}: {}",
                    answer.lines().next().unwrap_or_default()
                );
            }
            times.push(begun.elapsed());
        }
        // All tasks at once is more than any of the three asks for.
        let judged = name != "all tasks";
        missed += usize::from(!row(&format!("{name}{note}"), &mut times, judged));
    }
    Ok(missed)
}

/// Prints a row; whether it is as wanted.
fn row(name: &str, times: &mut [Duration], judged: bool) -> bool {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let kept = at(99) <= WANTED;
    let wanted = match (judged, kept) {
        (false, _) => "",
        (true, true) => "100: kept",
        (true, false) => "100: missed",
    };
    println!("| {name} | {:.1} | {:.1} | {:.1} | {wanted} |", ms(at(50)), ms(at(99)), ms(at(100)));
    kept || !judged
}

/// Fifty connections that say nothing, fifty with half a head, and a thousand requests at once, again and again.
fn hostile(node: &Node) -> Result<(Vec<UnixStream>, Flood)> {
    let mut held = Vec::new();
    for index in 0..100 {
        let mut stream = UnixStream::connect(&node.socket)?;
        if index % 2 == 0 {
            stream.write_all(b"GET /services HTTP/1.1\r\nHost: \xff\xfe garb")?;
        }
        held.push(stream);
    }
    let socket = node.socket.clone();
    let flood = tokio::spawn(async move {
        loop {
            let all = (0..1000).map(|_| ask(&socket, "GET", "/nodes", ""));
            // Some may be refused; that they are all sent at once is the point.
            futures_util::future::join_all(all).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    Ok((held, Flood(flood)))
}

struct Flood(tokio::task::JoinHandle<()>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One request on a connection of its own, as the command line makes them; the whole answer as text.
async fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: shoal\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The JSON of an answer that is not sent in pieces.
fn body(answer: &str) -> Result<Value> {
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    serde_json::from_str(body)
        .with_context(|| format!("not JSON: {}", body.chars().take(200).collect::<String>()))
}
