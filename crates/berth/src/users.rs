//! Berth for a user who is not root: every process of it lives in one user namespace of that user's, where he is root over the
//! ids that are his (subuid(5)), and has mounts of its own (user_namespaces(7)).
//!
//! ```text
//! berth (a user)                              RUN/members, locked meanwhile
//!    | somebody there lives?  setns to him       "PID START" a line: commands, monitors, the name service
//!    | nobody:                unshare; a helper outside maps the ids (newuidmap)
//!    | writes itself down
//! ```
//!
//! Nobody has to stay for that: the namespace lives as long as somebody is in it, and without anybody in it there is no container
//! that a later one could miss.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use engine::Roots;
use engine::paths::make_private;
use errdefs::{ErrnoStep, Error, Result, Step};
use runtime::oci::{LinuxIdMapping, LinuxIdMappingBuilder};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use sys::process::Forked;

const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const MS_REC: u64 = 0x4000;
const MS_SLAVE: u64 = 0x8_0000;

/// From now on this process is root in the user's namespaces. The caller is single-threaded.
pub fn enter(roots: &Roots) -> Result<()> {
    for dir in [&roots.data, &roots.run] {
        make_private(dir)?;
        let owner = std::fs::metadata(dir)
            .step_with(|| format!("look at {}", dir.display()))?
            .uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(Error::new(
                errdefs::Kind::Forbidden,
                format!("{} belongs to somebody else", dir.display()),
            ));
        }
    }
    let members = Members::open(roots)?;
    let joined = members.list.iter().any(|member| member.join().is_ok());
    if !joined {
        make()?;
    }
    members.add_self()
}

/// Writes a process of ours down that outlives the command that started it; nothing for root's.
pub fn register(roots: &Roots) -> Result<()> {
    match roots.is_users() {
        true => Members::open(roots)?.add_self(),
        false => Ok(()),
    }
}

/// A process by its number and the time when it began, which together no other one has.
#[derive(Clone, Copy, PartialEq)]
struct Member {
    pid: i32,
    start: u64,
}

impl Member {
    /// Whoever has this number now.
    fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, which may have spaces, stands in parentheses; `starttime` is the 22nd word (proc(5)).
        let after = stat.rsplit_once(')')?.1;
        let start = after.split_whitespace().nth(19)?.parse().ok()?;
        Some(Member { pid, start })
    }

    fn read(line: &str) -> Option<Self> {
        let (pid, start) = line.split_once(' ')?;
        let (pid, start) = (pid.parse().ok()?, start.parse().ok()?);
        Some(Member { pid, start })
    }

    fn lives(&self) -> bool {
        Member::of(self.pid).is_some_and(|now| now == *self)
    }

    /// Goes where it is.
    fn join(&self) -> Result<()> {
        let step = "join the user's namespaces";
        let pid = Pid::from_raw(self.pid).ok_or_else(|| Error::system(step))?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).errno_step(step)?;
        match self.lives() {
            true => sys::process::setns(process.as_fd(), CLONE_NEWUSER | CLONE_NEWNS).errno_step(step),
            false => Err(Error::system(step)),
        }
    }
}

/// Who is in the user's namespaces, held against others who come or go.
struct Members {
    file: File,
    list: Vec<Member>,
}

impl Members {
    fn open(roots: &Roots) -> Result<Self> {
        let path = roots.members();
        let step = || format!("open {}", path.display());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).step_with(step)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).errno_step(step())?;
        let mut text = String::new();
        file.read_to_string(&mut text).step_with(step)?;
        let list = text.lines().filter_map(Member::read).filter(Member::lives).collect();
        Ok(Members { file, list })
    }

    /// Those who are gone are left out.
    fn add_self(mut self) -> Result<()> {
        self.list.extend(Member::of(std::process::id() as i32));
        let text: String = self.list.iter().map(|m| format!("{} {}\n", m.pid, m.start)).collect();
        let step = "write down who is in the user's namespaces";
        self.file.set_len(0).and_then(|()| self.file.rewind()).step(step)?;
        self.file.write_all(text.as_bytes()).step(step)
    }
}

