//! `api`, and `system dial-stdio`, by which `docker -H ssh://` reaches it.

use std::io::{Read, Write};
use std::net::ToSocketAddrs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use api::{Address, Settings, Tls};
use errdefs::{ErrnoStep, Error, Result, Step};

use crate::cli::flag::Given;
use crate::{output, settings};

/// Seconds without anybody, after which a server that systemd starts when it is needed ends.
const IDLE: u64 = 300;

/// Serves Docker Engine's API until SIGTERM.
pub fn api(given: &Given) -> Result<u8> {
    let mut hosts = given.many("host");
    if hosts.is_empty() {
        hosts.push(format!("unix://{}", settings::api_socket()?.display()));
    }
    let tls = tls(given)?;
    let (mut addresses, mut activated) = (Vec::new(), false);
    for host in &hosts {
        if host.starts_with("tcp://") && tls.is_none() {
            output::note(&format!("WARNING: whoever reaches {host} is root here: it has no TLS"));
        }
        activated |= host.starts_with("fd://");
        addresses.extend(address(host)?);
    }
    let page = page(given)?;
    let named = given.one("group").map(group).transpose()?;
    let idle = given.number("idle-exit")?.map(|seconds| seconds.max(1) as u64);
    let mut listening: Vec<String> = hosts.iter().map(|h| format!("API listen on {h}")).collect();
    listening.extend(
        page.iter()
            .map(|(address, token, _)| format!("page at http://{address}/#{token}")),
    );
    api::serve(Settings {
        roots: settings::roots()?,
        addresses,
        group: named.or_else(|| group("docker").ok().filter(|_| sys::process::has_hosts_users())),
        tls,
        idle_exit: idle.or(activated.then_some(IDLE)).map(Duration::from_secs),
        page,
        registry: settings::registry_of_the_server()?,
        log: std::sync::Arc::new(output::note),
        ready: Box::new(move || {
            listening.iter().for_each(|line| output::note(line));
            notify_ready();
        }),
    })
    .map_err(settings::explain)?;
    Ok(0)
}

/// Where the web page is; its token is of this server alone.
fn page(given: &Given) -> Result<Option<(std::net::SocketAddr, String, bool)>> {
    let Some(place) = given.one("ui") else {
        return match given.on("ui-write") {
            true => Err(Error::invalid("--ui-write says what the page of --ui may do")),
            false => Ok(None),
        };
    };
    let address = place
        .parse()
        .map_err(|_| Error::invalid(format!("invalid address for --ui: {place:?}: ADDRESS:PORT is needed")))?;
    let token = engine::container::names::new_id()?;
    Ok(Some((address, token, given.on("ui-write"))))
}

/// `unix://PATH`, `tcp://ADDRESS:PORT`, `fd://`.
fn address(host: &str) -> Result<Vec<Address>> {
    let bad = |why: &str| Error::invalid(format!("invalid bind address ({host}){why}"));
    match host.split_once("://") {
        Some(("unix", path)) => {
            let path = match path.is_empty() {
                true => settings::api_socket()?,
                false => PathBuf::from(path),
            };
            match path.is_absolute() {
                true => Ok(vec![Address::Unix(path)]),
                false => Err(bad(": the path is not absolute")),
            }
        }
        Some(("tcp", address)) => {
            let mut found = address
                .trim_end_matches('/')
                .to_socket_addrs()
                .map_err(|_| bad(": ADDRESS:PORT is needed"))?;
            let first = found.next().ok_or_else(|| bad(": it has no address"))?;
            Ok(vec![Address::Tcp(first)])
        }
        Some(("fd", _)) => passed(),
        _ => Err(bad("").hint("unix://PATH, tcp://ADDRESS:PORT and fd:// are such")),
    }
}

/// sd_listen_fds(3).
fn passed() -> Result<Vec<Address>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<i32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id() as i32);
    let count = number("LISTEN_FDS").filter(|n| ours && (1..64).contains(n));
    let count =
        count.ok_or_else(|| Error::invalid("fd://: no sockets were passed").hint("systemd does it: berth.socket"))?;
    let list = sys::process::passed_descriptors(count).errno_step("take the sockets that were passed")?;
    Ok(list.into_iter().map(Address::Inherited).collect())
}

/// sd_notify(3).
fn notify_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // Who does not listen is not told.
    let _ = match path.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).and_then(|a| socket.send_to_addr(b"READY=1", &a)),
        _ => socket.send_to(b"READY=1", &path),
    };
}

/// Files where docker's client looks for its own, unless given.
fn tls(given: &Given) -> Result<Option<Tls>> {
    let verify = given.on("tlsverify");
    if !verify && !given.on("tls") {
        return Ok(None);
    }
    let file = |flag: &str, name: &str| match given.one(flag) {
        Some(path) => Ok(PathBuf::from(path)),
        None => match std::env::var_os("DOCKER_CERT_PATH") {
            Some(dir) => Ok(PathBuf::from(dir).join(name)),
            None => Err(Error::invalid(format!("--{flag} is needed for TLS"))),
        },
    };
    Ok(Some(Tls {
        certificate: file("tlscert", "cert.pem")?,
        key: file("tlskey", "key.pem")?,
        authority: verify.then(|| file("tlscacert", "ca.pem")).transpose()?,
    }))
}

/// group(5): by name or number.
pub fn group(name: &str) -> Result<u32> {
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
    let path = match host.strip_prefix("unix://") {
        Some(path) => PathBuf::from(path),
        None => settings::api_socket()?,
    };
    let socket = UnixStream::connect(&path)
        .step_with(|| format!("connect to the API at {}", path.display()))
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
