//! What an idle node costs: resident memory and processor time of this process.
//!
//! `cargo run -p gossip --example idle -- 3 30` starts three processes of one node each and prints, after 30
//! seconds, what each took and what it sent.
#![allow(clippy::print_stdout, reason = "the measurement is this program's output")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on shall say where")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use gossip::{Config, FromGossip, Gossip, NodeKey, Pace, Token};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation};
use membership::message::Message;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", token, seconds, listen, ref seeds @ ..] => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let seeds = seeds.iter().map(|seed| (*seed).to_owned()).collect();
            let seconds = seconds.parse().unwrap();
            runtime.block_on(node(token.parse().unwrap(), seconds, listen.parse().unwrap(), seeds));
        }
        [count, seconds] => many(count.parse().unwrap(), seconds),
        _ => println!("usage: idle COUNT SECONDS"),
    }
}

fn many(count: u16, seconds: &str) {
    let token = Token::generate().unwrap().reveal();
    let first = "127.0.0.1:27946";
    let children: Vec<_> = (0..count)
        .map(|n| {
            let listen = format!("127.0.0.1:{}", 27946 + n);
            Command::new(std::env::current_exe().unwrap())
                .args(["node", &token, seconds, &listen, first])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }
}

async fn node(token: Token, seconds: u64, listen: SocketAddr, seeds: Vec<String>) {
    let config = Config {
        key: NodeKey::generate().unwrap(),
        token,
        incarnation: Incarnation(1),
        cell: CellId(0),
        listen,
        advertise: listen,
        seeds,
        pace: Pace::Lan,
    };
    let (handle, mut reports) = Gossip::start(config).await.unwrap();
    let fact = SignedFact {
        cell: CellId(0),
        owner: handle.node(),
        incarnation: Incarnation(1),
        seq: 1,
        key: FactKey::Profile,
        value: Some(vec![7; 400]),
        signature: Vec::new(),
    };
    handle.publish(fact).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, sent) = (cpu(), handle.stats().chitchat.bytes_out);
    // Probes as the core sends them: each peer every 250 ms.
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut seq = 0;
    while tokio::time::Instant::now() < end {
        tokio::select! {
            _ = tick.tick() => {
                seq += 1;
                for connection in handle.stats().connections {
                    handle.send(connection.peer, Message::Ping { seq }).unwrap();
                }
            }
            Some(report) = reports.recv() => {
                if let FromGossip::Disconnected { peer, reason } = report {
                    println!("{listen}: lost {peer}: {reason:?}");
                }
            }
        }
    }
    let stats = handle.stats();
    println!(
        "{listen}: {} peers, {} members, {:.2}% of a core, {:.1} MB resident, {} B/s of chitchat, rtt {:?}",
        stats.connections.len(),
        stats.gossip_members,
        (cpu() - before) * 100.0 / seconds as f64,
        resident_mb(),
        (stats.chitchat.bytes_out - sent) / seconds,
        stats.connections.first().map(|connection| connection.rtt),
    );
}

/// Seconds of processor time, user and system. Linux counts in hundredths.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = |field: usize| -> u64 {
        // proc(5) counts from 1, and the name and what precedes it are gone.
        after_name.split_whitespace().nth(field - 3).unwrap().parse().unwrap()
    };
    (ticks(14) + ticks(15)) as f64 / 100.0
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
