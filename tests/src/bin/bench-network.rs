//! `cargo run --release -p tests --bin bench-network`: what a network between two hosts carries, and how fast it answers.
//!
//! Two real hosts of this machine. The same stream and the same questions go from host to host as they are, between
//! containers of an overlay network (VXLAN) and between containers of an encrypted one (TUN over QUIC). The ways take
//! turns, and what counts is their ratio within one run: the hosts share one machine, so that sender, receiver and
//! shoal compete for its cores, and no network card helps or hinders.
#![allow(clippy::print_stdout, reason = "this is a command line: it speaks to a person")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use serde::Serialize;
use tests::image::BUSYBOX;
use tests::load::inside;
use tests::process::Process;
use tests::{Host, Options, Testbed, secs, wait_for};

/// How long a network may take to carry its first packet.
const READY: Duration = secs(60);
/// A way that carries nothing for so long is broken.
const SILENCE: Duration = secs(10);
const PIECE: usize = 128 * 1024;
const QUESTION: usize = 64;

/// What a network between two hosts carries, and how fast it answers
#[derive(Parser)]
#[command(name = "bench-network", version)]
struct Arguments {
    /// How often each way is measured; medians need an odd number
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a stream lasts
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Questions one after the other in a round
    #[arg(long, default_value_t = 3000)]
    questions: usize,
    /// The shoal binary; build it with --release
    #[arg(long)]
    shoal: Option<PathBuf>,
    /// Write every figure here as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only print the process ids and keep streaming over the encrypted network for so many seconds, for a profiler
    #[arg(long, value_name = "SECONDS")]
    profile: Option<u64>,
}

/// From whom to whom: processes whose network namespaces are used, and where the second one is reached.
struct Way {
    name: &'static str,
    from: i32,
    to: i32,
    address: Ipv4Addr,
}

/// One round of one way.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    /// Of a stream, 10^6 bits a second, as received.
    megabits: f64,
    /// Of a question and its answer, in microseconds.
    half_us: f64,
    p99_us: f64,
    /// Processor time of both shoals while the stream went, in percent of one core, and its bytes for each such
    /// second, in 10^6.
    shoal_percent: f64,
    megabytes_per_cpu_second: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = arguments.shoal.clone().or_else(tests::shoal::find_binary);
    let mut bed = Testbed::with(Options { shoal: binary, ..Options::hosts(2) })?;
    bed.shoal_up_all()?;
    let ways = ways(&bed)?;
    let shoals: Vec<Process> = bed.hosts().iter().filter_map(Host::shoal_process).collect();
    for way in &ways {
        wait_for(&format!("the way {} to carry something", way.name), READY, || {
            ask(way, 1).map(drop).map_err(|error| format!("{error:#}"))
        })?;
    }
    if let Some(seconds) = arguments.profile {
        let way = ways.last().context("no way")?;
        println!("shoal: {} (sends) and {} (receives)", shoals[0].pid, shoals[1].pid);
        println!("{:.0} megabits a second", 8e-6 * stream(way, secs(seconds))?);
        return bed.done();
    }
    let mut all: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for round in 1..=arguments.rounds {
        for way in &ways {
            let figures = measure(way, &arguments, &shoals)
                .with_context(|| format!("round {round}, {}", way.name))?;
            println!("round {round}, {}: {figures:?}", way.name);
            all.entry(way.name).or_default().push(figures);
        }
    }
    print(&ways, &all);
    if let Some(path) = arguments.json {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let report = serde_json::json!({ "cores": cores, "ways": all });
        std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    bed.done()
}

/// The hosts themselves, and a container on each of them for each network.
fn ways(bed: &Testbed) -> Result<Vec<Way>> {
    let engine = |host: &Host| host.dockerd().map(|one| one.pid).context("no engine runs");
    let mut ways = vec![Way {
        name: "host",
        from: engine(bed.host(0))?,
        to: engine(bed.host(1))?,
        address: bed.host(1).address().parse()?,
    }];
    for (name, encrypted) in [("vxlan", "false"), ("quic", "true")] {
        let option = format!("encrypted={encrypted}");
        let create = ["network", "create", "-d", "overlay", "--attachable", "--opt", &option, name];
        bed.host(0).docker_by_shoal(create)?;
        let mut pids = Vec::new();
        let mut address = Ipv4Addr::UNSPECIFIED;
        for host in bed.hosts() {
            wait_for(&format!("{name} to be known on {}", host.name()), READY, || {
                host.docker_by_shoal(["network", "inspect", name])
                    .map_err(|error| format!("{error:#}"))
            })?;
            host.docker_by_shoal([
                "run",
                "-d",
                "--name",
                name,
                "--network",
                name,
                BUSYBOX,
                "sleep",
                "1d",
            ])?;
            let format = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
            let said = host.docker(["inspect", "-f", format, name])?;
            let (pid, at) = said.trim().split_once(' ').context("pid and address")?;
            pids.push(pid.parse::<i32>()?);
            address = at.parse()?;
        }
        let [from, to] = pids[..] else { anyhow::bail!("two containers are wanted") };
        ways.push(Way { name, from, to, address });
    }
    Ok(ways)
}

