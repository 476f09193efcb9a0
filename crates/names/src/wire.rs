//! DNS messages (RFC 1035, RFC 6891): as much of them as is needed to answer for containers and to pass the rest on.
//!
//! What comes from containers and from resolvers is hostile: nothing is read beyond the message, names end after 255 bytes,
//! pointers lead backwards alone. What is passed on is passed on byte by byte, under another id.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest message there is: its length has two bytes over TCP.
pub const LONGEST: usize = u16::MAX as usize;
/// What fits into a datagram for whoever does not say otherwise.
const PLAIN_ROOM: usize = 512;
/// And for whoever says more than we send.
const MOST_ROOM: usize = 4096;
const HEADER: usize = 12;
/// Of a name, in bytes.
const NAME_LIMIT: usize = 255;
const LABEL_LIMIT: u8 = 63;
/// Additional records of a query: one for its extensions, one for a signature.
const EXTRAS: u16 = 4;
/// How long others may keep what we say of containers: not at all, it changes at any moment.
const TTL: u32 = 0;

/// Types of records.
pub mod kind {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

/// What an answer says of its question.
pub mod code {
    #![allow(missing_docs)]
    pub const GOOD: u8 = 0;
    pub const FORMAT: u8 = 1;
    pub const FAILED: u8 = 2;
    pub const NO_SUCH_NAME: u8 = 3;
    pub const NOT_IMPLEMENTED: u8 = 4;
    pub const REFUSED: u8 = 5;
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// In lower case, without the last dot. What is no plain character in it is escaped, dots inside labels included.
    pub name: String,
    /// Of [`kind`], mostly.
    pub kind: u16,
    /// 1: the internet's.
    pub class: u16,
    /// The longest answer by datagram.
    pub room: usize,
    /// It has extensions, and gets some.
    extended: bool,
    /// Where its question ends.
    end: usize,
}

/// Why something is no query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bad {
    /// It is to be answered with this code.
    Answer(u8),
    /// It is to be left alone.
    Silence,
}

/// One answer of ours.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// The name that an address has.
    Name(String),
}

impl Query {
    /// Reads a whole message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Bad> {
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let (Some(flags), Some(extras)) = (word(2), word(10)) else {
            return Err(Bad::Silence);
        };
        if flags & 0x8000 != 0 {
            return Err(Bad::Silence);
        }
        if flags & 0x7800 != 0 {
            return Err(Bad::Answer(code::NOT_IMPLEMENTED));
        }
        if (word(4), word(6), word(8)) != (Some(1), Some(0), Some(0)) || extras > EXTRAS {
            return Err(Bad::Answer(code::FORMAT));
        }
        let bad = Bad::Answer(code::FORMAT);
        // The first name of a message has nothing to point to.
        let (name, after) = name(bytes, HEADER, false).ok_or(bad)?;
        let (kind, class) = (word(after).ok_or(bad)?, word(after + 2).ok_or(bad)?);
        let mut query = Query {
            name,
            kind,
            class,
            room: PLAIN_ROOM,
            extended: false,
            end: after + 4,
        };
        let mut at = query.end;
        for _ in 0..extras {
            let record = Record::read(bytes, at).ok_or(bad)?;
            if record.kind == kind::OPT {
                query.extended = true;
                query.room = usize::from(record.class).clamp(PLAIN_ROOM, MOST_ROOM);
            }
            at = record.end;
        }
        Ok(query)
    }

    /// Whether a resolver's message answers this query, which was sent under this id.
    pub fn is_answered_by(&self, asked: &[u8], id: u16, answer: &[u8]) -> bool {
        let question = HEADER..self.end;
        answer.get(..2) == Some(&id.to_be_bytes())
            && answer.get(2).is_some_and(|flags| flags & 0x80 != 0)
            && answer.get(4..6) == Some(&[0, 1])
            && answer.get(question.clone()) == asked.get(question)
    }

    /// What is answered: of the answers as many as fit into `room` bytes.
    pub fn answer(&self, asked: &[u8], code: u8, answers: &[Data], room: usize) -> Vec<u8> {
        let mut out = head(asked, code);
        out[4..6].copy_from_slice(&[0, 1]);
        out.extend_from_slice(asked.get(HEADER..self.end).unwrap_or_default());
        let reserved = if self.extended { EXTENSIONS.len() } else { 0 };
        let mut count: u16 = 0;
        for data in answers {
            let before = out.len();
            push(&mut out, data);
            if out.len() + reserved > room {
                out.truncate(before);
                // Truncated: ask again over TCP.
                out[2] |= 0x02;
                break;
            }
            count += 1;
        }
        out[6..8].copy_from_slice(&count.to_be_bytes());
        if self.extended {
            out[10..12].copy_from_slice(&[0, 1]);
            out.extend_from_slice(&EXTENSIONS);
        }
        out
    }

    /// The question of a resolver's answer that is longer than the datagram that was asked for, marked as cut off.
    pub fn cut_off(&self, answer: &[u8]) -> Vec<u8> {
        let mut out = answer.get(..self.end).unwrap_or_default().to_vec();
        if out.len() >= HEADER {
            out[2] |= 0x02;
            out[6..12].fill(0);
        }
        out
    }
}

