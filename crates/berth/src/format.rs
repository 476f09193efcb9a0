//! Sizes and times in Docker's words (docker/go-units).

pub use engine::human::duration;
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

/// `117MB`: powers of 1000, three digits.
pub fn human_size(bytes: i64) -> String {
    const UNITS: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let digits = match size {
        s if s >= 100.0 || unit == 0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    format!("{text}{}", UNITS[unit])
}

/// `7.7GiB`: powers of 1024.
pub fn binary_size(bytes: i64) -> String {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{:.*}{}", usize::from(unit > 0) * 3, size, UNITS[unit])
}

/// `2 hours ago`.
pub fn ago(seconds_at: i64) -> String {
    if seconds_at <= 0 {
        return "N/A".into();
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64);
    format!("{} ago", duration((now - seconds_at).max(0)))
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
fn parse_duration(text: &str) -> Option<i64> {
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
    use super::*;

    #[test]
    fn sizes_go_both_ways() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("10", 10),
            ("64kb", 65536),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1m", "1x", "1kk", "1.2.3", "inf"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1500, "1.5kB"),
            (117_000_000, "117MB"),
            (77_900_000, "77.9MB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
        assert_eq!(binary_size(8 << 30), "8.000GiB");
    }

    #[test]
    fn times_are_points_or_durations() {
        assert_eq!(parse_time("2024-01-01T00:00:00Z").unwrap(), 1_704_067_200_000_000_000);
        assert_eq!(parse_time("2024-01-01").unwrap(), 1_704_067_200_000_000_000);
        assert_eq!(parse_time("12.5").unwrap(), 12_500_000_000);
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert!(parse_time("tomorrow").is_err());
    }
}
