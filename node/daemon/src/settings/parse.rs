//! From text to a checked value, one function per setting.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::layers::{Source, Sourced};
use super::{
    DEFAULT_DATA_DIR, DEFAULT_LISTEN, MAX_LABEL_BYTES, MAX_LABELS, Profile, RuntimeKind,
    SettingsError, Token,
};

/// The longest path of a Unix socket, in bytes: the kernel's `sun_path` holds 108 with its end.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// The most addresses under `join`.
const MAX_JOIN: usize = 64;
/// The longest token that is taken.
const MAX_TOKEN_BYTES: usize = 1024;

type Parsed<T> = Result<T, SettingsError>;

pub(super) fn invalid(
    setting: &'static str,
    value: impl Into<String>,
    from: Source,
    why: impl Into<String>,
    valid: &'static str,
) -> SettingsError {
    SettingsError::Invalid { setting, value: value.into(), from, why: why.into(), valid }
}

fn or_default(value: Sourced<String>, default: &str) -> (String, Source) {
    value.unwrap_or_else(|| (default.to_owned(), Source::Default))
}

pub(super) fn name(value: Sourced<String>) -> Parsed<String> {
    const VALID: &str = "1 to 256 bytes without spaces, such as 'host-a'";
    let (name, from) = match value {
        Some(named) => named,
        None => {
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            match host.filter(|name| !name.is_empty()) {
                Some(host) => (host, Source::Default),
                None => {
                    return Err(SettingsError::Missing {
                        setting: "name",
                        why: "this host has no name to take".into(),
                        flag: "--name",
                        env: "SHOAL_NAME",
                    });
                }
            }
        }
    };
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_LABEL_BYTES {
        "it is too long"
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "it has a space or a control character in it"
    } else {
        return Ok(name);
    };
    Err(invalid("name", name, from, why, VALID))
}

pub(super) fn listen(value: Sourced<String>) -> Parsed<SocketAddr> {
    const VALID: &str =
        "an address of this host with a port, such as '0.0.0.0:7946' or '[::]:7946'";
    let (text, from) = or_default(value, DEFAULT_LISTEN);
    // ":7946" is how Docker's own flags write "all addresses".
    let full = if text.starts_with(':') {
        format!("{}{text}", Ipv4Addr::UNSPECIFIED)
    } else {
        text.clone()
    };
    match full.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => Ok(addr),
        Ok(_) => Err(invalid("listen", text, from, "the others could not know port 0", VALID)),
        Err(_) => Err(invalid("listen", text, from, "it is not an address with a port", VALID)),
    }
}

/// Where requests from outside are taken, if anywhere.
pub(super) fn entrance(
    setting: &'static str,
    value: Sourced<String>,
) -> Parsed<Option<SocketAddr>> {
    const VALID: &str = "an address of this host with a port, such as ':80' or '[::]:443'";
    let Some((text, from)) = value else { return Ok(None) };
    let full = if text.starts_with(':') {
        format!("{}{text}", Ipv4Addr::UNSPECIFIED)
    } else {
        text.clone()
    };
    match full.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => Ok(Some(addr)),
        Ok(_) => Err(invalid(setting, text, from, "clients could not know port 0", VALID)),
        Err(_) => Err(invalid(setting, text, from, "it is not an address with a port", VALID)),
    }
}

/// The folder of certificates, which HTTPS needs.
pub(super) fn certificates(
    value: Sourced<String>,
    https: Option<SocketAddr>,
) -> Parsed<Option<PathBuf>> {
    if value.is_some() {
        return dir("certificates", value).map(Some);
    }
    match https {
        None => Ok(None),
        Some(_) => Err(SettingsError::Missing {
            setting: "certificates",
            why: "HTTPS needs a folder with NAME.crt and NAME.key".into(),
            flag: "--certificates",
            env: "SHOAL_CERTIFICATES",
        }),
    }
}

