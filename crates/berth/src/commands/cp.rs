//! `cp`: between a container and this machine.
//!
//! What goes where follows Docker's rules (moby `archive.PrepareArchiveCopy`): into a directory that is there, else under
//! the name that the destination has.

use std::fs::File;
use std::io::{PipeReader, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::Engine;
use engine::container::{PathStat, PutOptions};
use errdefs::{Error, Result, Step};

use crate::cli::flag::Given;
use crate::{format, output, settings, terminal};

/// Copies files.
pub fn cp(given: &Given) -> Result<u8> {
    let [from, to] = [&given.words[0], &given.words[1]];
    let (source, destination) = (Side::parse(from), Side::parse(to));
    let engine = settings::engine()?;
    let (copied, shown) = match (&source, &destination) {
        (Side::There(container, path), Side::Here(to)) => (copy_out(&engine, container, path, to, given)?, to.clone()),
        (Side::Here(from), Side::There(container, path)) => (
            copy_in(&engine, from, container, path, given)?,
            format!("{container}:{path}"),
        ),
        (Side::There(..), Side::There(..)) => {
            return Err(Error::invalid("copying between containers is not supported"));
        }
        (Side::Here(_), Side::Here(_)) => return Err(Error::invalid("must specify at least one container source")),
    };
    if !given.on("quiet") && shown != "-" && rustix::termios::isatty(rustix::stdio::stderr()) {
        output::note(&format!(
            "Successfully copied {} to {shown}",
            format::human_size(copied as i64)
        ));
    }
    Ok(0)
}

/// One end of a copy.
enum Side {
    Here(String),
    There(String, String),
}

impl Side {
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((container, path)) if !text.starts_with(['/', '.']) => Side::There(container.into(), path.into()),
            _ => Side::Here(text.into()),
        }
    }
}

/// What a path is, as far as the rules ask.
struct What {
    exists: bool,
    directory: bool,
}

/// The directory to unpack in, and the name to unpack under; `None` for the source's own.
fn place(source_is_directory: bool, destination: &str, there: &What) -> Result<(PathBuf, Option<String>)> {
    let path = Path::new(destination);
    let asserts = destination.ends_with('/') || destination.ends_with("/.");
    if there.exists && there.directory {
        return Ok((path.into(), None));
    }
    if there.exists && source_is_directory {
        return Err(Error::invalid("cannot copy directory"));
    }
    if !there.exists && !source_is_directory && asserts {
        return Err(Error::not_found("no such directory"));
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((parent.into(), name))
}

/// From a container to a directory, a file, or (`-`) standard output.
fn copy_out(engine: &Engine, container: &str, path: &str, to: &str, given: &Given) -> Result<u64> {
    let mut path = path.to_owned();
    let mut stat = engine.stat_path(container, &path)?;
    if given.on("follow-link") && stat.mode & PathStat::LINK != 0 {
        path.clone_from(&stat.link_target);
        stat = engine.stat_path(container, &path)?;
    }
    if to == "-" {
        let mut out = Counted::new(std::io::stdout());
        if terminal::stdout_is() {
            return Err(Error::invalid(
                "cowardly refusing to copy to a terminal: use a file, or redirect",
            ));
        }
        engine.get_archive(container, &path, None, &mut |_| Ok(()), &mut out)?;
        return out.flush().step("write the archive").map(|()| out.count);
    }
    let there = std::fs::metadata(to).map_or(
        What {
            exists: false,
            directory: false,
        },
        |m| What {
            exists: true,
            directory: m.is_dir(),
        },
    );
    let (dir, name) = place(stat.mode & PathStat::DIRECTORY != 0, to, &there)?;
    if !dir.is_dir() {
        return Err(Error::invalid(format!(
            "invalid output path: directory {:?} does not exist",
            dir.display()
        )));
    }
    let (reader, writer) = std::io::pipe().step("make a pipe")?;
    let mut writer = Counted::new(writer);
    std::thread::scope(|scope| {
        let unpacking = scope.spawn(|| unpack(reader, &dir, given.on("archive")));
        let packed = engine.get_archive(container, &path, name.as_deref(), &mut |_| Ok(()), &mut writer);
        let count = writer.count;
        drop(writer);
        let unpacked = unpacking
            .join()
            .unwrap_or_else(|_| Err(Error::system("unpacking failed")));
        // One that stopped reading has the better reason.
        match (packed, unpacked) {
            (Err(packing), Err(unpacking)) if packing.errno() == Some(32) => Err(unpacking),
            (packed, unpacked) => packed.and(unpacked).map(|()| count),
        }
    })
}

/// Links that come from the container lead nowhere out of the directory. Everything is ours, unless asked otherwise.
fn unpack(mut tar: PipeReader, dir: &Path, keep_owners: bool) -> Result<()> {
    let root = File::open(dir).step_with(|| format!("open {}", dir.display()))?;
    let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let unpack = snapshot::Unpack {
        root: root.as_fd(),
        path: Path::new("/"),
        ids: None,
        owner: (!keep_owners).then(own),
        keep_kinds: true,
    };
    unpack.unpack(&mut tar)
}

/// From a path here, or (`-`) a tar on standard input, to a container.
fn copy_in(engine: &Engine, from: &str, container: &str, path: &str, given: &Given) -> Result<u64> {
    let mut path = if path.is_empty() {
        "/".to_owned()
    } else {
        path.to_owned()
    };
    let mut stat = engine.stat_path(container, &path);
    if let Ok(link) = &stat
        && link.mode & PathStat::LINK != 0
    {
        path.clone_from(&link.link_target);
        stat = engine.stat_path(container, &path);
    }
    // A container that is not there, or one in which its directory is not, says so when something is put there.
    let there = stat.as_ref().map_or(
        What {
            exists: false,
            directory: false,
        },
        |s| What {
            exists: true,
            directory: s.mode & PathStat::DIRECTORY != 0,
        },
    );
    let options = PutOptions {
        no_overwrite_dir_non_dir: true,
        copy_uid_gid: given.on("archive"),
    };
    if from == "-" {
        if !there.directory {
            return Err(Error::invalid(format!(
                "destination \"{container}:{path}\" must be a directory"
            )));
        }
        return engine
            .put_archive(container, &path, &options, Box::new(std::io::stdin()))
            .map(|()| 0);
    }
    let source = Source::find(from, given.on("follow-link"))?;
    let (dir, name) = place(source.directory, &path, &there)?;
    let called = name.unwrap_or_else(|| source.called.clone());
    let (reader, writer) = std::io::pipe().step("make a pipe")?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| source.pack(&called, Counted::new(writer)));
        let put = engine.put_archive(container, &dir.to_string_lossy(), &options, Box::new(reader));
        let packed = packing.join().unwrap_or_else(|_| Err(Error::system("packing failed")));
        match (put, packed) {
            // It stopped reading, and says why.
            (Err(put), Err(packing)) if packing.errno() == Some(32) => Err(put),
            (put, packed) => packed.and_then(|count| put.map(|()| count)),
        }
    })
}

