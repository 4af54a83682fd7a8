//! `shoal service logs`: what the replicas print, from all hosts, tagged `web.3@host | line`.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::{Buf, BytesMut};
use clap::Args;
use http_body_util::BodyExt;

use super::{text, values};
use crate::client::{Client, encoded};
use crate::exit::{Failure, Outcome};
use crate::output::{Colour, Palette, short};

/// The longest frame that is read: a line of a node's is at most 64 KiB, with its tags.
const MAX_FRAME_BYTES: usize = 1024 * 1024;

const COLOURS: [Colour; 5] =
    [Colour::Cyan, Colour::Yellow, Colour::Green, Colour::Magenta, Colour::Blue];

#[derive(Args, Clone, Debug)]
pub(crate) struct LogFlags {
    /// Go on with what is printed from now on
    #[arg(long, short = 'f')]
    follow: bool,
    /// The last so many lines of each replica
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<u64>,
    /// Lines since a time (2026-01-31T12:00:00Z) or a while ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show when each line was printed
    #[arg(long, short = 't')]
    timestamps: bool,
    /// The lines alone, without tags
    #[arg(long)]
    raw: bool,
    /// Name, id, or the beginning of an id, of a service or a task
    #[arg(value_name = "SERVICE")]
    service: String,
}

pub(super) async fn run(client: &Client, flags: &LogFlags) -> Outcome {
    let (scope, template) =
        match client.get(&format!("/services/{}", encoded(&flags.service))).await {
            Ok(service) => ("services", service["Spec"]["TaskTemplate"].clone()),
            Err(error) if error.is_not_found() => {
                match client.get(&format!("/tasks/{}", encoded(&flags.service))).await {
                    Ok(task) => ("tasks", task["Spec"].clone()),
                    Err(other) if other.is_not_found() => return Err(error.into()),
                    Err(other) => return Err(other.into()),
                }
            }
            Err(error) => return Err(error.into()),
        };
    let tty = template["ContainerSpec"]["TTY"] == true;
    if tty && !flags.raw {
        return Err(Failure::failed(
            "the replicas of this service have terminals, whose output has no lines to tag: use --raw",
        ));
    }
    let mut stream = client.stream(&path(scope, flags)?).await?;
    let mut tags = Tags::new(client, flags, Palette::stdout());
    let mut buffer = BytesMut::new();
    loop {
        let frame = tokio::select! {
            frame = stream.frame() => frame,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| {
            Failure::failed(format!("the log broke off: {error}. Run the command again"))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        if tty {
            write(1, data)?;
            continue;
        }
        buffer.extend_from_slice(data);
        while let Some((stream, payload)) = next_frame(&mut buffer)? {
            let line = tags.tag(&payload).await?;
            write(stream, &line)?;
        }
    }
}

fn path(scope: &str, flags: &LogFlags) -> Result<String, Failure> {
    let mut path = format!("/{scope}/{}/logs?stdout=1&stderr=1", encoded(&flags.service));
    if flags.follow {
        path.push_str("&follow=1");
    }
    if flags.timestamps {
        path.push_str("&timestamps=1");
    }
    if !flags.raw {
        path.push_str("&details=1");
    }
    if let Some(tail) = flags.tail {
        path.push_str(&format!("&tail={tail}"));
    }
    if let Some(since) = &flags.since {
        path.push_str(&format!("&since={}", encoded(&since_time(since)?)));
    }
    Ok(path)
}

/// A while ago becomes a time by this host's clock; a time is left to the node to read.
fn since_time(text: &str) -> Result<String, Failure> {
    match values::duration(text) {
        Ok(ago) if text != "0" => {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            let then =
                now.as_secs().saturating_sub(u64::try_from(ago / 1_000_000_000).unwrap_or(0));
            Ok(then.to_string())
        }
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => Ok(text.to_owned()),
        _ => Err(Failure::usage(format!(
            "--since {text}: write a time like 2026-01-31T12:00:00Z or a while like 10m"
        ))),
    }
}

/// Takes one whole frame off the front, if there is one.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, Failure> {
    let Some(head) = buffer.get(..8) else { return Ok(None) };
    let stream = head[0];
    let length = usize::try_from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]))
        .unwrap_or(usize::MAX);
    if !matches!(stream, 1 | 2) || length > MAX_FRAME_BYTES {
        return Err(Failure::failed("the node sent a log that cannot be read"));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    buffer.advance(8);
    Ok(Some((stream, buffer.split_to(length))))
}

