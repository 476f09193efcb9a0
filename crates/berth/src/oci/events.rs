//! `events`: what a container uses, again and again, and when memory ran out.

use std::time::Duration;

use errdefs::{Error, Result};
use runtime::cgroup::Stats;
use serde_json::{Value, json};

use super::Host;
use super::state::{Status, wrong_state};
use crate::cli::flag::Given;
use crate::output;

/// How often the end of a container is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Prints a line of JSON for each event until the container ends.
pub fn events(host: &Host, given: &Given) -> Result<u8> {
    let interval = duration(given.one("interval").unwrap_or("5s"))?;
    let saved = host.load(&given.words[0])?;
    if host.status(&saved)? == Status::Stopped {
        return Err(wrong_state(format!("container with id {} is not running", saved.id)));
    }
    let stats = || event(&saved.id, &saved.cgroup.stats());
    if given.on("stats") {
        output::say(&stats());
        return Ok(0);
    }
    let mut killed = saved.cgroup.oom_kills();
    let mut waited = interval;
    while saved.alive() {
        if waited >= interval {
            output::say(&stats());
            waited = Duration::ZERO;
        }
        let pause = LOOK_AGAIN.min(interval);
        std::thread::sleep(pause);
        waited += pause;
        let now = saved.cgroup.oom_kills();
        if now > killed {
            output::say(&format!("{{\"type\":\"oom\",\"id\":{}}}\n", json!(saved.id)));
        }
        killed = now;
    }
    Ok(0)
}

/// Go's: "5s", "100ms".
fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::invalid(format!("--interval: {text:?} is no duration such as 5s or 100ms"));
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let duration = match &text[split..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(bad()),
    };
    (!duration.is_zero()).then_some(duration).ok_or_else(bad)
}

/// As runc's (`types/events.go`), in its order.
fn event(id: &str, stats: &Stats) -> String {
    let data = json!({
        "cpu": {
            "usage": { "total": stats.cpu_total, "kernel": stats.cpu_kernel, "user": stats.cpu_user },
            "throttling": {
                "periods": stats.periods,
                "throttledPeriods": stats.throttled_periods,
                "throttledTime": stats.throttled_time,
            },
        },
        "memory": {
            "usage": {
                "limit": stats.memory_limit,
                "usage": stats.memory,
                "max": stats.memory_peak,
            },
            "raw": { "inactive_file": stats.inactive_file },
        },
        "pids": { "current": stats.pids, "limit": limit(stats.pids_limit) },
    });
    format!("{{\"type\":\"stats\",\"id\":{},\"data\":{data}}}\n", json!(id))
}

/// None is zero, as runc says it.
fn limit(number: u64) -> Value {
    json!(if number == u64::MAX { 0 } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(duration("1m").unwrap(), Duration::from_secs(60));
        for bad in ["", "5", "s", "0s", "1h30m", "-1s", "ü"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