/// Our extensions: none, and room for 1232 bytes, which pass everywhere in one piece.
const EXTENSIONS: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// The answer to what could not be read.
pub fn refusal(asked: &[u8], code: u8) -> Vec<u8> {
    head(asked, code)
}

/// The header of an answer without anything in it.
fn head(asked: &[u8], code: u8) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    let given = asked.get(..HEADER).unwrap_or(&[0; HEADER]);
    out[..2].copy_from_slice(&given[..2]);
    // An answer; kind of query and whether recursion is wanted as asked.
    out[2] = 0x80 | (given[2] & 0x79);
    // Recursion is to be had.
    out[3] = 0x80 | (code & 0x0f);
    out
}

fn push(out: &mut Vec<u8>, data: &Data) {
    let (kind, bytes) = match data {
        Data::Address(IpAddr::V4(v4)) => (kind::A, v4.octets().to_vec()),
        Data::Address(IpAddr::V6(v6)) => (kind::AAAA, v6.octets().to_vec()),
        Data::Name(name) => (kind::PTR, encode(name)),
    };
    // The name is that of the question, which stands behind the header.
    out.extend_from_slice(&[0xc0, HEADER as u8]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&1u16.to_be_bytes());
    out.extend_from_slice(&TTL.to_be_bytes());
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// A name as labels; what is too long for one is left out.
fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|l| !l.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(LABEL_LIMIT.into())];
        if out.len() + label.len() + 2 > NAME_LIMIT {
            break;
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

/// Reads the name at `at`; the name, and where what follows begins.
fn name(bytes: &[u8], at: usize, pointers: bool) -> Option<(String, usize)> {
    let (mut text, mut at, mut after, mut length) = (String::new(), at, None, 1);
    let mut before = at;
    loop {
        let size = *bytes.get(at)?;
        match size {
            0 => return Some((text, after.unwrap_or(at + 1))),
            1..=LABEL_LIMIT => {
                let label = bytes.get(at + 1..at + 1 + usize::from(size))?;
                length += label.len() + 1;
                if length > NAME_LIMIT {
                    return None;
                }
                if !text.is_empty() {
                    text.push('.');
                }
                spell(&mut text, label);
                at += 1 + usize::from(size);
            }
            0xc0.. if pointers => {
                let target = usize::from(u16::from_be_bytes([size & 0x3f, *bytes.get(at + 1)?]));
                after.get_or_insert(at + 2);
                // Backwards alone: there is an end.
                if target >= before {
                    return None;
                }
                (before, at) = (target, target);
            }
            _ => return None,
        }
    }
}

fn spell(text: &mut String, label: &[u8]) {
    for byte in label {
        match byte {
            b'.' | b'\\' => _ = write!(text, "\\{}", char::from(*byte)),
            b if b.is_ascii_graphic() => text.push(char::from(b.to_ascii_lowercase())),
            b => _ = write!(text, "\\{b:03}"),
        }
    }
}

/// A record behind the question.
struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
    end: usize,
}

impl<'a> Record<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (_, at) = name(bytes, at, true)?;
        let fixed: &[u8; 10] = bytes.get(at..at + 10)?.try_into().ok()?;
        let start = at + 10;
        let end = start + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        Some(Record {
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            class: u16::from_be_bytes([fixed[2], fixed[3]]),
            ttl: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            data: bytes.get(start..end)?,
            end,
        })
    }
}

/// The code of an answer.
pub fn code_of(answer: &[u8]) -> u8 {
    answer.get(3).map_or(code::FAILED, |b| b & 0x0f)
}

/// Puts another id into a message.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The addresses that an answer gives, with the seconds that they hold; `None` if it cannot be read to its end.
pub fn addresses(answer: &[u8]) -> Option<Vec<(IpAddr, u32)>> {
    let word = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = name(answer, at, true)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        let record = Record::read(answer, at)?;
        let address = match record.kind {
            kind::A => <[u8; 4]>::try_from(record.data).ok().map(|b| Ipv4Addr::from(b).into()),
            kind::AAAA => <[u8; 16]>::try_from(record.data).ok().map(|b| Ipv6Addr::from(b).into()),
            _ => None,
        };
        found.extend(address.filter(|_| record.class == 1).map(|a: IpAddr| (a, record.ttl)));
        at = record.end;
    }
    Some(found)
}

