//! The network of somebody who is not root: pasta(1) makes an interface in the namespace, and carries what goes through it by
//! sockets of the user's. Who connects to a published port is seen inside by the address that he has.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use sys::process::Forked;

use crate::port::Protocol;
use crate::{Attachment, Driver, Published};

/// The program, and Debian's package that has it.
const PROGRAM: &str = "pasta";
const PACKAGE: &str = "passt";
/// The exit code of a process that could not execute it.
const NOT_THERE: i32 = 127;
const MS_BIND: u64 = 0x1000;

/// The attachment that pasta carries, if there is one: it is then the only one.
pub fn of(attachments: &[Attachment]) -> Option<&Attachment> {
    attachments.iter().find(|a| a.network.driver == Driver::Pasta)
}

/// pasta at work. It ends with this, and with the process that has this; its ports are free then.
pub struct Carrier {
    process: OwnedFd,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // One that has ended is fine.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED);
    }
}

/// What pasta is given of the file system: in a directory of the container's that lives as long as it does.
struct Files {
    /// Names the namespace. pasta goes when this goes.
    namespace: PathBuf,
    /// Where pasta writes when it is ready.
    ready: PathBuf,
}

impl Files {
    fn make(dir: &Path, pid: i32) -> Result<Self> {
        let files = Files {
            namespace: dir.join("netns"),
            ready: dir.join("pasta"),
        };
        files.remove()?;
        File::create(&files.namespace).step("make a name for the network namespace")?;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &files.ready,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .errno_step("make a pipe for pasta")?;
        let path = |path: &Path| std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).step("name a file");
        // pasta has fewer rights than we, and may not look into the container's first process.
        let source = path(Path::new(&format!("/proc/{pid}/ns/net")))?;
        sys::mount::mount(&source, &path(&files.namespace)?, c"", MS_BIND, c"")
            .errno_step("give the network namespace a name")?;
        Ok(files)
    }

    /// Once pasta is there the namespace needs no mount any more: the file stays.
    fn unmount(&self) {
        let _ = rustix::mount::unmount(&self.namespace, UnmountFlags::DETACH);
    }

    /// Of a run before.
    fn remove(&self) -> Result<()> {
        self.unmount();
        for file in [&self.namespace, &self.ready] {
            match std::fs::remove_file(file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).step("forget the last run's pasta");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Has pasta carry a process's network namespace; returns once the interface is there and the ports are bound. The caller is
/// single-threaded. `dir`: the container's own, which goes when it ends.
pub fn attach(pid: i32, attachment: &Attachment, dir: &Path) -> Result<Carrier> {
    let files = Files::make(dir, pid)?;
    let carrier = start(attachment, &files);
    files.unmount();
    carrier
}

fn start(attachment: &Attachment, files: &Files) -> Result<Carrier> {
    let log = rustix::fs::memfd_create(c"pasta", rustix::fs::MemfdFlags::CLOEXEC).errno_step("make pasta's log")?;
    let mut log = File::from(log);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let ready = rustix::fs::open(&files.ready, flags, Mode::empty()).errno_step("wait for pasta")?;
    let mut command = command(attachment, files);
    command.stderr(log.try_clone().step("keep pasta's log")?);
    let process = match sys::process::clone3(0, None).errno_step("start pasta")? {
        Forked::Child => {
            let _ = sys::process::set_parent_death_signal(9);
            let _ = command.exec();
            sys::process::exit_now(NOT_THERE)
        }
        Forked::Parent { pidfd, .. } => pidfd,
    };
    let carrier = Carrier { process };
    let mut fds = [
        PollFd::from_borrowed_fd(carrier.process.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(ready.as_fd(), PollFlags::IN),
    ];
    loop {
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => break polled.errno_step("wait for pasta").map(drop)?,
        }
    }
    if fds[0].revents().is_empty() {
        return Ok(carrier);
    }
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let ended = rustix::process::waitid(WaitId::PidFd(carrier.process.as_fd()), how).errno_step("wait for pasta")?;
    if ended.and_then(|e| e.exit_status()) == Some(NOT_THERE) {
        let message = "the program pasta, which carries networks without root, is not there";
        return Err(Error::system(message).hint(format!(
            "install the package {PACKAGE}, or use --network host or --network none"
        )));
    }
    let mut text = String::new();
    let _ = log.rewind().and_then(|()| log.read_to_string(&mut text));
    Err(explain(&text))
}

fn command(attachment: &Attachment, files: &Files) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--foreground", "--config-net", "--no-map-gw", "--quiet"])
        .args(["--ns-ifname", &attachment.interface])
        // What the host listens at is no business of the container's.
        .args(["--tcp-ns", "none", "--udp-ns", "none"])
        .args(ports(attachment))
        .arg("--pid")
        .arg(&files.ready)
        .arg("--netns")
        .arg(&files.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// What it has to say, without what it says of its own log.
fn explain(text: &str) -> Error {
    let lines = text.lines().map(str::trim);
    let words: Vec<&str> = lines.filter(|l| !l.is_empty() && !l.contains("to syslog")).collect();
    let error = Error::system(format!("pasta: {}", words.join("; ")));
    match () {
        () if text.contains("/dev/net/tun") => {
            error.hint("everybody has to be able to open /dev/net/tun: is the module tun there?")
        }
        () if text.contains("interface not usable") => {
            error.hint("this host has no way out that pasta could take: --network none does without")
        }
        () if text.contains("Failed to bind") && text.contains("interface for IPv6") => {
            error.hint("this host has no way out by IPv6, and pasta does without IPv6 then")
        }
        () => error,
    }
}

/// The ports as pasta is told them.
fn ports(attachment: &Attachment) -> Vec<String> {
    let mut words = Vec::new();
    for (flag, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let of_protocol = attachment.published.iter().filter(|p| p.protocol == protocol);
        let list: Vec<String> = of_protocol.filter_map(|p| word(p, &attachment.published)).collect();
        match list.is_empty() {
            true => words.extend([flag.to_owned(), "none".to_owned()]),
            false => list.into_iter().for_each(|word| words.extend([flag.to_owned(), word])),
        }
    }
    words
}

/// A range of ports; `None` for the IPv6 half of one that is published everywhere: that is said by naming no address.
fn word(published: &Published, all: &[Published]) -> Option<String> {
    let twin = |p: &Published| {
        p.address.is_unspecified()
            && !p.address.is_ipv6()
            && (p.protocol, p.port, p.inner, p.count)
                == (published.protocol, published.port, published.inner, published.count)
    };
    let everywhere = published.address.is_unspecified();
    if everywhere && published.address.is_ipv6() && all.iter().any(twin) {
        return None;
    }
    let six = |p: &Published| p.address.is_ipv6() && p.address.is_unspecified() && p.port == published.port;
    let address = match everywhere && all.iter().any(six) && !published.address.is_ipv6() {
        true => String::new(),
        false => format!("{}/", published.address),
    };
    let range = |first: u16| match published.count {
        1 => first.to_string(),
        count => format!("{first}-{}", first + (count - 1)),
    };
    Some(format!("{address}{}:{}", range(published.port), range(published.inner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(address: &str, port: u16, inner: u16, count: u16) -> Published {
        Published {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            port,
            inner,
            count,
        }
    }

    #[test]
    fn ports_are_said_as_pasta_reads_them() {
        let all = [
            published("0.0.0.0", 8080, 80, 1),
            published("::", 8080, 80, 1),
            published("0.0.0.0", 9000, 90, 1),
            published("::1", 7000, 70, 3),
            published("::", 6000, 60, 1),
        ];
        let words: Vec<_> = all.iter().map(|p| word(p, &all)).collect();
        let words: Vec<_> = words.iter().map(|w| w.as_deref()).collect();
        let expected = [
            Some("8080:80"),
            None,
            Some("0.0.0.0/9000:90"),
            Some("::1/7000-7002:70-72"),
            Some("::/6000:60"),
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn what_it_says_of_its_log_is_left_out() {
        let text = "Failed to send 46 bytes to syslog\nExternal interface not usable\n";
        let error = explain(text);
        assert_eq!(error.to_string(), "pasta: External interface not usable");
        assert!(error.find_hint().unwrap().contains("--network none"));
    }
}
