//! What goes by on a device, packet by packet: whether a text could be read there.
//!
//! A small program in a host's or the switch's namespaces looks at every packet. It says at its end how many there were,
//! in how many each text stood, and how many the kernel dropped because it was too slow, for what was not looked at
//! proves nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bed::Testbed;
use crate::host::Host;

/// Looks at packets until it is closed.
#[derive(Debug)]
pub struct Tap {
    process: Child,
}

/// What a tap saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: u64,
    /// Packets in which each text could be read, in the order in which they were asked for.
    pub marked: Vec<u64>,
}

/// Ends a second after there is something to read for it: what is on the way then is seen too.
const LOOK: &str = "
import select, socket, struct, sys, time
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6
tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 27)
if sys.argv[1]:
    tap.bind((sys.argv[1], 0))
print('ready', flush=True)
texts = [text.encode() for text in sys.argv[2:]]
count, marked = 0, [0] * len(texts)
end = None
while end is None or time.monotonic() < end:
    ready, _, _ = select.select([tap] if end else [tap, sys.stdin], [], [], 0.2)
    if tap in ready:
        packet = tap.recv(65535)
        count += len(packet)
        for at, text in enumerate(texts):
            marked[at] += text in packet
    if sys.stdin in ready:
        end = time.monotonic() + 1
_, dropped = struct.unpack('II', tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
print(dropped, count, *marked, flush=True)
";

impl Tap {
    /// Looks for texts on a device of a host.
    pub fn on_host(host: &Host, device: &str, texts: &[&str]) -> Result<Tap> {
        Tap::open(&host.enter()?, device, texts)
    }

    /// Looks for texts on all ports of the switch: at everything that any two hosts say to each other, each packet twice,
    /// whatever happens to the hosts meanwhile.
    pub fn between_hosts(bed: &Testbed, texts: &[&str]) -> Result<Tap> {
        Tap::open(&bed.record.switch()?.namespaces.enter(), "", texts)
    }

    fn open(enter: &[String], device: &str, texts: &[&str]) -> Result<Tap> {
        let (first, rest) = enter.split_first().context("no way into the namespaces")?;
        let mut process = Command::new(first)
            .args(rest)
            .args(["python3", "-c", LOOK, device])
            .args(texts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = [0; 6];
        let output = process.stdout.as_mut().context("no output")?;
        output.read_exact(&mut ready).context("it does not begin")?;
        Ok(Tap { process })
    }

    /// Ends it.
    ///
    /// # Errors
    /// Also when there were packets at which it did not look.
    pub fn close(mut self) -> Result<Seen> {
        let mut input = self.process.stdin.take().context("closed already")?;
        input.write_all(b"end\n")?;
        drop(input);
        let output = self.process.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        self.process.wait()?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(|word| word.parse().with_context(|| format!("it said '{line}'")))
            .collect::<Result<_>>()?;
        let [dropped, bytes, marked @ ..] = numbers.as_slice() else {
            anyhow::bail!("it said '{line}'");
        };
        ensure!(*dropped == 0, "{dropped} packets went by unseen");
        Ok(Seen { bytes: *bytes, marked: marked.to_vec() })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Ended already, unless the test failed in between.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