/// Something here that is to be copied.
struct Source {
    dir: File,
    name: std::ffi::CString,
    /// Its name in the tar; `.` for a directory of which only what is in it is meant.
    called: String,
    directory: bool,
}

impl Source {
    fn find(path: &str, follow: bool) -> Result<Self> {
        let step = || format!("open {path}");
        let contents = path.ends_with("/.") || path == ".";
        let whole = follow || contents || path.ends_with('/');
        let shown = Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned());
        let real: PathBuf = match whole || shown.is_none() {
            true => std::fs::canonicalize(path).step_with(step)?,
            false => path.into(),
        };
        let stat = std::fs::symlink_metadata(&real).step_with(step)?;
        let (dir, name) = match (real.parent(), real.file_name()) {
            (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => (parent, name),
            (Some(_), Some(name)) => (Path::new("."), name),
            _ => (Path::new("/"), std::ffi::OsStr::new(".")),
        };
        let called = match (contents, shown) {
            (false, Some(shown)) => shown,
            _ => ".".into(),
        };
        Ok(Source {
            dir: File::open(dir).step_with(step)?,
            name: std::ffi::CString::new(name.as_bytes()).step_with(step)?,
            called,
            directory: stat.is_dir(),
        })
    }

    fn pack(&self, called: &str, mut out: Counted<std::io::PipeWriter>) -> Result<u64> {
        snapshot::pack(self.dir.as_fd(), &self.name, called.as_bytes(), None, &mut out)?;
        Ok(out.count)
    }
}

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Counted<W> {
    fn new(inner: W) -> Self {
        Counted { inner, count: 0 }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_land_where_dockers_do() {
        let there = |exists, directory| What { exists, directory };
        for (directory, to, what, expected) in [
            (false, "/d", there(true, true), Some(("/d", None))),
            (true, "/d", there(true, true), Some(("/d", None))),
            (false, "/d/f", there(true, false), Some(("/d", Some("f")))),
            (false, "new", there(false, false), Some((".", Some("new")))),
            (true, "/d/new/", there(false, false), Some(("/d", Some("new")))),
            (false, "/d/new/", there(false, false), None),
            (true, "/d/f", there(true, false), None),
        ] {
            let got = place(directory, to, &what).ok();
            let expected = expected.map(|(dir, name): (&str, Option<&str>)| (dir.into(), name.map(String::from)));
            assert_eq!(got, expected, "{to}");
        }
        assert!(matches!(Side::parse("./a:b"), Side::Here(_)));
        assert!(matches!(Side::parse("c:/a:b"), Side::There(c, p) if c == "c" && p == "/a:b"));
    }
}