fn measure(way: &Way, arguments: &Arguments, shoals: &[Process]) -> Result<Figures> {
    let ticks = || shoals.iter().map(Process::cpu_ticks).sum::<u64>();
    let (before, begun) = (ticks(), Instant::now());
    let bytes_per_second = stream(way, secs(arguments.seconds))?;
    // Linux counts processor time in hundredths of a second for everybody.
    let used = (ticks() - before) as f64 / 100.0;
    let took = begun.elapsed().as_secs_f64();
    let mut times = ask(way, arguments.questions)?;
    times.sort_unstable();
    let at = |percent: usize| {
        times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Ok(Figures {
        megabits: bytes_per_second * 8e-6,
        half_us: at(50),
        p99_us: at(99),
        shoal_percent: 100.0 * used / took,
        megabytes_per_cpu_second: (used > 0.2).then(|| bytes_per_second * took / used / 1e6),
    })
}

/// Bytes a second of one stream, counted where it arrives.
fn stream(way: &Way, span: Duration) -> Result<f64> {
    let (client, served) = connect(
        way,
        |mut stream| {
            let mut piece = vec![0; PIECE];
            let mut begun = None;
            let mut bytes = 0;
            loop {
                match stream.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => bytes += read,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
                begun.get_or_insert_with(Instant::now);
            }
            let took = begun.context("nothing came")?.elapsed();
            Ok(bytes as f64 / took.as_secs_f64())
        },
        move |mut stream| {
            let piece = vec![7; PIECE];
            let begun = Instant::now();
            while begun.elapsed() < span {
                stream.write_all(&piece)?;
            }
            Ok(())
        },
    )?;
    client?;
    served
}

/// How long each of so many questions took to be answered, one after the other over one connection.
fn ask(way: &Way, questions: usize) -> Result<Vec<Duration>> {
    let (times, served) = connect(
        way,
        |mut stream| {
            let mut question = [0; QUESTION];
            while stream.read_exact(&mut question).is_ok() {
                stream.write_all(&question)?;
            }
            Ok(())
        },
        move |mut stream| {
            let mut question = [0; QUESTION];
            let mut times = Vec::with_capacity(questions);
            for _ in 0..questions {
                let begun = Instant::now();
                stream.write_all(&question)?;
                stream.read_exact(&mut question)?;
                times.push(begun.elapsed());
            }
            Ok(times)
        },
    )?;
    served?;
    times
}

/// One TCP connection over the way: what both sides make of it.
fn connect<A: Send + 'static, B: Send + 'static>(
    way: &Way,
    serve: impl FnOnce(TcpStream) -> Result<B> + Send + 'static,
    call: impl FnOnce(TcpStream) -> Result<A> + Send + 'static,
) -> Result<(Result<A>, Result<B>)> {
    let (tell, told) = mpsc::channel();
    let server = inside(way.to, move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        tell.send(listener.local_addr()?.port())?;
        serve(ready(accept(&listener)?)?)
    })?;
    let port = told.recv_timeout(SILENCE).context("the server does not listen")?;
    let target = SocketAddr::V4(SocketAddrV4::new(way.address, port));
    let client = inside(way.from, move || {
        call(ready(TcpStream::connect_timeout(&target, secs(2)).context("connecting")?)?)
    })?;
    let client = client.join().map_err(|_| anyhow!("the client failed"))?;
    let server = server.join().map_err(|_| anyhow!("the server failed"))?;
    Ok((client, server))
}

/// Waits for the one client, but not for ever.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let (stream, _) = wait_for("a client", secs(4), || {
        listener.accept().map(|(stream, _)| stream).map_err(|error| error.to_string())
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn ready(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

fn print(ways: &[Way], all: &BTreeMap<&str, Vec<Figures>>) {
    let median = |name: &str, figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.get(name).into_iter().flatten().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "\n{:<8}{:>12}{:>9}{:>12}{:>12}{:>9}{:>10}{:>12}",
        "", "Mbit/s", "of host", "answer, us", "p99, us", "of host", "shoal, %", "MB/cpu s"
    );
    for Way { name, .. } in ways {
        let (megabits, half) = (median(name, |one| one.megabits), median(name, |one| one.half_us));
        let carried = median(name, |one| one.megabytes_per_cpu_second.unwrap_or(f64::NAN));
        println!(
            "{name:<8}{megabits:>12.0}{:>9.2}{half:>12.0}{:>12.0}{:>9.2}{:>10.0}{carried:>12.0}",
            megabits / median("host", |one| one.megabits),
            median(name, |one| one.p99_us),
            half / median("host", |one| one.half_us),
            median(name, |one| one.shoal_percent),
        );
    }
}
