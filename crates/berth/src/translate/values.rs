//! Single values of flags: numbers of processors, limits, policies, addresses. Each either as Docker's command line
//! takes it, or refused in its words.

use engine::models::{ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum};
use errdefs::{Error, Result};

fn invalid(flag: &str, value: &str, why: impl std::fmt::Display) -> Error {
    Error::flag(format!("invalid argument {value:?} for \"{flag}\" flag: {why}"))
}

/// A size; the error names the flag.
pub fn bytes(flag: &str, text: &str) -> Result<i64> {
    crate::format::parse_bytes(text).map_err(|why| invalid(flag, text, why))
}

/// Go's durations (`1m30s`), in nanoseconds; the error names the flag.
pub fn duration(flag: &str, text: &str) -> Result<i64> {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    match rest {
        "0" => Ok(0),
        rest => engine::human::parse_duration(rest)
            .map(|n| sign * n)
            .ok_or_else(|| invalid(flag, text, format!("time: invalid duration {text:?}"))),
    }
}

/// `1.5` or `3/2` processors in billionths, exactly.
pub fn cpus(text: &str) -> Result<i64> {
    let bad = || invalid("--cpus", text, format!("failed to parse {text} as a rational number"));
    let (above, below) = match text.split_once('/') {
        Some((above, below)) => (above.parse().map_err(|_| bad())?, below.parse().map_err(|_| bad())?),
        None => decimal(text).ok_or_else(bad)?,
    };
    let (above, below): (i128, i128) = (above, below);
    if below <= 0 {
        return Err(bad());
    }
    let billionths = above.checked_mul(1_000_000_000).ok_or_else(bad)?;
    if billionths % below != 0 {
        return Err(invalid("--cpus", text, "value is too precise"));
    }
    i64::try_from(billionths / below).map_err(|_| bad())
}

/// `-1.25` as -125 over 100.
fn decimal(text: &str) -> Option<(i128, i128)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part}");
    if part.len() > 18 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, 10i128.pow(part.len() as u32)))
}

/// Of setrlimit(2), as Docker names them.
const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `nofile=1024:2048`.
pub fn ulimit(text: &str) -> Result<ResourcesUlimits> {
    let bad = |why: String| invalid("--ulimit", text, why);
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| bad(format!("invalid ulimit argument: {text}")))?;
    if !ULIMITS.contains(&name) {
        return Err(bad(format!("invalid ulimit type: {name}")));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |n: &str| {
        n.parse::<i64>()
            .map_err(|_| bad(format!("{n:?} is no number (-1 is unlimited)")))
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(bad(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(soft),
        hard: Some(hard),
    })
}

/// `on-failure:3`.
pub fn restart(text: &str) -> Result<RestartPolicy> {
    let bad = |why: &str| Error::invalid(format!("invalid restart policy format: {why}"));
    let (name, count) = text.split_once(':').map_or((text, None), |(n, c)| (n, Some(c)));
    if name.is_empty() && count.is_some() {
        return Err(bad("no policy provided before colon"));
    }
    let count = count
        .map(|c| c.parse::<i64>())
        .transpose()
        .map_err(|_| bad("maximum retry count must be an integer"))?;
    let name = match name {
        "" | "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        other => {
            return Err(Error::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    Ok(RestartPolicy {
        name: Some(name),
        maximum_retry_count: Some(count.unwrap_or(0)),
    })
}

/// `--add-host`: `name:address`, `name=[address]`.
pub fn hosts(list: &[String]) -> Result<Vec<String>> {
    let entry = |text: &String| match text.split_once([':', '=']) {
        Some((name, address))
            if !name.is_empty() && address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() =>
        {
            Ok(format!("{name}:{}", address.trim_matches(['[', ']'])))
        }
        Some((name, "host-gateway")) if !name.is_empty() => Ok(format!("{name}:host-gateway")),
        Some((_, address)) => Err(invalid(
            "--add-host",
            text,
            format!("invalid IP address in add-host: {address:?}"),
        )),
        None => Err(invalid(
            "--add-host",
            text,
            format!("bad format for add-host: {text:?}"),
        )),
    };
    list.iter().map(entry).collect()
}

/// `--dns`: addresses.
pub fn servers(list: Vec<String>) -> Result<Vec<String>> {
    match list.iter().find(|a| a.trim().parse::<std::net::IpAddr>().is_err()) {
        Some(bad) => Err(invalid(
            "--dns",
            bad,
            format!("IP address is not correctly formatted: {bad}"),
        )),
        None => Ok(list),
    }
}

/// `--expose`: `80`, `81/udp`, `90-92`.
pub fn expose(list: &[String]) -> Result<Vec<String>> {
    let mut ports = Vec::new();
    for text in list {
        let bad = |why: String| Error::invalid(format!("invalid range format for --expose: {text}, error: {why}"));
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |n: &str| n.parse::<u16>().map_err(|_| bad(format!("{n:?} is no port")));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad(format!("invalid range specified for port: {range}")));
        }
        if !["tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str()) {
            return Err(bad(format!("invalid proto: {protocol}")));
        }
        ports.extend((first..=last).map(|port| format!("{port}/{}", protocol.to_ascii_lowercase())));
    }
    Ok(ports)
}

/// `--sysctl`: a name and a value. Which names belong to a container's own namespaces is for the engine to say.
pub fn sysctl(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.to_owned())),
        None => Err(invalid("--sysctl", text, format!("sysctl '{text}' is not allowed"))),
    }
}

/// `--storage-opt size=10g`
pub fn storage_option(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Error::invalid(format!("invalid storage option: {text}"))),
    }
}

/// `--cap-add` and `--cap-drop`: full names, sorted, each once.
pub fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let name = |text: &String| {
        let upper = text.trim().to_ascii_uppercase();
        match upper.as_str() {
            "ALL" | "RESET" => upper,
            name if name.starts_with("CAP_") => upper,
            name => format!("CAP_{name}"),
        }
    };
    let all = |list: &[String]| list.iter().map(name).collect::<std::collections::BTreeSet<_>>();
    (all(add).into_iter().collect(), all(drop).into_iter().collect())
}

/// A namespace's mode: one of these, or refused.
pub fn mode(flag: &str, word: &str, value: Option<&str>, known: &[&str]) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    if known.contains(&value) || (known.contains(&"container:") && value.starts_with("container:")) {
        return Ok(Some(value.to_owned()));
    }
    Err(Error::invalid(format!("{flag}: invalid {word} mode")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_exactly() {
        for (text, expected) in [
            ("1.5", 1_500_000_000),
            ("1/2", 500_000_000),
            (".1", 100_000_000),
            ("2", 2_000_000_000),
        ] {
            assert_eq!(cpus(text).unwrap(), expected, "{text}");
        }
        for text in ["x", "", "1/0", "inf", "1/3", "1e400", "1.x"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}
