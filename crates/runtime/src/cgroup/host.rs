//! Which cgroup hierarchies this host has.

use std::path::PathBuf;
use std::sync::OnceLock;

use errdefs::{Error, Result, Step};

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

/// proc_pid_mountinfo(5).
fn parse(mountinfo: &str) -> Host {
    let mut host = Host::default();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(mount), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        let mount = PathBuf::from(mount);
        match kind {
            "cgroup2" if host.v2.is_none() => host.v2 = Some(mount),
            "cgroup" => {
                let options = right.split(' ').nth(2).unwrap_or_default();
                let known = |o: &&str| {
                    !["rw", "ro", "xattr", "clone_children", "noprefix"].contains(o) && !o.starts_with("release_agent")
                };
                let controllers: Vec<String> = options.split(',').filter(known).map(String::from).collect();
                if !controllers.is_empty() && !host.v1.iter().any(|h| h.controllers == controllers) {
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