/// New namespaces around this process. The ids are mapped by a process that stays outside: the helpers that know which ids are
/// whose trust nobody inside.
fn make() -> Result<()> {
    let (uids, gids) = (mapping("/etc/subuid", own_uid())?, mapping("/etc/subgid", own_gid())?);
    let me = std::process::id() as i32;
    let (go, mut wait) = std::io::pipe().map(|(read, write)| (write, read)).step("make a pipe")?;
    let (mut answer, mut say) = std::io::pipe().step("make a pipe")?;
    match sys::process::clone3(0, None).errno_step("make a helper")? {
        Forked::Child => {
            drop((go, answer));
            let mut told = [0];
            // Nothing is told by somebody who could not make namespaces.
            if wait.read(&mut told).is_ok_and(|n| n == 1) {
                let wire = runtime::map_ids(me, &uids, &gids).map_err(|e| e.to_wire()).err();
                let _ = say.write_all(&serde_json::to_vec(&wire).unwrap_or_default());
            }
            sys::process::exit_now(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop((wait, say));
            let made = sys::process::unshare(CLONE_NEWUSER | CLONE_NEWNS)
                .errno_step("make a user namespace")
                .map_err(explain);
            let mapped = made.and_then(|()| ask(go, &mut answer));
            wait_for(&pidfd)?;
            mapped?;
        }
    }
    // Mounts that the host makes later are seen; ours stay here.
    sys::mount::mount(c"", c"/", c"", MS_REC | MS_SLAVE, c"").errno_step("keep mounts from the host")
}

fn ask(mut go: std::io::PipeWriter, answer: &mut std::io::PipeReader) -> Result<()> {
    let step = "map the user's ids";
    go.write_all(&[1]).step(step)?;
    let mut text = Vec::new();
    answer.read_to_end(&mut text).step(step)?;
    let failed: Option<errdefs::Wire> = serde_json::from_slice(&text).step(step)?;
    failed.map_or(Ok(()), |wire| Err(wire.into()))
}

fn wait_for(process: &OwnedFd) -> Result<()> {
    let ended = rustix::process::waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
    ended.errno_step("wait for the helper").map(drop)
}

fn explain(error: Error) -> Error {
    error.hint(
        "this host lets nobody but root make user namespaces: see /proc/sys/user/max_user_namespaces and \
         /proc/sys/kernel/unprivileged_userns_clone; or use sudo",
    )
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn own_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Inside 0 is the user, and then come the subordinate ids in their order.
fn mapping(file: &str, own: u32) -> Result<Vec<LinuxIdMapping>> {
    let (mut list, mut next) = (vec![(0, own, 1)], 1u32);
    for (first, count) in subordinate(Path::new(file), &names())? {
        list.push((next, first, count));
        next = next.saturating_add(count);
    }
    let build = |(inside, outside, size): (u32, u32, u32)| {
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(inside)
            .host_id(outside)
            .size(size);
        mapping.build().step("describe the user's ids")
    };
    list.into_iter().map(build).collect()
}

/// By what the user stands in such files: his name and his number.
fn names() -> Vec<String> {
    let number = own_uid().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let name = fields.into_iter().find(|f| f.get(2) == Some(&number.as_str()));
    let name = name.and_then(|f| f.first().map(|n| (*n).to_owned()));
    name.into_iter().chain([number]).collect()
}

/// `NAME:FIRST:COUNT` (subuid(5)); none where there is no such file.
fn subordinate(file: &Path, names: &[String]) -> Result<Vec<(u32, u32)>> {
    let text = match std::fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.step_with(|| format!("read {}", file.display()))?,
    };
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u32>().ok()?);
        (count > 0 && names.iter().any(|n| n == name)).then_some((first, count))
    };
    Ok(text.lines().filter_map(range).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_beginning() {
        let own = Member::of(std::process::id() as i32).unwrap();
        assert!(own.lives() && Member::read(&format!("{} {}", own.pid, own.start)).unwrap() == own);
        let other = Member {
            start: own.start + 1,
            ..own
        };
        assert!(!other.lives() && other.join().is_err());
    }

    #[test]
    fn subordinate_ids_are_found_by_name_and_number() {
        let file = std::env::temp_dir().join(format!("subordinate-{}", std::process::id()));
        std::fs::write(&file, "other:1:2\nme:100000:65536\n# x\n4711:300000:10\nme:5\nme:9:0\n").unwrap();
        let names = ["me".to_owned(), "4711".to_owned()];
        let found = subordinate(&file, &names).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(found, [(100_000, 65_536), (300_000, 10)]);
        assert!(subordinate(Path::new("/nosuch"), &names).unwrap().is_empty());
    }
}
