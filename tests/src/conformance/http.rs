//! One plain request over a socket, for what no client shows: the status and the body as they are.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};

use crate::wait::secs;

/// The status line's number and the body. HTTP/1.0: the answer ends with the connection.
pub(super) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket).context("connect")?;
    stream.set_read_timeout(Some(secs(20)))?;
    let path = encoded(path);
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("the answer")?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status")?;
    Ok((status, body.to_owned()))
}

/// Encodes what scripts write plainly for people: the JSON of filters.
fn encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'{' | b'}' | b'"' | b'[' | b']' | b' ' => format!("%{byte:02X}"),
            plain => char::from(plain).to_string(),
        })
        .collect()
}