fn write(stream: u8, bytes: &[u8]) -> Outcome {
    let result = if stream == 2 {
        std::io::stderr().write_all(bytes)
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    result.map_err(|error| Failure::of_output(&error))
}

/// Puts `web.3@host | ` in front of lines. Names are asked for once and remembered.
struct Tags<'a> {
    client: &'a Client,
    raw: bool,
    timestamps: bool,
    palette: Palette,
    nodes: BTreeMap<String, String>,
    tasks: BTreeMap<String, (String, usize)>,
}

impl<'a> Tags<'a> {
    fn new(client: &'a Client, flags: &LogFlags, palette: Palette) -> Self {
        Self {
            client,
            raw: flags.raw,
            timestamps: flags.timestamps,
            palette,
            nodes: BTreeMap::new(),
            tasks: BTreeMap::new(),
        }
    }

    async fn tag(&mut self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        if self.raw {
            return Ok(payload.to_vec());
        }
        let (stamp, rest) = if self.timestamps { word(payload) } else { (&b""[..], payload) };
        let (details, line) = word(rest);
        let details = String::from_utf8_lossy(details);
        let detail = |name: &str| {
            details
                .split(',')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        let node = self.node(&detail("com.docker.swarm.node.id")).await;
        let task = detail("com.docker.swarm.task.id");
        let (name, slot) = self.task(&task).await;
        let tag = format!("{name}@{node} | ");
        let tag = self.palette.paint(COLOURS[slot % COLOURS.len()], &tag);
        let stamp = if stamp.is_empty() {
            String::new()
        } else {
            format!("{} ", String::from_utf8_lossy(stamp))
        };
        Ok([stamp.as_bytes(), tag.as_bytes(), line].concat())
    }

    async fn node(&mut self, id: &str) -> String {
        if let Some(name) = self.nodes.get(id) {
            return name.clone();
        }
        let name = match self.client.get(&format!("/nodes/{}", encoded(id))).await {
            Ok(node) => text(&node["Description"], "Hostname").to_owned(),
            // Forgotten meanwhile: the id says at least which one.
            Err(_) => short(id),
        };
        self.nodes.insert(id.to_owned(), name.clone());
        name
    }

    async fn task(&mut self, id: &str) -> (String, usize) {
        if let Some(known) = self.tasks.get(id) {
            return known.clone();
        }
        let known = self.ask_task(id).await.unwrap_or_else(|| (short(id), 0));
        self.tasks.insert(id.to_owned(), known.clone());
        known
    }

    async fn ask_task(&self, id: &str) -> Option<(String, usize)> {
        let task = self.client.get(&format!("/tasks/{}", encoded(id))).await.ok()?;
        let service = text(&task, "ServiceID").to_owned();
        let service = self.client.get(&format!("/services/{service}")).await.ok()?;
        let name = text(&service["Spec"], "Name").to_owned();
        Some(match task["Slot"].as_u64() {
            Some(slot) => (format!("{name}.{slot}"), usize::try_from(slot).unwrap_or_default()),
            None => (name, 0),
        })
    }
}

/// Up to the first space, and what follows it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let mut buffer =
            BytesMut::from(&[1, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'\n', 2, 0, 0, 0][..]);
        let (stream, payload) = next_frame(&mut buffer).unwrap().unwrap();
        assert_eq!((stream, &payload[..]), (1, &b"ab\n"[..]));
        assert_eq!(next_frame(&mut buffer), Ok(None), "half a head waits");
        buffer.extend_from_slice(&[0, 0, 0, 2, b'x']);
        assert_eq!(next_frame(&mut buffer), Ok(None), "half a payload waits");
        buffer.extend_from_slice(b"\n");
        assert_eq!(next_frame(&mut buffer).unwrap().unwrap().0, 2);
    }

    #[test]
    fn nonsense_is_refused_before_it_is_stored() {
        let mut huge = BytesMut::from(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(next_frame(&mut huge).is_err());
        let mut odd = BytesMut::from(&b"{\"message\":"[..]);
        assert!(next_frame(&mut odd).is_err());
    }

    #[test]
    fn since_is_a_time_or_a_while() {
        assert_eq!(since_time("2026-01-31T12:00:00Z"), Ok("2026-01-31T12:00:00Z".to_owned()));
        assert!(since_time("10m").unwrap().parse::<u64>().is_ok());
        assert!(since_time("yesterday").is_err());
    }

    #[test]
    fn words_end_at_the_first_space() {
        assert_eq!(word(b"a b c"), (&b"a"[..], &b"b c"[..]));
        assert_eq!(word(b""), (&b""[..], &b""[..]));
    }
}
