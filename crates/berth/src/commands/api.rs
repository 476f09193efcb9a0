//! `api`, and `system dial-stdio`, by which `docker -H ssh://` reaches it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use api::{Address, Settings};
use errdefs::{Error, Result, Step};

use crate::cli::flag::Given;
use crate::{output, settings};

/// Where clients look, unless told otherwise.
const SOCKET: &str = "/run/berth.sock";

/// Serves Docker Engine's API until SIGTERM.
pub fn api(given: &Given) -> Result<u8> {
    let mut hosts = given.many("host");
    if hosts.is_empty() {
        hosts.push(format!("unix://{SOCKET}"));
    }
    let mut addresses = Vec::new();
    for host in &hosts {
        addresses.extend(address(host)?);
    }
    let named = given.one("group").map(group).transpose()?;
    let listening: Vec<String> = hosts.iter().map(|h| format!("API listen on {h}")).collect();
    api::serve(Settings {
        roots: settings::roots(),
        addresses,
        group: named.or_else(|| group("docker").ok()),
        registry: settings::registry_of_the_server()?,
        log: std::sync::Arc::new(output::note),
        ready: Box::new(move || listening.iter().for_each(|line| output::note(line))),
    })
    .map_err(settings::explain)?;
    Ok(0)
}

/// `unix://PATH`.
fn address(host: &str) -> Result<Vec<Address>> {
    match host.split_once("://") {
        Some(("unix", path)) => {
            let path = if path.is_empty() { SOCKET } else { path };
            match path.starts_with('/') {
                true => Ok(vec![Address::Unix(PathBuf::from(path))]),
                false => Err(Error::invalid(format!(
                    "invalid bind address ({host}): the path is not absolute"
                ))),
            }
        }
        _ => Err(Error::invalid(format!("invalid bind address ({host})")).hint("unix://PATH is one")),
    }
}

/// group(5): by name or number.
fn group(name: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string("/etc/group").step("read /etc/group")?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| Error::not_found(format!("group {name} not found")))
}

/// Joins its own streams to the API's socket.
pub fn dial_stdio(_: &Given) -> Result<u8> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let path = host.strip_prefix("unix://").unwrap_or(SOCKET);
    let socket = UnixStream::connect(Path::new(path))
        .step_with(|| format!("connect to the API at {path}"))
        .map_err(|e| e.hint("start it: berth api"))?;
    let mut to = socket.try_clone().step("copy the socket")?;
    // Ends with the process: nobody can take a read of standard input back.
    std::thread::spawn(move || {
        let _ = copy(&mut std::io::stdin().lock(), &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    copy(&mut &socket, &mut std::io::stdout().lock()).step("copy from the API")?;
    Ok(0)
}

/// What comes goes on at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read]).and_then(|()| to.flush())?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
