//! Netlink (netlink(7)): messages with nested attributes, many of them in one call.
//!
//! A [`Batch`] goes to the kernel with one `sendmsg`, and only its last message is acknowledged: what a start asks for
//! costs two calls. Errors come for every message, and name the step that it was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use errdefs::{ErrnoStep, Error, Result};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Of a message (`NLM_F_*`).
pub mod flag {
    #![allow(missing_docs)]
    pub const REQUEST: u16 = 1;
    pub const ACK: u16 = 4;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCLUSIVE: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
/// Of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel answers within its call; this is for a kernel that never does.
const PATIENCE: Duration = Duration::from_secs(20);
/// One read.
const BUFFER: usize = 64 * 1024;

/// What a message asks for, in words: an error names it.
type Step = Box<dyn Fn() -> String>;

/// Messages that are sent together.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
    /// Where the last message begins, and the nested attributes of it that are not ended.
    begin: usize,
    open: Vec<usize>,
}

impl Batch {
    /// Begins a message; what is put next belongs to it. `step` says what for.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], step: impl Fn() -> String + 'static) {
        self.finish();
        self.begin = self.bytes.len();
        self.steps.push(Box::new(step));
        let sequence = self.steps.len() as u32;
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.pad();
    }

    /// An attribute.
    pub fn put(&mut self, attribute: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&attribute.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A string, with its zero.
    pub fn put_text(&mut self, attribute: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(attribute, &value);
    }

    /// A number in the machine's order, as rtnetlink has them.
    pub fn put_u32(&mut self, attribute: u16, value: u32) {
        self.put(attribute, &value.to_ne_bytes());
    }

    /// A number in the network's order, as nf_tables has them.
    pub fn put_be32(&mut self, attribute: u16, value: u32) {
        self.put(attribute, &value.to_be_bytes());
    }

    /// An attribute of attributes.
    pub fn nest(&mut self, attribute: u16, fill: impl FnOnce(&mut Self)) {
        self.nest_after(attribute, &[], fill);
    }

    /// The same, behind a header of its own.
    pub fn nest_after(&mut self, attribute: u16, header: &[u8], fill: impl FnOnce(&mut Self)) {
        self.open.push(self.bytes.len());
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(attribute | NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.pad();
        fill(self);
        if let Some(at) = self.open.pop() {
            let length = (self.bytes.len() - at) as u16;
            self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// An attribute with its header, as the kernel gave it.
    pub(crate) fn put_whole(&mut self, attribute: &[u8]) {
        self.bytes.extend_from_slice(attribute);
        self.pad();
    }

    /// Bytes so far: the caller ends a batch before it is too long for the socket.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Messages so far.
    pub(crate) fn count(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Writes the length of the last message.
    fn finish(&mut self) {
        if self.bytes.len() > self.begin {
            let length = (self.bytes.len() - self.begin) as u32;
            self.bytes[self.begin..self.begin + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Sets a flag of the last message.
    fn flag_last(&mut self, flag: u16) {
        let at = self.begin + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | flag;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Its last message so far is answered.
    pub(crate) fn acknowledge_last(&mut self) {
        self.flag_last(flag::ACK);
    }

    fn step(&self, sequence: u32) -> String {
        let step = self.steps.get((sequence as usize).wrapping_sub(1));
        step.map_or_else(|| "talk to the kernel's network".into(), |step| step())
    }
}

/// A netlink socket. It stays in the network namespace where it was made.
pub struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// For interfaces, addresses and routes.
    pub fn route() -> Result<Self> {
        // NETLINK_ROUTE is number 0.
        Self::open(None)
    }

    /// For nf_tables.
    pub fn netfilter() -> Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    /// What changes of nf_tables: [`Socket::hear`] tells.
    pub fn firewall_news() -> Result<Self> {
        const NFNLGRP_NFTABLES: u32 = 7;
        Self::netfilter()?.listen(1 << (NFNLGRP_NFTABLES - 1))
    }

    /// The same of interfaces.
    pub fn link_news() -> Result<Self> {
        const RTMGRP_LINK: u32 = 1;
        Self::route()?.listen(RTMGRP_LINK)
    }

    fn listen(self, groups: u32) -> Result<Self> {
        let step = "listen to the kernel's network";
        rustix::net::bind(&self.socket, &netlink::SocketAddrNetlink::new(0, groups)).errno_step(step)?;
        Ok(self)
    }

    /// All news that are there: each message's type and body. `false`: some were lost.
    pub fn hear(&self, mut each: impl FnMut(u16, &[u8])) -> Result<bool> {
        let mut buffer = vec![0u8; BUFFER];
        let mut whole = true;
        loop {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => messages(&buffer[..length], &mut |m| each(m.kind, m.body)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(whole),
                Err(rustix::io::Errno::NOBUFS) => whole = false,
                Err(e) => return Err(e).errno_step("hear the kernel's network"),
            }
        }
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .errno_step("open a netlink socket")?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).errno_step("open a netlink socket")?;
        Ok(Socket { socket })
    }

    /// Sends all, waits until all are done; the first error.
    pub fn run(&self, mut batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.finish();
        batch.flag_last(flag::ACK);
        let last = batch.steps.len() as u32;
        self.converse(&batch, last)
    }

    /// The same for a batch of nf_tables, whose last message only ends it: the one before is acknowledged.
    pub(crate) fn run_transaction(&self, mut batch: Batch) -> Result<()> {
        batch.finish();
        let last = batch.steps.len() as u32 - 1;
        self.converse(&batch, last)
    }

    fn converse(&self, batch: &Batch, last: u32) -> Result<()> {
        self.send(batch)?;
        let mut failed: Option<Error> = None;
        let mut done = false;
        while !done {
            self.receive(|message| {
                if message.kind != ERROR {
                    return;
                }
                let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 && failed.is_none() {
                    failed = Some(refused(&batch.step(message.sequence), -code));
                }
                // An error of the first message of a transaction is an error of all.
                done |= message.sequence == last || (code != 0 && message.sequence == 1 && batch.transacts());
            })?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Everything that the kernel lists in answer to one message: the bodies.
    pub fn dump(&self, mut batch: Batch) -> Result<Vec<Vec<u8>>> {
        batch.finish();
        batch.flag_last(flag::DUMP);
        self.send(&batch)?;
        let (mut bodies, mut done, mut failed) = (Vec::new(), false, None);
        while !done {
            self.receive(|message| match message.kind {
                DONE => done = true,
                ERROR => {
                    let code = message.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    failed = (code != 0).then(|| refused(&batch.step(1), -code));
                    done = true;
                }
                _ => bodies.push(message.body.to_vec()),
            })?;
        }
        failed.map_or(Ok(bodies), Err)
    }

    fn send(&self, batch: &Batch) -> Result<()> {
        loop {
            match rustix::net::send(&self.socket, &batch.bytes, SendFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).errno_step("talk to the kernel's network"),
            }
        }
    }

    /// One read; each message of it.
    fn receive(&self, mut each: impl FnMut(Received<'_>)) -> Result<()> {
        let mut buffer = vec![0u8; BUFFER];
        let (length, _) = loop {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.errno_step("hear the kernel's network")?,
            }
        };
        messages(&buffer[..length], &mut each);
        Ok(())
    }
}

impl Batch {
    /// Whether it begins a transaction of nf_tables.
    fn transacts(&self) -> bool {
        const BATCH_BEGIN: u16 = 16;
        self.bytes.get(4..6) == Some(&BATCH_BEGIN.to_ne_bytes())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn refused(step: &str, errno: i32) -> Error {
    Error::caused(step, std::io::Error::from_raw_os_error(errno))
}

/// A message from the kernel.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// Its type.
    pub kind: u16,
    sequence: u32,
    /// Behind its header.
    pub body: &'a [u8],
}

/// Takes what was read apart.
pub fn messages(mut bytes: &[u8], each: &mut impl FnMut(Received<'_>)) {
    while bytes.len() >= HEADER {
        let number = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let length = number(0) as usize;
        if length < HEADER || length > bytes.len() {
            return;
        }
        each(Received {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            sequence: number(8),
            body: &bytes[HEADER..length],
        });
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
}

/// The attributes of a message, or of an attribute.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = u16::from_ne_bytes(*length) as usize;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & !(NESTED | 0x4000), value))
    })
}

/// The same with each one's header: `(type, value, all of it)`.
pub fn whole_attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    let mut at = 0;
    attributes(bytes).map(move |(kind, value)| {
        let whole = &bytes[at..at + value.len() + 4];
        at = (at + whole.len()).next_multiple_of(4);
        (kind, value, whole)
    })
}

/// One of them.
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut batch = Batch::default();
        batch.message(20, flag::CREATE, &[1, 2, 3, 4], || "test".into());
        batch.put_text(1, "abc");
        batch.nest(2, |b| b.put_u32(3, 7));
        batch.message(21, 0, &[], String::new);
        batch.finish();
        let mut seen = Vec::new();
        messages(&batch.bytes, &mut |m| seen.push((m.kind, m.body.to_vec())));
        assert_eq!((seen[0].0, seen[1].0), (20, 21));
        let body = &seen[0].1[4..];
        assert_eq!(attribute(body, 1), Some(&b"abc\0"[..]));
        assert_eq!(attribute(attribute(body, 2).unwrap(), 3), Some(&7u32.to_ne_bytes()[..]));
        assert_eq!(attribute(body, 9), None);
        let whole: Vec<_> = whole_attributes(body)
            .map(|(kind, _, whole)| (kind, whole.len()))
            .collect();
        assert_eq!(whole, [(1, 8), (2, 12)]);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        assert_eq!(attributes(&[200, 0, 1, 0, 5]).count(), 0);
        messages(&[255, 0, 0, 0], &mut |_| panic!());
        messages(&[0; 16], &mut |_| panic!());
    }

    #[test]
    fn the_kernel_says_which_step_failed() {
        let socket = Socket::route().unwrap();
        let mut batch = Batch::default();
        // RTM_DELLINK of an interface that is not there.
        let mut header = [0u8; 16];
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        batch.message(17, 0, &header, || "remove nothing".into());
        let error = socket.run(batch).unwrap_err().to_string();
        assert!(error.starts_with("remove nothing: "), "{error}");
    }
}
