//! Signals by name and number (signal(7)).

use errdefs::{Error, Result};

/// Names without `SIG`, by number.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and the last signal for applications, as the C library numbers them.
const REALTIME: (i32, i32) = (34, 64);

/// `SIGTERM`, `term`, `15`, `RTMIN+3`.
pub fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REALTIME.1).contains(&number).then_some(number).ok_or_else(invalid);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.get(1..)?.parse::<i32>().ok()
        }
    };
    let number = if let Some(rest) = name
        .strip_prefix("RTMIN")
        .filter(|r| r.is_empty() || r.starts_with('+'))
    {
        offset(rest).map(|n| REALTIME.0 + n)
    } else if let Some(rest) = name
        .strip_prefix("RTMAX")
        .filter(|r| r.is_empty() || r.starts_with('-'))
    {
        offset(rest).map(|n| REALTIME.1 - n)
    } else {
        None
    };
    number
        .filter(|n| (REALTIME.0..=REALTIME.1).contains(n))
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("kill", 9),
            ("9", 9),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGFOO", "RTMIN+31", "RTMAX+1", "RTMIN-1"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("invalid signal: {text}"));
        }
    }
}
