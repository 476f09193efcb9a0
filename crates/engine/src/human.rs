//! Times and sizes in Docker's words (docker/go-units), read and written.

use errdefs::{Error, Result};

/// `512m`, `1.5g`, `64k`, plain bytes: powers of 1024. The number ends with the last digit; what follows is the unit.
pub fn parse_bytes(text: &str) -> Result<i64> {
    let size = || Error::invalid(format!("invalid size: '{text}'"));
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(size)?;
    let (number, unit) = text.split_at(end + 1);
    let unit = unit.trim_start_matches(' ');
    let suffix = || Error::invalid(format!("invalid suffix: '{unit}'"));
    let number: f64 = number.trim().parse().map_err(|_| size())?;
    let lower = unit.to_ascii_lowercase();
    let shift = match lower.chars().next() {
        None => 0,
        Some('b') if lower == "b" => 0,
        Some(letter) if ["", "b", "ib"].contains(&&lower[letter.len_utf8()..]) => {
            let place = "kmgtp".find(letter).ok_or_else(suffix)?;
            10 * (place as u32 + 1)
        }
        Some(_) => return Err(suffix()),
    };
    let bytes = number * (1u64 << shift) as f64;
    if !(0.0..=i64::MAX as f64).contains(&bytes) {
        return Err(size());
    }
    Ok(bytes as i64)
}

/// `Less than a second`, `3 seconds`, `About a minute`, `2 hours`...
pub fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0 + 0.5) as i64);
    match seconds {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How many seconds ago an RFC 3339 time was; 0 if it is none.
pub fn seconds_since(time: &str) -> i64 {
    let then = time.parse::<jiff::Timestamp>().ok();
    then.map_or(0, |then| (jiff::Timestamp::now().as_second() - then.as_second()).max(0))
}

/// An RFC 3339 time as nanoseconds since the epoch; 0 if it is none.
pub fn nanoseconds_at(time: &str) -> i64 {
    let time = time.parse::<jiff::Timestamp>();
    time.map_or(0, |t| i64::try_from(t.as_nanosecond()).unwrap_or(0))
}

/// An RFC 3339 time as seconds since the epoch; 0 if it is none.
pub fn seconds_at(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_second())
}

/// A point in time: RFC 3339, a date, seconds since the epoch, or how long ago (`10m`, `1h30m`). Nanoseconds since the
/// epoch.
pub fn parse_time(text: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("invalid value for time: failed to parse {text:?}"));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i64);
    if let Some(ago) = parse_duration(text) {
        return Ok(now - ago);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1e9) as i64);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_nanosecond() as i64);
    }
    let local = text.parse::<jiff::civil::DateTime>().or_else(|_| {
        text.parse::<jiff::civil::Date>()
            .map(|d| d.to_datetime(jiff::civil::Time::midnight()))
    });
    let zoned = local
        .map_err(|_| bad())?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map_err(|_| bad())?;
    Ok(zoned.timestamp().as_nanosecond() as i64)
}

/// Go's durations: `1h30m`, `10s`, `500ms`; nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |i| digits + i);
        total += number
            * match &rest[digits..unit_end] {
                "h" => 3600e9,
                "m" => 60e9,
                "s" => 1e9,
                "ms" => 1e6,
                "us" => 1e3,
                "ns" => 1.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_dockers() {
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (20 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, words) in table {
            assert_eq!(super::duration(seconds), words);
        }
    }

    #[test]
    fn times_are_points_or_durations() {
        assert_eq!(
            super::parse_time("2024-01-01T00:00:00Z").unwrap(),
            1_704_067_200_000_000_000
        );
        assert_eq!(super::parse_time("2024-01-01").unwrap(), 1_704_067_200_000_000_000);
        assert_eq!(super::parse_time("12.5").unwrap(), 12_500_000_000);
        assert_eq!(super::parse_duration("1h30m"), Some(5_400_000_000_000));
        assert!(super::parse_time("tomorrow").is_err());
    }
}
