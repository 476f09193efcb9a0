//! D-Bus, as far as asking systemd for something takes: method calls over a socket, their answers, and signals (D-Bus
//! Specification, "Message Protocol"). Without a bus: systemd itself listens at a socket of its own.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use errdefs::{Error, Result, Step};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// No message is longer, and no line of the greeting.
const LIMIT: usize = 1 << 20;
const LINE: usize = 512;

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What can be in a variant.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    U64(u64),
    Text(String),
    Bytes(Vec<u8>),
    U32s(Vec<u32>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::U64(_) => "t",
            Value::Text(_) => "s",
            Value::Bytes(_) => "ay",
            Value::U32s(_) => "au",
        }
    }
}

/// A message's body, or header, as it is written: every value at a multiple of its own size.
#[derive(Default)]
pub struct Body {
    bytes: Vec<u8>,
    signature: String,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// Its length stands before it, and not what its first element is moved by.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(on) => self.u32((*on).into()),
            Value::U64(number) => {
                self.align(8);
                self.bytes.extend(number.to_le_bytes());
            }
            Value::Text(text) => self.string(text),
            Value::Bytes(list) => self.array(1, |body| body.bytes.extend(list)),
            Value::U32s(list) => self.array(4, |body| list.iter().for_each(|n| body.u32(*n))),
        }
    }

    /// One argument more: a string.
    pub fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        self.string(text);
        self
    }

    /// One argument more: a boolean.
    pub fn flag(mut self, on: bool) -> Self {
        self.signature.push('b');
        self.u32(on.into());
        self
    }

    /// One argument more: names with their values.
    pub fn properties(mut self, list: &[(&str, Value)]) -> Self {
        self.signature.push_str("a(sv)");
        self.array(8, |body| {
            for (name, value) in list {
                body.align(8);
                body.string(name);
                body.variant(value);
            }
        });
        self
    }

    /// One argument more: no further units.
    pub fn no_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        self.array(8, |_| {});
        self
    }
}

/// What came: its kind, what it answers, its name (of the error or the signal), and the strings that it begins with.
#[derive(Debug, Default, PartialEq)]
pub struct Message {
    kind: u8,
    answers: u32,
    name: String,
    /// Strings and object paths of its body, up to the first value of another kind; numbers in front are left out.
    pub words: Vec<String>,
}

/// Whom a call is for.
#[derive(Clone, Copy)]
pub struct Target {
    pub destination: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
}

