//! What the kernel writes into files of processes (proc_pid_stat(5), proc_pid_status(5), proc_stat(5)) and of cgroups
//! (Documentation/admin-guide/cgroup-v2.rst), as far as it is read. In a container of others such files may be anybody's: what is
//! no number is left out, and no number is too big. See `fuzz/fuzz_targets/kernel.rs`.

/// A file with one number; "max" is `u64::MAX`.
pub fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

/// Of a file of lines `NAME NUMBER` (`memory.stat`, `memory.events`, `cpu.stat`): one of the numbers.
pub fn named(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}

/// All of them.
pub fn numbers(text: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// `cgroup.procs`.
pub fn pids(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Bytes that one kind of access moved on one device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceIo {
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// `read` or `write`.
    pub operation: &'static str,
    /// Bytes so far.
    pub bytes: u64,
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 ...` (`io.stat`).
pub fn io_of_version_2(text: &str) -> Vec<DeviceIo> {
    let mut list = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        for word in words {
            let (operation, value) = match word.split_once('=') {
                Some(("rbytes", value)) => ("read", value),
                Some(("wbytes", value)) => ("write", value),
                _ => continue,
            };
            list.extend(value.parse().ok().map(|bytes| DeviceIo {
                major,
                minor,
                operation,
                bytes,
            }));
        }
    }
    list
}

/// `8:0 Read 1` (`blkio.throttle.io_service_bytes_recursive`).
pub fn io_of_version_1(text: &str) -> Vec<DeviceIo> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let operation = match words.next()? {
            "Read" => "read",
            "Write" => "write",
            _ => return None,
        };
        let bytes = words.next()?.parse().ok()?;
        Some(DeviceIo {
            major,
            minor,
            operation,
            bytes,
        })
    };
    text.lines().filter_map(line).collect()
}

/// A field of `/proc/PID/stat`, counted from 1 as in its manual page; the second, which may hold anything, is not to be had.
pub fn stat(text: &str, field: usize) -> Option<&str> {
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split([' ', '\n']).nth(field.checked_sub(3)?)
}

/// Bytes of memory that are a process's own, in `/proc/PID/status`.
pub fn resident(text: &str) -> u64 {
    let field = |line: &str| {
        let value = line.strip_prefix("RssAnon:").or(line.strip_prefix("RssShmem:"))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    let all = text.lines().filter_map(field);
    all.fold(0, |sum: u64, kib| sum.saturating_add(kib.saturating_mul(1024)))
}

/// Ticks that all processors together have passed, and how many processors there are, in `/proc/stat`.
pub fn processors(text: &str) -> (u64, u32) {
    let first = text.lines().next().unwrap_or_default();
    let ticks = first.split_whitespace().skip(1).take(7);
    let ticks = ticks.filter_map(|n| n.parse::<u64>().ok()).fold(0, u64::saturating_add);
    let numbered = |line: &&str| {
        let rest = line.strip_prefix("cpu");
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    (ticks, text.lines().filter(numbered).count() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_input_and_output_are_read() {
        let io = |operation, bytes| DeviceIo {
            major: 8,
            minor: 16,
            operation,
            bytes,
        };
        let expected = [io("read", 5), io("write", 7)];
        let text = "8:16 rbytes=5 wbytes=7 rios=1 wios=1 dbytes=0 dios=0\n";
        assert_eq!(io_of_version_2(text), expected);
        let text = "8:16 Read 5\n8:16 Write 7\n8:16 Sync 12\nTotal 12\n";
        assert_eq!(io_of_version_1(text), expected);
    }

    #[test]
    fn fields_are_found_whatever_the_program_is_called() {
        let text = "7 (a) b) R) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9\n";
        assert_eq!(
            (stat(text, 3), stat(text, 4), stat(text, 22)),
            (Some("S"), Some("1"), Some("4242"))
        );
        assert_eq!((stat(text, 2), stat(text, 99), stat("", 3)), (None, None, None));
        assert_eq!(resident("VmRSS:\t 9 kB\nRssAnon:\t  1 kB\nRssShmem:\t2 kB\n"), 3072);
        assert_eq!(processors("cpu  1 2 3 4 5 6 7 8 9\ncpu0 1\ncpu1 1\nintr 4\n"), (28, 2));
        let text = "oom 1\noom_kill 3\noom_group_kill 5\n";
        assert_eq!((named(text, "oom_kill"), named(text, "none")), (Some(3), None));
        assert_eq!(number("max\n"), Some(u64::MAX));
    }

    /// The kernel's own words, cut and changed at every place: nothing is assumed of them. `scripts/fuzz kernel` does the same
    /// for longer.
    #[test]
    fn no_text_is_too_strange() {
        let texts = [
            "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9\n",
            "RssAnon:\t  18446744073709551615 kB\nRssShmem:\t18446744073709551615 kB\n",
            "cpu  18446744073709551615 18446744073709551615 3\ncpu0 1\n",
            "8:16 rbytes=5 wbytes=7 rios=1\n8:16 Read 5\n8:16 Write 7\n",
            "usage_usec 18446744073709551615\noom_kill 3\nmax\n12\n",
        ];
        for text in texts {
            for at in 0..text.len() {
                for byte in [0, b' ', b'\n', b':', b'=', b')', b'9', 0xff] {
                    let mut changed = text.as_bytes().to_vec();
                    changed[at] = byte;
                    for part in [&changed[..], &changed[..at], &changed[at..]] {
                        all(&String::from_utf8_lossy(part));
                    }
                }
            }
        }
    }

    fn all(text: &str) {
        let _ = (number(text), named(text, "oom_kill"), numbers(text), pids(text));
        let _ = (
            io_of_version_1(text),
            io_of_version_2(text),
            resident(text),
            processors(text),
        );
        let _ = (stat(text, 3), stat(text, 22), crate::mountinfo::parse(text));
    }
}
