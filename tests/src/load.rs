//! A load generator: HTTP requests from inside a host or a container, one connection each, counted one by one.
//!
//! Each request is a new connection, for that is what is spread over replicas. What is no complete answer with status
//! 200 within the time limit is an error, and is kept with the moment it happened.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// How long a request may take before it counts as failed.
const REQUEST_BOUND: Duration = Duration::from_secs(3);
/// Between two requests of one thread: load, but not all that the machine has.
const PAUSE: Duration = Duration::from_millis(5);

/// Requests that are being made.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Served>>,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// How often each body was answered: what answers says who it is.
    pub answers: BTreeMap<String, usize>,
    /// When requests failed, since the start, and how.
    pub errors: Vec<(Duration, String)>,
    pub slowest: Duration,
    /// How long each answer took.
    pub times: Vec<Duration>,
}

impl Served {
    pub fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.errors.len()
    }

    /// What so many percent of the answers did not take longer than; zero where nothing was answered.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Served) {
        for (answer, times) in other.answers {
            *self.answers.entry(answer).or_default() += times;
        }
        self.errors.extend(other.errors);
        self.errors.sort();
        self.slowest = self.slowest.max(other.slowest);
        self.times.extend(other.times);
    }
}

impl Load {
    /// Starts `threads` of it in the network namespace of a process, at these targets in turn.
    pub fn start(pid: i32, targets: &[SocketAddr], threads: usize) -> Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let threads = (0..threads)
            .map(|first| {
                let (stop, targets) = (Arc::clone(&stop), targets.to_vec());
                inside(pid, move || {
                    let mut served = Served::default();
                    for target in targets.iter().cycle().skip(first) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let asked = Instant::now();
                        match ask(*target) {
                            Ok(answer) => {
                                *served.answers.entry(answer).or_default() += 1;
                                served.times.push(asked.elapsed());
                            }
                            Err(error) => {
                                let what = format!("{target}: {error:#}");
                                served.errors.push((begun.elapsed(), what));
                            }
                        }
                        served.slowest = served.slowest.max(asked.elapsed());
                        std::thread::sleep(PAUSE);
                    }
                    served
                })
            })
            .collect::<Result<_>>()?;
        Ok(Load { stop, threads })
    }

    /// Ends it and says what came of it.
    pub fn stop(self) -> Result<Served> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Served::default();
        for thread in self.threads {
            all.add(thread.join().map_err(|_| anyhow!("a thread of the load generator failed"))?);
        }
        Ok(all)
    }
}

/// Makes some requests from the network namespace of a process, one after another.
pub fn requests(pid: i32, target: SocketAddr, many: usize) -> Result<Served> {
    let thread = inside(pid, move || {
        let mut served = Served::default();
        for _ in 0..many {
            match ask(target) {
                Ok(answer) => *served.answers.entry(answer).or_default() += 1,
                Err(error) => served.errors.push((Duration::ZERO, format!("{target}: {error:#}"))),
            }
        }
        served
    })?;
    thread.join().map_err(|_| anyhow!("a thread of the load generator failed"))
}

/// Asks once, from the network namespace of a process, for a path of a host name; the status and the body.
pub fn answer(pid: i32, target: SocketAddr, host: &str, path: &str) -> Result<(String, String)> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let thread = inside(pid, move || exchange(target, &request))?;
    thread.join().map_err(|_| anyhow!("a request failed"))?
}

/// Answers datagrams, in the network namespace of a process, with a text, until it is dropped.
#[derive(Debug)]
pub struct Datagrams {
    stop: Arc<AtomicBool>,
}

impl Datagrams {
    pub fn answer(pid: i32, port: u16, text: String) -> Result<Datagrams> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (bound, answer) = std::sync::mpsc::channel();
        inside(pid, move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).and_then(|socket| {
                socket.set_read_timeout(Some(Duration::from_millis(200))).map(|()| socket)
            });
            let socket = match socket {
                Ok(socket) => {
                    let _ = bound.send(Ok(()));
                    socket
                }
                Err(error) => return drop(bound.send(Err(error))),
            };
            let mut question = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut question) {
                    // Who asked may not be there any more.
                    let _ = socket.send_to(text.as_bytes(), from);
                }
            }
        })?;
        answer.recv()?.with_context(|| format!("listening for datagrams at port {port}"))?;
        Ok(Datagrams { stop })
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What answers a datagram, asked from the network namespace of a process and from a port of its own.
pub fn datagram(pid: i32, target: SocketAddr) -> Result<String> {
    let thread = inside(pid, move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(target)?;
        socket.send(b"who")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).with_context(|| format!("an answer of {target}"))?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    })?;
    thread.join().map_err(|_| anyhow!("a datagram failed"))?
}

/// Does something in a thread that is in the network namespace of a process.
pub fn inside<T: Send + 'static>(
    pid: i32,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let path = format!("/proc/{pid}/ns/net");
    let space = File::open(&path).with_context(|| path)?;
    let (entered, answer) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // Whoever starts the load hears of it; without the namespace nothing must be asked.
        let result = setns(space, CloneFlags::CLONE_NEWNET);
        let inside = result.is_ok();
        let _ = entered.send(result);
        inside.then(work)
    });
    answer.recv()?.context("entering a network namespace")?;
    Ok(std::thread::spawn(move || match thread.join() {
        Ok(Some(done)) => done,
        _ => panic!("the load generator failed"),
    }))
}

/// The body of what is answered at `GET /`.
fn ask(target: SocketAddr) -> Result<String> {
    let (status, body) = exchange(target, "GET / HTTP/1.0\r\n\r\n")?;
    anyhow::ensure!(status == "200", "status '{status}'");
    Ok(body)
}

fn exchange(target: SocketAddr, request: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&target, REQUEST_BOUND).context("connecting")?;
    stream.set_read_timeout(Some(REQUEST_BOUND))?;
    stream.write_all(request.as_bytes()).context("asking")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("reading the answer")?;
    let (head, body) = text.split_once("\r\n\r\n").context("no whole answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.to_owned(), body.trim().to_owned()))
}