/// A conversation.
pub struct Connection {
    socket: UnixStream,
    serial: u32,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Connection {
    /// Connects, and says who we are: the kernel vouches for it.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("talk to {}", path.display());
        let mut socket = UnixStream::connect(path).step_with(step)?;
        socket
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| socket.set_write_timeout(Some(PATIENCE)))
            .step_with(step)?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        // At once, and nothing more before the answer: what comes in one piece with BEGIN systemd reads, and then sleeps.
        socket
            .write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())
            .step_with(step)?;
        let answer = line(&mut socket).step_with(step)?;
        if !answer.starts_with("OK ") {
            return Err(Error::system(format!("{} does not know us: {answer}", path.display())));
        }
        Ok(Connection {
            socket,
            serial: 0,
            signals: Vec::new(),
        })
    }

    /// Calls a method; its answer, or the error in the words of whoever was asked.
    pub fn call(&mut self, target: Target, method: &str, body: Body) -> Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        let bytes = call(target, method, serial, &body);
        self.socket
            .write_all(&bytes)
            .step_with(|| format!("ask for {method}"))?;
        loop {
            let message = self.next().step_with(|| format!("wait for the answer to {method}"))?;
            match message.kind {
                SIGNAL => self.signals.push(message),
                ANSWER if message.answers == serial => return Ok(message),
                ERROR if message.answers == serial => {
                    let words = message.words.first().cloned().unwrap_or_default();
                    return Err(Error::system(format!("{method}: {words} ({})", message.name)));
                }
                _ => {}
            }
        }
    }

    /// The next signal that `wanted` takes, of those that came and will come.
    pub fn signal(&mut self, name: &str, wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        let takes = |m: &Message| m.name == name && wanted(m);
        if let Some(at) = self.signals.iter().position(takes) {
            return Ok(self.signals.swap_remove(at));
        }
        loop {
            let message = self.next().step_with(|| format!("wait for {name}"))?;
            if message.kind == SIGNAL && takes(&message) {
                return Ok(message);
            }
        }
    }

    fn next(&mut self) -> std::io::Result<Message> {
        let mut head = [0; 16];
        self.socket.read_exact(&mut head)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (number(4), number(12));
        if head[0] != b'l' || body > LIMIT || fields > LIMIT {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.socket.read_exact(&mut rest)?;
        let (fields, body) = (&rest[..fields], &rest[fields.next_multiple_of(8)..]);
        parse(head[1], fields, body).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

fn line(socket: &mut UnixStream) -> std::io::Result<String> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n") && text.len() < LINE {
        socket.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

fn call(target: Target, method: &str, serial: u32, body: &Body) -> Vec<u8> {
    let mut head = Body::default();
    head.bytes.extend([b'l', CALL, 0, 1]);
    head.u32(body.bytes.len() as u32);
    head.u32(serial);
    head.array(8, |head| {
        let text = [
            (PATH, "o", target.path),
            (INTERFACE, "s", target.interface),
            (MEMBER, "s", method),
            (DESTINATION, "s", target.destination),
        ];
        for (field, signature, text) in text {
            head.align(8);
            head.bytes.push(field);
            head.signature(signature);
            head.string(text);
        }
        if !body.signature.is_empty() {
            head.align(8);
            head.bytes.push(SIGNATURE);
            head.signature("g");
            head.signature(&body.signature);
        }
    });
    head.align(8);
    head.bytes.extend(&body.bytes);
    head.bytes
}

/// Reads a message from its beginning; `None` if something is not where it should be.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, size: usize) -> Option<&[u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(size)?)?;
        self.at += size;
        Some(part)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn string(&mut self) -> Option<String> {
        let size = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(size)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let size = self.take(1)?[0].into();
        let text = String::from_utf8_lossy(self.take(size)?).into_owned();
        self.take(1)?;
        Some(text)
    }
}

fn parse(kind: u8, fields: &[u8], body: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes: fields, at: 0 };
    let mut message = Message {
        kind,
        ..Default::default()
    };
    let mut signature = String::new();
    while reader.at < fields.len() {
        reader.align(8);
        let field = reader.take(1)?[0];
        match (reader.signature()?.as_str(), field) {
            ("u", REPLY_SERIAL) => message.answers = reader.u32()?,
            ("u", _) => drop(reader.u32()?),
            ("g", SIGNATURE) => signature = reader.signature()?,
            ("s", MEMBER | ERROR_NAME) => message.name = reader.string()?,
            ("s" | "o", _) => drop(reader.string()?),
            _ => return None,
        }
    }
    let mut reader = Reader { bytes: body, at: 0 };
    for letter in signature.chars() {
        match letter {
            'u' => drop(reader.u32()?),
            's' | 'o' => message.words.push(reader.string()?),
            'v' => match reader.signature()?.as_str() {
                "s" | "o" => message.words.push(reader.string()?),
                _ => break,
            },
            _ => break,
        }
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        destination: "org.example",
        path: "/org/example",
        interface: "org.example.Manager",
    };

    fn own_words(bytes: &[u8]) -> Option<Message> {
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let (body, fields) = (number(4)?, number(12)?);
        let start = 16 + fields.next_multiple_of(8);
        parse(
            *bytes.get(1)?,
            bytes.get(16..16 + fields)?,
            bytes.get(start..start + body)?,
        )
    }

    #[test]
    fn a_call_is_as_the_specification_writes_it() {
        let properties = [("Delegate", Value::Bool(true)), ("PIDs", Value::U32s(vec![7, 8]))];
        let body = Body::default().text("a.scope").properties(&properties).no_units();
        assert_eq!(body.signature, "sa(sv)a(sa(sv))");
        // length 7, "a.scope", end; length of the array; at 16: length 8, "Delegate", end, "b", end, 1
        assert_eq!(&body.bytes[..12], b"\x07\0\0\0a.scope\0");
        assert_eq!(&body.bytes[16..36], b"\x08\0\0\0Delegate\0\x01b\0\x01\0\0\0");
        let bytes = call(TARGET, "Start", 3, &body);
        let message = own_words(&bytes).unwrap();
        assert_eq!((message.kind, message.name.as_str()), (CALL, "Start"));
        assert_eq!(message.words, ["a.scope"]);
        assert!(bytes.len().is_multiple_of(8) || bytes.len() > 16);
    }

    #[test]
    fn no_message_is_too_strange() {
        let body = Body::default().text("a").flag(true).text("b");
        let bytes = call(TARGET, "Start", 3, &body);
        for at in 0..bytes.len() {
            for byte in [0, 1, b's', b'v', b'(', 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                let _ = (own_words(&changed), own_words(&changed[..at]));
            }
        }
    }
}
