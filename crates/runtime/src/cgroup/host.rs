//! Which cgroup hierarchies this host has.

use std::path::PathBuf;
use std::sync::OnceLock;

use errdefs::{Error, Result, Step};

use crate::mountinfo;

/// A version 1 hierarchy.
#[derive(Clone, Debug, PartialEq)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`; or `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// All of them.
#[derive(Debug, Default, PartialEq)]
pub struct Host {
    /// Where version 2 is mounted.
    pub v2: Option<PathBuf>,
    /// Controllers that version 2 has here.
    pub v2_controllers: Vec<String>,
    /// Version 1 hierarchies.
    pub v1: Vec<Hierarchy>,
}

impl Host {
    /// Looked up once.
    pub fn get() -> Result<&'static Host> {
        static HOST: OnceLock<Host> = OnceLock::new();
        if let Some(host) = HOST.get() {
            return Ok(host);
        }
        let text = std::fs::read_to_string("/proc/self/mountinfo").step("read the list of mounts")?;
        let mut host = parse(&text);
        if let Some(root) = &host.v2 {
            let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            host.v2_controllers = controllers.split_whitespace().map(String::from).collect();
        }
        if host.v2.is_none() && host.v1.is_empty() {
            return Err(Error::system("no cgroup hierarchy is mounted").hint("mount -t cgroup2 none /sys/fs/cgroup"));
        }
        Ok(HOST.get_or_init(|| host))
    }

    /// The version 1 hierarchy of a controller.
    pub fn find(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1.iter().find(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// Whether version 2 has a controller here.
    pub fn in_v2(&self, controller: &str) -> bool {
        self.v2_controllers.iter().any(|c| c == controller)
    }
}

fn parse(text: &str) -> Host {
    let mut host = Host::default();
    for mounted in mountinfo::parse(text) {
        match mounted.kind.as_str() {
            "cgroup2" if host.v2.is_none() => host.v2 = Some(mounted.place),
            "cgroup" => {
                let controllers = mounted.controllers();
                if !controllers.is_empty() && !host.v1.iter().any(|h| h.controllers == controllers) {
                    let mount = mounted.place;
                    host.v1.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own words, cut and changed at every place: nothing is assumed of them.
    #[test]
    fn no_list_of_mounts_is_too_strange() {
        let text = b"31 30 0:27 / /sys/fs/cgroup/uni\\040fied rw shared:3 - cgroup2 cgroup2 rw\n32 30 0:28 / /c rw - cgroup x rw,cpu\n";
        for at in 0..text.len() {
            for byte in [0, b' ', b'\n', b'\\', b'-', 0xff] {
                let mut changed = text.to_vec();
                changed[at] = byte;
                for part in [&changed[..], &changed[..at], &changed[at..]] {
                    let part = String::from_utf8_lossy(part);
                    let _ = parse(&part);
                }
            }
        }
    }

    #[test]
    fn all_three_layouts_are_told_apart() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(parse(v2).v2, Some("/sys/fs/cgroup".into()));
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
                      33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let host = parse(hybrid);
        assert_eq!(host.v2, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            host.find("cpuacct").unwrap().mount,
            PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert!(host.find("memory").is_none());
    }
}
