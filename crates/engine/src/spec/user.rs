//! Users and groups, looked up in the container's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use errdefs::{Error, Kind, Result, Step};
use rustix::fs::OFlags;

/// A longer passwd or group file is cut.
pub const FILE_LIMIT: u64 = 4 << 20;

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Further groups, sorted.
    pub groups: Vec<u32>,
    /// `/` when passwd does not say.
    pub home: String,
}

/// Reads a file of the container's (a path without a slash at its beginning); empty if it is not there.
pub type ReadFile<'a> = dyn Fn(&str) -> Result<Vec<u8>> + 'a;

/// `USER[:GROUP]`, each a name or a number, and `--group-add`.
pub fn look_up(read: &ReadFile<'_>, user: &str, further: &[String]) -> Result<Identity> {
    let passwd = read("etc/passwd")?;
    let group = read("etc/group")?;
    identify(
        &String::from_utf8_lossy(&passwd),
        &String::from_utf8_lossy(&group),
        user,
        further,
    )
}

/// A file below an open root directory; empty if it is not there or no regular file.
pub fn read_inside(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(fd) = sys::path::open(root, Path::new(path), flags) else {
        return Ok(Vec::new());
    };
    let file = File::from(fd);
    let mut bytes = Vec::new();
    if file.metadata().is_ok_and(|m| m.is_file()) {
        file.take(FILE_LIMIT)
            .read_to_end(&mut bytes)
            .step_with(|| format!("read the container's /{path}"))?;
    }
    Ok(bytes)
}

fn identify(passwd: &str, group: &str, user: &str, further: &[String]) -> Result<Identity> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let mut identity = Identity {
        home: "/".into(),
        ..Default::default()
    };
    let entry = entries(passwd).find(|e| e.len() >= 4 && e[0] == name);
    let entry = entry.or_else(|| {
        let uid = number(name, "uid").ok()?;
        entries(passwd).find(|e| e.len() >= 4 && e[2].parse() == Ok(uid))
    });
    match &entry {
        Some(entry) => {
            identity.uid = number(entry[2], "uid")?;
            identity.gid = number(entry[3], "gid")?;
            identity.home = entry.get(5).filter(|h| !h.is_empty()).unwrap_or(&"/").to_string();
        }
        None if name.bytes().all(|b| b.is_ascii_digit()) => identity.uid = number(name, "uid")?,
        None => return Err(unknown("user", name, "passwd")),
    }
    match (group_name, &entry) {
        (Some(group_name), _) => identity.gid = find_group(group, group_name)?,
        (None, Some(entry)) => identity.groups = memberships(group, entry[0]),
        (None, None) => {}
    }
    for name in further {
        identity.groups.push(find_group(group, name)?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split(':').collect())
}

fn find_group(group: &str, name: &str) -> Result<u32> {
    if let Some(entry) = entries(group).find(|e| e.len() >= 3 && e[0] == name) {
        return number(entry[2], "gid");
    }
    match name.bytes().all(|b| b.is_ascii_digit()) {
        true => number(name, "gid"),
        false => Err(unknown("group", name, "group")),
    }
}

fn memberships(group: &str, user: &str) -> Vec<u32> {
    let member = |e: &Vec<&str>| e.len() >= 4 && e[3].split(',').any(|m| m == user);
    entries(group)
        .filter(member)
        .filter_map(|e| e[2].parse().ok())
        .collect()
}

/// Ids reach to 2^31 - 1, as everywhere in this field: -1 means "no change" to the kernel.
fn number(text: &str, what: &str) -> Result<u32> {
    match text.parse::<u32>() {
        Ok(n) if n <= i32::MAX as u32 => Ok(n),
        _ => Err(Error::invalid(format!("{what}s must be in range 0-2147483647: {text}"))),
    }
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::new(
        Kind::Invalid,
        format!("unable to find {what} {name}: no matching entries in {file} file"),
    )
    .hint(format!(
        "the image's /etc/{file} has no such {what}; a number always works"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# x\nwww:x:33:34::/var/www:/bin/sh\nbroken\n1000:x:7:8::/seven:";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nvideo:x:44:www,other\naudio:x:29:www\n";

    fn id(user: &str, further: &[&str]) -> std::result::Result<(u32, u32, Vec<u32>, String), String> {
        let further: Vec<_> = further.iter().map(|s| (*s).to_owned()).collect();
        let found = identify(PASSWD, GROUP, user, &further).map_err(|e| e.to_string())?;
        Ok((found.uid, found.gid, found.groups, found.home))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(id("", &[]), Ok((0, 0, vec![], "/root".into())));
        assert_eq!(
            id("www", &["video", "99"]),
            Ok((33, 34, vec![29, 44, 99], "/var/www".into()))
        );
        assert_eq!(id("33", &[]), Ok((33, 34, vec![29, 44], "/var/www".into())));
        assert_eq!(id("www:root", &[]), Ok((33, 0, vec![], "/var/www".into())));
        assert_eq!(id("1234", &[]), Ok((1234, 0, vec![], "/".into())));
        assert_eq!(id("1234:5", &[]), Ok((1234, 5, vec![], "/".into())));
        assert_eq!(
            id("1000", &[]),
            Ok((7, 8, vec![], "/seven".into())),
            "a name of digits is a name first"
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(
            id("no", &[]),
            Err("unable to find user no: no matching entries in passwd file".into())
        );
        assert_eq!(
            id("www:no", &[]),
            Err("unable to find group no: no matching entries in group file".into())
        );
        assert_eq!(
            id("4294967295", &[]),
            Err("uids must be in range 0-2147483647: 4294967295".into())
        );
    }
}