/// The address that a question for a name asks about (RFC 1035 3.5, RFC 3596 2.5).
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut parts = [0u8; 4];
        let mut given = digits.split('.');
        for part in parts.iter_mut().rev() {
            *part = given.next()?.parse().ok()?;
        }
        return given.next().is_none().then(|| Ipv4Addr::from(parts).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let (mut number, mut count) = (0u128, 0);
    for digit in digits.split('.') {
        let value = u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
        number = (number >> 4) | (u128::from(value) << 124);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(labels: &[&[u8]], kind: u16, extended: bool) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, extended.into()];
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        if extended {
            bytes.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn questions_are_read_and_answered() {
        let bytes = asked(&[b"Web", b"net"], kind::A, true);
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(
            (query.name.as_str(), query.kind, query.room),
            ("web.net", kind::A, 4096)
        );
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        let answer = query.answer(&bytes, code::GOOD, &[Data::Address(address)], query.room);
        assert!(query.is_answered_by(&bytes, 0x1234, &answer));
        assert!(!query.is_answered_by(&bytes, 0x1235, &answer), "another id");
        let other = asked(&[b"web", b"net"], kind::A, true);
        assert!(
            !Query::parse(&other).unwrap().is_answered_by(&other, 0x1234, &answer),
            "another spelling"
        );
        assert_eq!(addresses(&answer), Some(vec![(address, 0)]));
        assert_eq!((code_of(&answer), answer[2] & 0x02), (0, 0));
    }

    #[test]
    fn answers_that_do_not_fit_are_cut_off_and_say_so() {
        let bytes = asked(&[b"many"], kind::A, false);
        let query = Query::parse(&bytes).unwrap();
        let all: Vec<Data> = (0..100u32).map(|n| Data::Address(Ipv4Addr::from(n).into())).collect();
        let answer = query.answer(&bytes, code::GOOD, &all, query.room);
        assert!(answer.len() <= 512 && answer[2] & 0x02 != 0);
        assert_eq!(addresses(&answer).unwrap().len(), 30);
        let whole = query.answer(&bytes, code::GOOD, &all, LONGEST);
        assert_eq!((addresses(&whole).unwrap().len(), whole[2] & 0x02), (100, 0));
        let cut = query.cut_off(&whole);
        assert!(query.is_answered_by(&bytes, 0x1234, &cut) && cut[2] & 0x02 != 0);
    }

    #[test]
    fn a_dot_inside_a_label_is_no_other_name() {
        let query = Query::parse(&asked(&[b"api.example", b"org"], kind::A, false)).unwrap();
        assert_eq!(query.name, "api\\.example.org");
        assert_eq!(Query::parse(&asked(&[b"a\0"], kind::A, false)).unwrap().name, "a\\000");
    }

    #[test]
    fn reverse_names_are_addresses() {
        assert_eq!(reversed("4.3.2.1.in-addr.arpa"), Some("1.2.3.4".parse().unwrap()));
        let six = format!("1.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(reversed(&six), Some("fd00::1".parse().unwrap()));
        for bad in [
            "1.2.3.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "x.3.2.1.in-addr.arpa",
            "1.ip6.arpa",
            "arpa",
            "",
        ] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
    }

    #[test]
    fn pointers_that_lead_in_circles_are_refused() {
        let mut bytes = asked(&[], kind::A, true);
        let opt = bytes.len() - 11;
        bytes.splice(opt..opt + 1, [0xc0, opt as u8]);
        assert_eq!(Query::parse(&bytes), Err(Bad::Answer(code::FORMAT)));
        assert_eq!(
            Query::parse(&asked(&[&[b'x'; 64]], kind::A, false)),
            Err(Bad::Answer(code::FORMAT))
        );
        let long: Vec<&[u8]> = vec![&[b'x'; 63]; 5];
        assert_eq!(
            Query::parse(&asked(&long, kind::A, false)),
            Err(Bad::Answer(code::FORMAT))
        );
    }

    /// Spoilt in every byte and cut off everywhere: read to an end, answered within limits.
    #[test]
    fn spoilt_messages_are_read_to_an_end() {
        let bytes = asked(&[b"web", b"example"], kind::AAAA, true);
        let query = Query::parse(&bytes).unwrap();
        let data = [Data::Address("fd00::1".parse().unwrap()), Data::Name("a.b".into())];
        let whole = query.answer(&bytes, code::GOOD, &data, LONGEST);
        for original in [&bytes, &whole] {
            for at in 0..original.len() {
                for value in [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff, original[at].wrapping_add(1)] {
                    let mut spoilt = original.clone();
                    spoilt[at] = value;
                    for end in [at, at + 1, spoilt.len()] {
                        let message = &spoilt[..end];
                        let _ = addresses(message);
                        if let Ok(read) = Query::parse(message) {
                            assert!(read.answer(message, 0, &data, read.room).len() <= 512.max(read.room));
                        }
                    }
                }
            }
        }
    }
}
