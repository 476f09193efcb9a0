//! The systemd driver: a container's cgroup is a transient scope, which systemd makes and knows of, and hands down to us
//! (`Delegate`). Limits are properties of it, too, so that systemd does not take them back when it is reloaded.

use std::path::PathBuf;

use errdefs::{Error, Result};

use super::dbus::{Body, Connection, Target, Value};
use super::host::Host;

const MANAGER: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const PROPERTIES: Target = Target {
    interface: "org.freedesktop.DBus.Properties",
    ..MANAGER
};
/// What stands in the place of "no limit".
const INFINITY: u64 = u64::MAX;

/// A scope's name, and the slice that it is in.
#[derive(Debug, PartialEq)]
pub struct Scope {
    pub unit: String,
    slice: String,
}

impl Scope {
    /// `SLICE:PREFIX:NAME`, as engines write `linux.cgroupsPath` for this driver.
    pub fn parse(path: &str) -> Result<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(Error::invalid(format!(
                "linux.cgroupsPath: expected to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            )));
        };
        let usual = match rustix::process::geteuid().is_root() {
            true => "system.slice",
            false => "user.slice",
        };
        let slice = if slice.is_empty() { usual } else { slice };
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let bad = [slice, &unit].iter().any(|word| !word.chars().all(good)) || name.is_empty();
        if bad || !slice.ends_with(".slice") {
            return Err(Error::invalid(format!(
                "linux.cgroupsPath: {path:?} names no slice and scope"
            )));
        }
        directory(slice)?;
        Ok(Scope {
            unit,
            slice: slice.to_owned(),
        })
    }

    /// Where its cgroup will be, below that of the manager. Asks the manager.
    pub fn path(&self) -> Result<String> {
        let mut manager = connect()?;
        let asked = Body::default().text(MANAGER.interface).text("ControlGroup");
        let answer = manager.call(PROPERTIES, "Get", asked)?;
        let root = answer.words.first().map_or("", String::as_str).trim_end_matches('/');
        Ok(format!("{root}{}/{}", directory(&self.slice)?, self.unit))
    }

    /// Makes it with a process in it; returns once it is there.
    pub fn start(&self, pid: i32, limits: Vec<(&'static str, Value)>) -> Result<()> {
        let mut manager = connect()?;
        let mut properties = vec![
            ("Description", Value::Text(format!("container {}", self.unit))),
            ("Slice", Value::Text(self.slice.clone())),
            ("Delegate", Value::Bool(true)),
            ("DefaultDependencies", Value::Bool(false)),
            ("PIDs", Value::U32s(vec![pid as u32])),
        ];
        let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
        properties.extend(accounting.map(|name| (name, Value::Bool(true))));
        properties.extend(limits);
        let body = Body::default().text(&self.unit).text("fail");
        let body = body.properties(&properties).no_units();
        let job = manager.call(MANAGER, "StartTransientUnit", body)?;
        finished(&mut manager, job.words.first().map_or("", String::as_str), "done")
    }
}

/// Changes the limits of a scope, until it goes.
pub fn set(unit: &str, limits: &[(&'static str, Value)]) -> Result<()> {
    let body = Body::default().text(unit).flag(true).properties(limits);
    connect()?.call(MANAGER, "SetUnitProperties", body).map(drop)
}

/// Takes a scope away; fine if it is gone.
pub fn stop(unit: &str) -> Result<()> {
    let mut manager = connect()?;
    match manager.call(MANAGER, "StopUnit", Body::default().text(unit).text("replace")) {
        Ok(job) => finished(&mut manager, job.words.first().map_or("", String::as_str), "done")?,
        Err(error) if error.to_string().contains("NoSuchUnit") => {}
        Err(error) => return Err(error),
    }
    // One that failed stays in systemd's list otherwise. Most did not, and are gone.
    let _ = manager.call(MANAGER, "ResetFailedUnit", Body::default().text(unit));
    Ok(())
}

/// systemd tells everybody at its own socket of every job that ended: number, job, unit, result.
fn finished(manager: &mut Connection, job: &str, wanted: &str) -> Result<()> {
    let ended = manager.signal("JobRemoved", |signal| {
        signal.words.first().is_some_and(|word| word == job)
    })?;
    match ended.words.last() {
        Some(result) if result == wanted => Ok(()),
        result => Err(Error::system(format!(
            "systemd: the job for {} ended as {}",
            ended.words.get(1).map_or("the scope", String::as_str),
            result.map_or("nothing", String::as_str)
        ))),
    }
}

/// root's manager is process 1, a user's is its own.
fn connect() -> Result<Connection> {
    let run = match rustix::process::geteuid().as_raw() {
        0 => PathBuf::from("/run"),
        uid => PathBuf::from(format!("/run/user/{uid}")),
    };
    Connection::open(&run.join("systemd/private")).map_err(|e| {
        e.hint("the systemd cgroup driver needs a running systemd; without --systemd-cgroup none is asked")
    })
}

/// Version 2 alone is what systemd and containers can share.
pub fn check(host: &Host) -> Result<()> {
    match &host.v2 {
        Some(_) if host.v1.is_empty() => Ok(()),
        _ => Err(Error::invalid(
            "the systemd cgroup driver needs a host with version 2 of cgroups alone",
        )),
    }
}

/// `a-b.slice` is in `a.slice`.
fn directory(slice: &str) -> Result<String> {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name == "-" {
        return Ok(String::new());
    }
    let parts: Vec<&str> = name.split('-').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Error::invalid(format!(
            "linux.cgroupsPath: {slice:?} is no name of a slice"
        )));
    }
    let nested = (1..=parts.len()).map(|length| format!("/{}.slice", parts[..length].join("-")));
    Ok(nested.collect())
}

/// What systemd calls a limit that is written to this file; those that it does not know are the file's alone.
pub fn property(file: &str, value: &str) -> Vec<(&'static str, Value)> {
    let number = |text: &str| match text {
        "max" => Some(INFINITY),
        text => text.parse().ok(),
    };
    let one = |name, value: &str| number(value).map(|n| (name, Value::U64(n)));
    let set = |name, value: &str| processors(value).map(|mask| (name, Value::Bytes(mask)));
    let found = match file {
        "memory.max" => one("MemoryMax", value),
        "memory.high" => one("MemoryHigh", value),
        "memory.low" => one("MemoryLow", value),
        "memory.min" => one("MemoryMin", value),
        "memory.swap.max" => one("MemorySwapMax", value),
        "pids.max" => one("TasksMax", value),
        "cpu.weight" => one("CPUWeight", value),
        "io.weight" => one("IOWeight", value.trim_start_matches("default ")),
        "cpuset.cpus" => set("AllowedCPUs", value),
        "cpuset.mems" => set("AllowedMemoryNodes", value),
        "cpu.max" => return quota(value),
        _ => None,
    };
    found.into_iter().collect()
}

/// `QUOTA PERIOD` in microseconds, to microseconds a second: in steps of ten milliseconds, which is what systemd writes back.
fn quota(value: &str) -> Vec<(&'static str, Value)> {
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let Some(period) = period.parse::<u64>().ok().filter(|n| *n > 0) else {
        return Vec::new();
    };
    let each = match quota.parse::<u64>() {
        Ok(quota) => (quota.saturating_mul(1_000_000) / period).next_multiple_of(10_000),
        Err(_) => INFINITY,
    };
    vec![
        ("CPUQuotaPerSecUSec", Value::U64(each)),
        ("CPUQuotaPeriodUSec", Value::U64(period)),
    ]
}

/// "0-3,7" as a bit for each; the lowest byte first.
fn processors(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= 8192 {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0u8);
        (first..=last).for_each(|n| mask[n / 8] |= 1 << (n % 8));
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_in_each_other_and_names_are_no_paths() {
        assert_eq!(directory("a-b-c.slice").unwrap(), "/a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(directory("-.slice").unwrap(), "");
        let scope = Scope::parse("machine.slice:libpod:abc").unwrap();
        assert_eq!(
            (scope.unit.as_str(), scope.slice.as_str()),
            ("libpod-abc.scope", "machine.slice")
        );
        assert_eq!(Scope::parse(":berth:x").unwrap().unit, "berth-x.scope");
        for bad in [
            "",
            "/a/b",
            "a:b",
            "a:b:c:d",
            "machine.slice:x:",
            "../x.slice:a:b",
            "a--b.slice:x:y",
            "m:x:y",
            "m.slice:x:a/b",
        ] {
            assert!(Scope::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_are_properties() {
        assert_eq!(property("memory.max", "max"), [("MemoryMax", Value::U64(INFINITY))]);
        assert_eq!(property("pids.max", "20"), [("TasksMax", Value::U64(20))]);
        assert_eq!(
            property("cpuset.cpus", "0-2,9"),
            [("AllowedCPUs", Value::Bytes(vec![7, 2]))]
        );
        let half = [
            ("CPUQuotaPerSecUSec", Value::U64(500_000)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
        ];
        assert_eq!(property("cpu.max", "50000 100000"), half);
        assert!(property("hugetlb.2MB.max", "1").is_empty());
        assert!(property("cpuset.cpus", "0-99999").is_empty());
    }
}
