//! Which filters a list knows, and what their values are: checked before anything is looked at, so that a wrong filter is one
//! also where there is nothing to filter.

use errdefs::{Error, Result};

/// What may stand in a filter.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true`, `1`, `false`, `0`.
    Flag,
    /// A whole number.
    Number,
    /// One of these; what they are called in the error.
    Word(&'static str, &'static [&'static str]),
    /// `80`, `80/tcp`, `80-90/udp`.
    Port,
    /// A time, or how long ago.
    Time,
}

/// Fails for a filter that is not among the known ones, or has no such value, in Docker's words.
pub fn check(filters: &[(String, String)], known: &[(&str, Kind)]) -> Result<()> {
    for (name, value) in filters {
        let kind = known.iter().find(|(known, _)| known == name);
        let (_, kind) = kind.ok_or_else(|| Error::invalid(format!("invalid filter '{name}'")))?;
        check_value(name, value, *kind)?;
    }
    Ok(())
}

fn check_value(name: &str, value: &str, kind: Kind) -> Result<()> {
    let words = match kind {
        Kind::Text => return Ok(()),
        Kind::Flag => match flag(value) {
            Some(_) => return Ok(()),
            None => format!("invalid filter '{name}=[{value}]'"),
        },
        Kind::Number => match value.parse::<i32>() {
            Ok(_) => return Ok(()),
            Err(_) => format!("invalid filter '{name}={value}': strconv.Atoi: parsing {value:?}: invalid syntax"),
        },
        Kind::Word(what, words) => match words.contains(&value) {
            true => return Ok(()),
            false => format!(
                "invalid filter '{name}={value}': invalid value for {what} ({value}): must be one of {}",
                words.join(", ")
            ),
        },
        Kind::Port => match wrong_port(value) {
            Some(why) => format!("error while looking up for {name} {value}: {why}"),
            None => return Ok(()),
        },
        Kind::Time => match crate::human::parse_time(value) {
            Ok(_) => return Ok(()),
            Err(_) => format!("failed to parse value as time or duration: {value:?}"),
        },
    };
    Err(Error::invalid(words))
}

/// Docker's words for yes and no.
pub fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn wrong_port(text: &str) -> Option<String> {
    let (range, _) = text.split_once('/').unwrap_or((text, "tcp"));
    if range.is_empty() {
        return Some("Empty string specified for ports.".into());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let mut numbers = [0; 2];
    for (number, text) in numbers.iter_mut().zip([first, last]) {
        match text.parse::<u16>() {
            Ok(parsed) => *number = parsed,
            Err(e) => {
                let over = *e.kind() == std::num::IntErrorKind::PosOverflow;
                let why = if over { "value out of range" } else { "invalid syntax" };
                return Some(format!("strconv.ParseUint: parsing {text:?}: {why}"));
            }
        }
    }
    (numbers[0] > numbers[1]).then(|| format!("Invalid range specified for the Port: {range}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dockerd's words.
    #[test]
    fn wrong_filters_are_told_as_docker_does() {
        let known = [
            ("a", Kind::Text),
            ("f", Kind::Flag),
            ("n", Kind::Number),
            ("h", Kind::Word("health", &["none", "healthy"])),
            ("p", Kind::Port),
            ("t", Kind::Time),
        ];
        let checked = |name: &str, value: &str| check(&[(name.into(), value.into())], &known);
        for (name, value, words) in [
            ("x", "1", "invalid filter 'x'"),
            ("f", "foo", "invalid filter 'f=[foo]'"),
            ("f", "", "invalid filter 'f=[]'"),
            (
                "n",
                "foo",
                "invalid filter 'n=foo': strconv.Atoi: parsing \"foo\": invalid syntax",
            ),
            (
                "h",
                "foo",
                "invalid filter 'h=foo': invalid value for health (foo): must be one of none, healthy",
            ),
            (
                "p",
                "",
                "error while looking up for p : Empty string specified for ports.",
            ),
            (
                "p",
                "x/y",
                "error while looking up for p x/y: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "p",
                "99999",
                "error while looking up for p 99999: strconv.ParseUint: parsing \"99999\": value out of range",
            ),
            (
                "p",
                "1-0",
                "error while looking up for p 1-0: Invalid range specified for the Port: 1-0",
            ),
            ("t", "foo", "failed to parse value as time or duration: \"foo\""),
        ] {
            assert_eq!(checked(name, value).unwrap_err().to_string(), words, "{name}={value}");
        }
        for (name, value) in [
            ("a", ""),
            ("f", "1"),
            ("n", "-1"),
            ("h", "none"),
            ("p", "80-90/udp"),
            ("t", "10m"),
        ] {
            assert!(checked(name, value).is_ok(), "{name}={value}");
        }
    }
}
