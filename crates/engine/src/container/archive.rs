//! `cp`: files of a container as a tar, and a tar into a container. A path is the container's: links in it lead nowhere
//! else, whoever changes them meanwhile.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use snapshot::Unpack;

use super::inside::{explain, ids};
use super::record::Record;
use crate::{Engine, spec};

/// Links are followed no further, as in the kernel.
const LINKS: usize = 40;

/// What the header `X-Docker-Container-Path-Stat` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// In bytes.
    pub size: i64,
    /// Go's `os.FileMode`.
    pub mode: u32,
    /// RFC 3339, nanoseconds.
    pub mtime: String,
    /// Where a link leads in the container.
    pub link_target: String,
}

impl PathStat {
    /// Go's bit for directories.
    pub const DIRECTORY: u32 = 1 << 31;
    /// Go's bit for symbolic links.
    pub const LINK: u32 = 1 << 27;
}

/// How a tar is taken in.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// A directory is never replaced by something else, nor the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user, if it has one.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// What a path of a container is; a link at its end is not followed.
    pub fn stat_path(&self, name: &str, path: &str) -> Result<PathStat> {
        let record = self.record(name)?;
        let wanted = Wanted::new(name, path);
        self.inside(&record, |root| wanted.open(root)?.describe(root, &wanted))
    }

    /// Writes what is at a path as a tar, in which it is called `called` (as its path's last part, unless given). `told`
    /// hears first what it is.
    pub fn get_archive(
        &self,
        name: &str,
        path: &str,
        called: Option<&str>,
        told: &mut (dyn FnMut(&PathStat) -> Result<()> + Send),
        out: &mut (dyn Write + Send),
    ) -> Result<()> {
        let record = self.record(name)?;
        let wanted = Wanted::new(name, path);
        self.inside(&record, |root| {
            let place = wanted.open(root)?;
            told(&place.describe(root, &wanted)?)?;
            let called = match called.unwrap_or(wanted.base()) {
                "/" => ".",
                name => name,
            };
            snapshot::pack(place.dir.as_fd(), &place.name, called.as_bytes(), ids(&record), out)
        })?;
        self.tell_of(&record, "archive-path", &[]);
        Ok(())
    }

    /// Unpacks a tar (compressed or not) in a directory of a container.
    pub fn put_archive(&self, name: &str, path: &str, options: &PutOptions, tar: Box<dyn Read + Send>) -> Result<()> {
        let record = self.record(name)?;
        let wanted = Wanted::new(name, path);
        let mut plain = ::image::decompress(tar)?;
        let put = self.inside(&record, |root| {
            let place = wanted.resolved(root);
            let directory = sys::path::open(root, &place, OFlags::PATH).map_err(|e| wanted.missing(e))?;
            let stat = rustix::fs::fstat(&directory).errno_step("look at the directory")?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            check_writable(&record, &place)?;
            let user = record.body.user.as_deref().unwrap_or_default();
            let owner = match options.copy_uid_gid && !user.is_empty() {
                true => Some(user_of(root, user)?),
                false => None,
            };
            let unpack = Unpack {
                root,
                path: &place,
                ids: ids(&record),
                owner,
                keep_kinds: options.no_overwrite_dir_non_dir,
            };
            unpack.unpack(&mut plain)
        });
        put.map_err(explain)?;
        self.tell_of(&record, "extract-to-dir", &[]);
        Ok(())
    }
}

/// Who the container's processes are.
fn user_of(root: BorrowedFd<'_>, user: &str) -> Result<(u32, u32)> {
    let found = spec::user::look_up(&|path| spec::user::read_inside(root, path), user, &[])?;
    Ok((found.uid, found.gid))
}

/// A read-only root is read-only for the engine, too; the kernel sees to the volumes.
fn check_writable(record: &Record, place: &Path) -> Result<()> {
    let in_volume = |m: &bollard_stubs::models::MountPoint| {
        m.destination.as_deref().is_some_and(|d| place.starts_with(d)) && m.rw != Some(false)
    };
    if record.host().readonly_rootfs == Some(true) && !record.mounts.iter().any(in_volume) {
        return Err(Error::invalid("container rootfs is marked read-only"));
    }
    Ok(())
}

/// A path as it was asked for.
struct Wanted {
    /// As it was named.
    container: String,
    asked: String,
    /// Absolute, without `..`.
    clean: PathBuf,
    /// It ends with a slash or a dot: a link at its end is followed.
    whole: bool,
    /// It ends with a dot: only what is in the directory is meant.
    dot: bool,
}

