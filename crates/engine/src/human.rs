//! Durations in Docker's words (docker/go-units `HumanDuration`).

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

/// An RFC 3339 time as seconds since the epoch; 0 if it is none.
pub fn seconds_at(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_second())
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
}