pub(super) fn join(value: Sourced<Vec<String>>) -> Parsed<Vec<String>> {
    const VALID: &str = "up to 64 times host:port, such as '10.0.0.5:7946' or 'host-a:7946'";
    let Some((targets, from)) = value else { return Ok(Vec::new()) };
    if targets.len() > MAX_JOIN {
        let why = format!("there are {} addresses; one that answers is enough", targets.len());
        return Err(invalid("join", targets[0].clone(), from, why, VALID));
    }
    for target in &targets {
        let port = target.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        let why = match port {
            None => "there is no port in it",
            Some((_, Err(_) | Ok(0))) => "its port is not a number from 1 to 65535",
            Some(("", _)) => "there is no host in it",
            Some((host, _)) if host.chars().any(|c| c.is_whitespace() || c == '/') => {
                "its host is not a name or an address"
            }
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
                "an IPv6 address is written in brackets, '[2001:db8::1]:7946'"
            }
            Some(_) => continue,
        };
        return Err(invalid("join", target.clone(), from, why, VALID));
    }
    Ok(targets)
}

pub(super) fn token(value: Sourced<String>, file: Sourced<String>) -> Parsed<Option<Token>> {
    const VALID: &str = "the token that `shoal token` prints on any member, in one line";
    fn rank(source: &Source) -> u8 {
        match source {
            Source::Flag(_) => 3,
            Source::Env(_) => 2,
            Source::File(_) => 1,
            Source::Default => 0,
        }
    }
    let (text, from) = match (value, file) {
        (None, None) => return Ok(None),
        (Some((_, a)), Some((_, b))) if rank(&a) == rank(&b) => {
            return Err(SettingsError::TwoTokens(a));
        }
        (Some(token), None) => token,
        (Some(token), Some(file)) if rank(&token.1) > rank(&file.1) => token,
        (_, Some((path, from))) => match read_token(Path::new(&path)) {
            Ok(token) => (token, from),
            Err(why) => {
                return Err(invalid("token_file", path, from, why, "a file with the token"));
            }
        },
    };
    let text = text.trim();
    // The value is not shown: it is a secret, or was meant to be one.
    if text.is_empty() {
        return Err(invalid("token", "(hidden)", from, "it is empty", VALID));
    }
    if text.len() > MAX_TOKEN_BYTES || text.contains(char::is_whitespace) {
        return Err(invalid("token", "(hidden)", from, "it is not one word of one line", VALID));
    }
    Ok(Some(Token(text.to_owned())))
}

fn read_token(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| format!("it cannot be read: {e}"))?;
    let mut text = String::new();
    file.take(MAX_TOKEN_BYTES as u64 + 2)
        .read_to_string(&mut text)
        .map_err(|e| format!("it cannot be read: {e}"))?;
    Ok(text)
}

pub(super) fn dir(setting: &'static str, value: Sourced<String>) -> Parsed<PathBuf> {
    let (text, from) = or_default(value, DEFAULT_DATA_DIR);
    let path = PathBuf::from(&text);
    if path.is_absolute() && !text.contains('\0') {
        return Ok(path);
    }
    let why = "a relative path would mean another place after every start";
    Err(invalid(setting, text, from, why, "an absolute path, such as '/var/lib/shoal'"))
}

pub(super) fn unix_socket(
    setting: &'static str,
    value: Sourced<String>,
    default: &str,
) -> Parsed<PathBuf> {
    const VALID: &str = "a Unix socket, such as 'unix:///run/shoal/docker.sock'";
    let (text, from) = or_default(value, default);
    let path = match text.split_once("://") {
        Some(("unix", path)) => path,
        Some((scheme, _)) => {
            let why = format!("shoal does not speak {scheme}:// here");
            return Err(invalid(setting, text.clone(), from, why, VALID));
        }
        None => text.as_str(),
    };
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(invalid(setting, text.clone(), from, "its path is not absolute", VALID));
    }
    if path.len() > MAX_SOCKET_PATH_BYTES {
        let why = format!("the kernel takes socket paths of at most {MAX_SOCKET_PATH_BYTES} bytes");
        return Err(invalid(setting, text.clone(), from, why, VALID));
    }
    Ok(PathBuf::from(path))
}

pub(super) fn runtime(value: Sourced<String>) -> Parsed<RuntimeKind> {
    let (text, from) = or_default(value, "docker");
    match text.as_str() {
        "docker" => Ok(RuntimeKind::Docker),
        "process" => Ok(RuntimeKind::Process),
        _ => Err(invalid("runtime", text, from, "there is no such runtime", "docker, process")),
    }
}

