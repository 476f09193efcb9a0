//! Sizes and times in Docker's words (docker/go-units).

pub use engine::human::{duration, parse_bytes, parse_time};

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

/// `7.755GiB`: powers of 1024, four digits.
pub fn binary_size(bytes: i64) -> String {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = match size {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

/// `2024-01-02 03:04:05 +0000 UTC`; nothing for no time.
pub fn utc(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).ok().filter(|_| seconds > 0);
    time.map(|t| t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
        .unwrap_or_default()
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
        for (bytes, text) in [
            (8 << 30, "8GiB"),
            (1_331_691, "1.27MiB"),
            (8_327_045_120, "7.755GiB"),
            (0, "0B"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }
}
