//! Query strings, read as Docker's server reads them.

use errdefs::{Error, Kind, Result};

/// Names and values in their order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// Percent-encoding and `+` taken off; `None` if it is none, or not UTF-8.
pub fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| (b? as char).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Query {
    /// From what follows the question mark.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |part: &str| Error::invalid(format!("invalid URL escape in the query: {part:?}"));
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (unescape(name, true), unescape(value, true));
            pairs.push((name.ok_or_else(|| bad(part))?, value.ok_or_else(|| bad(part))?));
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

    /// A number, in the words of Go's strconv.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(number) => Ok(Some(number)),
            Err(e) => {
                let out_of_range = matches!(
                    e.kind(),
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow
                );
                let why = if out_of_range {
                    "value out of range"
                } else {
                    "invalid syntax"
                };
                let message = format!("strconv.Atoi: parsing {text:?}: {why}");
                Err(Error::new(Kind::Invalid, message))
            }
        }
    }
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
        assert!(Query::parse("a=%zz").is_err() && Query::parse("a=%").is_err() && Query::parse("%ff=1").is_err());
        let error = Query::parse("n=x").unwrap().number("n").unwrap_err();
        assert_eq!(error.to_string(), "strconv.Atoi: parsing \"x\": invalid syntax");
    }
}