pub(super) fn profile(value: Sourced<String>) -> Parsed<Profile> {
    let (text, from) = or_default(value, "lan");
    match text.as_str() {
        "local" => Ok(Profile::Local),
        "lan" => Ok(Profile::Lan),
        "wan" => Ok(Profile::Wan),
        _ => Err(invalid("profile", text, from, "there is no such profile", "local, lan, wan")),
    }
}

pub(super) fn zone(value: Sourced<String>) -> Parsed<String> {
    let Some((zone, from)) = value else { return Ok(String::new()) };
    let fits = zone.len() <= MAX_LABEL_BYTES && !zone.contains(char::is_control);
    if fits {
        Ok(zone)
    } else {
        Err(invalid(
            "zone",
            zone,
            from,
            "it is too long or not printable",
            "up to 256 bytes of text",
        ))
    }
}

pub(super) fn labels(value: Sourced<Vec<String>>) -> Parsed<BTreeMap<String, String>> {
    const VALID: &str = "up to 64 times key=value, each part up to 256 bytes";
    let Some((pairs, from)) = value else { return Ok(BTreeMap::new()) };
    let mut labels = BTreeMap::new();
    for pair in pairs {
        // Docker's own `--label key` means an empty value.
        let (key, text) = pair.split_once('=').unwrap_or((&pair, ""));
        let why = if key.is_empty() || key.contains(char::is_whitespace) {
            "its key is empty or has a space in it"
        } else if key.len() > MAX_LABEL_BYTES || text.len() > MAX_LABEL_BYTES {
            "it is too long"
        } else if labels.insert(key.to_owned(), text.to_owned()).is_some() {
            "its key is there twice"
        } else if labels.len() > MAX_LABELS {
            "there are too many"
        } else {
            continue;
        };
        return Err(invalid("labels", pair, from, why, VALID));
    }
    Ok(labels)
}

/// Cores, as a decimal number of at most three places, in thousandths.
pub(super) fn cores(value: Sourced<String>) -> Parsed<u64> {
    const VALID: &str = "a number of cores, such as '0.5' or '2'";
    let Some((text, from)) = value else { return Ok(0) };
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let milli = || -> Option<u64> {
        if !digits(whole)
            || !digits(part)
            || part.len() > 3
            || (whole.is_empty() && part.is_empty())
        {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: u64 = format!("{part:0<3}").parse().ok()?;
        whole.checked_mul(1000)?.checked_add(part)
    };
    milli().ok_or_else(|| {
        invalid("reserve_cpu", text.clone(), from, "it is not a number of cores", VALID)
    })
}

/// Bytes, bare or with a unit; units are powers of 1024 as in Docker's own flags.
pub(super) fn bytes(value: Sourced<String>) -> Parsed<u64> {
    const VALID: &str = "a size such as '536870912', '512M' or '2GiB'";
    let Some((text, from)) = value else { return Ok(0) };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = text[end..].trim().to_ascii_lowercase();
    let factor = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => Some(1),
        "k" => Some(1 << 10),
        "m" => Some(1 << 20),
        "g" => Some(1u64 << 30),
        "t" => Some(1u64 << 40),
        _ => None,
    };
    let number = text[..end].parse::<u64>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| invalid("reserve_memory", text.clone(), from, "it is not a size", VALID))
}

pub(super) fn switch(setting: &'static str, value: Sourced<String>, default: bool) -> Parsed<bool> {
    let Some((text, from)) = value else { return Ok(default) };
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(invalid(setting, text, from, "it is neither on nor off", "true, false, on, off")),
    }
}

/// The levels are checked here; what is before a '=' is the name of a module and may be anything.
pub(super) fn log(value: Sourced<String>) -> Parsed<String> {
    const VALID: &str =
        "error, warn, info, debug, trace or off, or directives such as 'info,gossip=debug'";
    let (text, from) = or_default(value, "info");
    let is_level =
        |level: &str| matches!(level, "error" | "warn" | "info" | "debug" | "trace" | "off");
    let valid = text.split(',').all(|directive| {
        let directive = directive.trim();
        is_level(directive.rsplit_once('=').map_or(directive, |(_, level)| level))
    });
    if valid { Ok(text) } else { Err(invalid("log", text, from, "it names no known level", VALID)) }
}
