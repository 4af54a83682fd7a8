//! Two hosts and some containers as network namespaces on this machine, with a driver on each host and an engine that
//! knows which networks it has and nothing else.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daemon::network::{Place, clear, drive};
use membership::id::NodeId;
use nix::sched::{CloneFlags, setns};
use node::network::devices::TUNNEL_PORT;
use node::network::picture::Picture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The machine is slow at times, never this slow.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The port that every container listens on.
pub(crate) const PORT: u16 = 80;

pub(crate) struct Sandbox {
    name: String,
    spaces: Vec<String>,
    pub(crate) dir: tempfile::TempDir,
}

/// What a host is told, and its driver.
pub(crate) struct Host {
    pub(crate) space: String,
    pub(crate) address: IpAddr,
    pub(crate) pictures: watch::Sender<Arc<Picture>>,
    pub(crate) complaints: watch::Receiver<Vec<String>>,
    /// Bridges that its engine believes to have.
    pub(crate) engine: Arc<Mutex<BTreeSet<String>>>,
    socket: PathBuf,
    driver: Option<(CancellationToken, JoinHandle<()>)>,
}

pub(crate) fn command(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

pub(crate) fn run(line: &str) -> String {
    command(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Runs a closure in a network namespace.
pub(crate) fn inside<T: Send + 'static>(
    space: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let space = File::open(format!("/run/netns/{space}")).unwrap();
    std::thread::spawn(move || {
        setns(space, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Waits for a condition, and says what it was last.
pub(crate) fn eventually<T: std::fmt::Debug>(what: &str, mut is: impl FnMut() -> Result<(), T>) {
    let end = Instant::now() + BOUND;
    loop {
        match is() {
            Ok(()) => return,
            Err(last) if Instant::now() > end => panic!("{what}: not within {BOUND:?}: {last:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// What the container that answers at an address is called, and who it says asked.
pub(crate) fn ask(space: &str, address: &str) -> Result<(String, String), String> {
    let to: SocketAddr = address.parse().unwrap();
    let asking = inside(space, move || {
        let time = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&to, time)?;
        stream.set_read_timeout(Some(time))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    let text = asking.join().unwrap().map_err(|error| error.to_string())?;
    let (name, who) = text.split_once(' ').ok_or("no answer")?;
    Ok((name.to_owned(), who.to_owned()))
}

pub(crate) fn name_at(space: &str, address: &str) -> Result<String, String> {
    ask(space, address).map(|(name, _)| name)
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let name = format!("nk{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut sandbox = Self { name, spaces: Vec::new(), dir: tempfile::tempdir().unwrap() };
        let wire = sandbox.space("w");
        run(&format!("ip -n {wire} link add wire type bridge"));
        run(&format!("ip -n {wire} link set wire up"));
        sandbox
    }

    fn space(&mut self, suffix: &str) -> String {
        let space = format!("{}{suffix}", self.name);
        run(&format!("ip netns add {space}"));
        run(&format!("ip -n {space} link set lo up"));
        self.spaces.push(space.clone());
        space
    }

    /// A machine on the wire.
    pub(crate) fn machine(&mut self, number: u8) -> String {
        let space = self.space(&format!("h{number}"));
        let wire = &self.spaces[0];
        run(&format!("ip -n {wire} link add p{number} type veth peer name eth0 netns {space}"));
        run(&format!("ip -n {wire} link set p{number} master wire up"));
        run(&format!("ip -n {space} addr add 192.168.77.{number}/24 dev eth0"));
        run(&format!("ip -n {space} link set eth0 up"));
        space
    }

    /// A machine with a driver and an engine.
    pub(crate) fn host(&mut self, number: u8) -> Host {
        let space = self.machine(number);
        let engine = Arc::new(Mutex::new(BTreeSet::new()));
        let socket = self.dir.path().join(format!("engine{number}"));
        serve_engine(UnixListener::bind(&socket).unwrap(), Arc::clone(&engine));
        let (pictures, _) = watch::channel(Arc::default());
        let (_, complaints) = watch::channel(Vec::new());
        let address = IpAddr::from([192, 168, 77, number]);
        let mut host = Host { space, address, pictures, complaints, engine, socket, driver: None };
        host.start();
        host
    }

    /// The engine's bridge of a network.
    pub(crate) fn bridge(&self, host: &Host, bridge: &str, gateway: Ipv4Addr) {
        let space = &host.space;
        run(&format!("ip -n {space} link add {bridge} type bridge"));
        run(&format!("ip -n {space} addr add {gateway}/16 dev {bridge}"));
        run(&format!("ip -n {space} link set {bridge} up"));
        host.engine.lock().unwrap().insert(bridge.to_owned());
    }

    /// A container in a bridge that tells everybody its name and who asks.
    pub(crate) fn container(
        &mut self,
        host: &Host,
        name: &str,
        bridge: &str,
        address: Ipv4Addr,
        gateway: Ipv4Addr,
    ) -> String {
        let space = self.space(name);
        let outside = &host.space;
        run(&format!("ip -n {outside} link add v{name} type veth peer name eth0 netns {space}"));
        run(&format!("ip -n {outside} link set v{name} master {bridge} up"));
        run(&format!("ip -n {space} addr add {address}/16 dev eth0"));
        run(&format!("ip -n {space} link set eth0 mtu 1450 up"));
        run(&format!("ip -n {space} route add default via {gateway}"));
        let name = name.to_owned();
        let listener =
            inside(&space, || TcpListener::bind(("0.0.0.0", PORT)).unwrap()).join().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                if let Ok(who) = stream.peer_addr() {
                    let _ = write!(stream, "{name} {}", who.ip());
                }
            }
        });
        space
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = command(&format!("ip netns del {space}"));
        }
    }
}

impl Host {
    /// Starts a driver; the one before must have been stopped.
    pub(crate) fn start(&mut self) {
        let place = Place {
            address: self.address,
            port: TUNNEL_PORT,
            engine: self.socket.clone(),
            me: NodeId(1),
            gossip: None,
        };
        let stop = CancellationToken::new();
        let (complaining, complaints) = watch::channel(Vec::new());
        self.complaints = complaints;
        let (pictures, stopped) = (self.pictures.subscribe(), stop.clone());
        let running = inside(&self.space, move || {
            on_this_thread(drive(place, pictures, complaining, stopped));
        });
        self.driver = Some((stop, running));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stop, running)) = self.driver.take() {
            stop.cancel();
            running.join().unwrap();
        }
    }

    pub(crate) fn show(&self, picture: Picture) {
        self.pictures.send_replace(Arc::new(picture));
    }

    pub(crate) fn clear(&self) {
        inside(&self.space, || on_this_thread(clear())).join().unwrap().unwrap();
    }

    /// A command on this host.
    pub(crate) fn run(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.space))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.driver {
            stop.cancel();
        }
    }
}

fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

fn serve_engine(listener: UnixListener, bridges: Arc<Mutex<BTreeSet<String>>>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut question = Vec::new();
            let mut byte = [0];
            while !question.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                question.push(byte[0]);
            }
            let networks: Vec<serde_json::Value> = bridges
                .lock()
                .unwrap()
                .iter()
                .map(
                    |name| serde_json::json!({"Options": {"com.docker.network.bridge.name": name}}),
                )
                .collect();
            let body = serde_json::Value::from(networks).to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
}