impl Wanted {
    fn new(container: &str, path: &str) -> Self {
        let mut clean = PathBuf::from("/");
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => _ = clean.pop(),
                _ => {}
            }
        }
        let dot = path.ends_with("/.") || path == ".";
        Wanted {
            container: container.into(),
            asked: path.into(),
            whole: dot || path.ends_with('/') || clean == Path::new("/"),
            clean,
            dot,
        }
    }

    /// The name that it has in a tar.
    fn base(&self) -> &str {
        match self.clean.file_name() {
            _ if self.dot => ".",
            Some(name) => name.to_str().unwrap_or("_"),
            None => "/",
        }
    }

    fn missing(&self, errno: Errno) -> Error {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::not_found(format!(
                "Could not find the file {} in container {}",
                self.asked, self.container
            )),
            errno => Error::caused(format!("look at {}", self.asked), std::io::Error::from(errno)),
        }
    }

    /// The directory that it is in, and its name there (`.`: the directory itself).
    fn open(&self, root: BorrowedFd<'_>) -> Result<Place> {
        let missing = |e| self.missing(e);
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let (dir, name) = match (self.whole, self.clean.parent(), self.clean.file_name()) {
            (false, Some(parent), Some(name)) => {
                let dir = sys::path::open(root, parent, directory).map_err(missing)?;
                (dir, std::ffi::CString::new(name.as_bytes()).step("read the path")?)
            }
            _ => (
                sys::path::open(root, &self.clean, directory).map_err(missing)?,
                c".".to_owned(),
            ),
        };
        let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        Ok(Place { dir, name, stat })
    }

    /// Its links followed, as far as it is there: what it is called, not how it is opened.
    fn resolved(&self, root: BorrowedFd<'_>) -> PathBuf {
        let mut todo: Vec<std::ffi::OsString> = parts(&self.clean);
        todo.reverse();
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = todo.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let target = sys::path::open(root, &next, flags)
                .and_then(|fd| rustix::fs::readlinkat(fd, "", Vec::new()))
                .ok();
            match target {
                Some(target) if links < LINKS => {
                    links += 1;
                    let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    todo.extend(parts(target).into_iter().rev());
                }
                _ => at = next,
            }
        }
        at
    }
}

fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// Something that is there.
struct Place {
    dir: OwnedFd,
    name: std::ffi::CString,
    stat: Stat,
}

impl Place {
    fn describe(&self, root: BorrowedFd<'_>, wanted: &Wanted) -> Result<PathStat> {
        let link = FileType::from_raw_mode(self.stat.st_mode) == FileType::Symlink;
        let time = jiff::Timestamp::new(self.stat.st_mtime, self.stat.st_mtime_nsec as i32);
        Ok(PathStat {
            name: wanted.base().into(),
            size: self.stat.st_size,
            mode: go_mode(self.stat.st_mode),
            mtime: time.map(|t| t.to_string()).unwrap_or_default(),
            link_target: match link {
                true => wanted.resolved(root).to_string_lossy().into_owned(),
                false => String::new(),
            },
        })
    }
}

/// `st_mode` as Go has it (`os.FileMode`).
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => PathStat::DIRECTORY,
        FileType::Symlink => PathStat::LINK,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let bit = |of: u32, to: u32| if mode & of != 0 { to } else { 0 };
    kind | mode & 0o777 | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}

/// What is not there, for callers that go on then.
pub fn is_missing(error: &Error) -> bool {
    error.kind() == Kind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_know_what_they_mean() {
        for (path, clean, base, whole) in [
            ("/etc/passwd", "/etc/passwd", "passwd", false),
            ("etc/../x/", "/x", "x", true),
            ("/x/.", "/x", ".", true),
            ("/", "/", "/", true),
            ("../../a", "/a", "a", false),
        ] {
            let wanted = Wanted::new("c", path);
            assert_eq!(
                (wanted.clean.to_str(), wanted.base(), wanted.whole),
                (Some(clean), base, whole),
                "{path}"
            );
        }
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100644), 0o644);
        assert_eq!(go_mode(0o041777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o120777), 1 << 27 | 0o777);
    }

    #[test]
    fn links_are_resolved_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, dir.path().join(from)).unwrap();
        link("usr/bin", "bin");
        link("../../../../etc/x", "usr/bin/up");
        link("/loop", "loop");
        let root = std::fs::File::open(dir.path()).unwrap();
        let resolved = |path: &str| Wanted::new("c", path).resolved(root.as_fd());
        assert_eq!(resolved("/bin/sh"), Path::new("/usr/bin/sh"));
        assert_eq!(resolved("/bin/up"), Path::new("/etc/x"));
        assert_eq!(resolved("/loop"), Path::new("/loop"));
    }
}
