//! Query strings, read as Docker's server reads them.

use errdefs::{Error, Kind, Result};

/// Names and values in their order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// Percent-encoding and `+` taken off; the part of it that is none, if there is one. Bytes that are no UTF-8 become U+FFFD,
/// as where Go writes them into JSON.
pub fn unescape(text: &str, plus: bool) -> std::result::Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let mut used = 1;
        bytes.push(match byte {
            b'%' => {
                let digit = |index: usize| (*after.get(index)? as char).to_digit(16);
                let Some((high, low)) = digit(0).zip(digit(1)) else {
                    return Err(String::from_utf8_lossy(&rest[..rest.len().min(3)]).into_owned());
                };
                used = 3;
                (high * 16 + low) as u8
            }
            b'+' if plus => b' ',
            byte => *byte,
        });
        rest = &rest[used..];
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Query {
    /// From what follows the question mark.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |part: String| Error::invalid(format!("invalid URL escape {part:?}"));
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (unescape(name, true), unescape(value, true));
            pairs.push((name.map_err(bad)?, value.map_err(bad)?));
        }
        Ok(Query(pairs))
    }

    /// The first value that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let first = self.0.iter().find(|(n, _)| n == name);
        first.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// All values.
    pub fn all(&self, name: &str) -> Vec<String> {
        let all = self.0.iter().filter(|(n, _)| n == name);
        all.map(|(_, value)| value.clone()).collect()
    }

    /// moby's `BoolValue`: everything is true but a few words.
    pub fn on(&self, name: &str) -> bool {
        let value = self.text(name).unwrap_or_default().trim().to_lowercase();
        !["", "0", "no", "false", "none"].contains(&value.as_str())
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        self.text(name).map(|text| integer("Atoi", text)).transpose()
    }
}

/// A number, in the words of a function of Go's strconv.
pub fn integer(function: &str, text: &str) -> Result<i64> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|e| {
        let why = match e.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Error::new(Kind::Invalid, format!("strconv.{function}: parsing {text:?}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_words_are_dockers() {
        let query = Query::parse("a=%7B%22x%22%7D&b=1&c=False&d=a+b&e&b=2").unwrap();
        assert_eq!(query.text("a"), Some("{\"x\"}"));
        assert!(query.on("b") && !query.on("c") && !query.on("e") && !query.on("z"));
        assert_eq!(query.text("d"), Some("a b"));
        assert_eq!(query.all("b"), ["1", "2"]);
        assert!(Query::parse("a=%").is_err() && Query::parse("%ff=1").is_ok());
        let error = Query::parse("a=1%zz2").unwrap_err();
        assert_eq!(error.to_string(), "invalid URL escape \"%zz\"");
        let error = Query::parse("n=x").unwrap().number("n").unwrap_err();
        assert_eq!(error.to_string(), "strconv.Atoi: parsing \"x\": invalid syntax");
    }
}
