//! Docker's four ways of asking for mounts (`-v`, `--mount`, `--tmpfs`, the image's `VOLUME`) to one list.

use std::path::{Component, Path, PathBuf};

use bollard_stubs::models::{ContainerCreateBody, Mount, MountPoint, MountType};
use errdefs::{Error, Result};

use super::record::Record;
use crate::volume::check_name as check_volume_name;

/// A mount asked for, before volumes are looked up or made.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What is mounted.
    pub source: Source,
    /// Absolute and clean.
    pub destination: String,
    /// Read-only otherwise.
    pub writable: bool,
    /// `rprivate` unless asked otherwise; empty for volumes and tmpfs.
    pub propagation: String,
    /// As written after the second colon of `-v`.
    pub mode: String,
    /// What of it, by its path from there.
    pub subpath: Option<String>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file or directory of the host (`-v` makes it, `--mount` does not).
    Bind {
        /// Absolute.
        path: PathBuf,
        /// Make a directory of it if it is not there.
        make: bool,
    },
    /// A named volume, or one made for the container.
    Volume {
        /// `None` for one of the container's own.
        name: Option<String>,
        /// From the image, while it is empty.
        fill: bool,
        /// For a volume that is made now.
        labels: Option<std::collections::HashMap<String, String>>,
    },
    /// The files of an image, to be read.
    Image {
        /// Its name or id.
        name: String,
    },
    /// Memory.
    Tmpfs {
        /// As in mount(8).
        options: String,
    },
}

/// All mounts of a request, sorted so that parents come first.
pub fn wanted(body: &ContainerCreateBody) -> Result<Vec<Wanted>> {
    let host = body.host_config.clone().unwrap_or_default();
    let mut list = Vec::new();
    for bind in host.binds.iter().flatten() {
        add(&mut list, parse_bind(bind)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(&mut list, from_mount(mount)?)?;
    }
    for (destination, options) in host.tmpfs.iter().flatten() {
        let writable = !options.split(',').any(|o| o == "ro");
        let source = Source::Tmpfs {
            options: options.clone(),
        };
        add(&mut list, plain(source, destination, writable)?)?;
    }
    for destination in body.volumes.iter().flatten() {
        let wanted = plain(
            Source::Volume {
                name: None,
                fill: true,
                labels: None,
            },
            destination,
            true,
        )?;
        check_place(&wanted)?;
        // The image's own volumes give way to what the user mounts there.
        if !list.iter().any(|w| w.destination == wanted.destination) {
            list.push(wanted);
        }
    }
    list.sort_by_key(|w| Path::new(&w.destination).components().count());
    Ok(list)
}

/// What another container has mounted; its memory is its own.
pub fn from_point(record: &Record, point: &MountPoint, writable: bool) -> Option<Wanted> {
    let source = match (point.typ.as_deref(), &point.name) {
        (Some("bind"), _) => Source::Bind {
            path: point.source.clone()?.into(),
            make: false,
        },
        (Some("volume"), Some(name)) => Source::Volume {
            name: Some(name.clone()),
            fill: false,
            labels: None,
        },
        _ => return None,
    };
    Some(Wanted {
        source,
        subpath: record.part(point).subpath.clone(),
        destination: point.destination.clone()?,
        writable: writable && point.rw != Some(false),
        propagation: point.propagation.clone().unwrap_or_default(),
        mode: point.mode.clone().unwrap_or_default(),
    })
}

fn add(list: &mut Vec<Wanted>, wanted: Wanted) -> Result<()> {
    check_place(&wanted)?;
    if list.iter().any(|w| w.destination == wanted.destination) {
        return Err(Error::invalid(format!("Duplicate mount point: {}", wanted.destination)));
    }
    list.push(wanted);
    Ok(())
}

/// Nothing takes the place of the root or of `/proc`: neither what the user wants nor what the image does.
fn check_place(wanted: &Wanted) -> Result<()> {
    if wanted.destination == "/" {
        return Err(Error::invalid("invalid volume specification: destination can't be '/'"));
    }
    refuse_proc(wanted)
}

/// Whoever mounts over parts of `/proc` decides what the kernel's protections apply to (CVE-2023-27561 and its family); only
/// what programs like lxcfs replace may be.
fn refuse_proc(wanted: &Wanted) -> Result<()> {
    let inside = wanted.destination == "/proc" || wanted.destination.starts_with("/proc/");
    if !inside || runtime::REPLACEABLE_IN_PROC.contains(&wanted.destination.as_str()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{:?} cannot be mounted because it is inside /proc",
        wanted.destination
    )))
}

fn plain(source: Source, destination: &str, writable: bool) -> Result<Wanted> {
    let destination = clean(destination)?;
    Ok(Wanted {
        source,
        destination,
        writable,
        propagation: String::new(),
        mode: String::new(),
        subpath: None,
    })
}

/// `[SOURCE:]DESTINATION[:OPTIONS]`.
fn parse_bind(spec: &str) -> Result<Wanted> {
    let invalid = |why: &str| Error::invalid(format!("invalid volume specification: '{spec}'{why}"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] if !destination.starts_with('/') => ("", source, destination),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid("")),
    };
    if parts.len() > 1 && source.is_empty() && !parts[0].starts_with('/') {
        return Err(invalid(""));
    }
    if destination.is_empty() {
        return Err(invalid(": destination can't be empty"));
    }
    let (mut writable, mut propagation, mut fill) = (true, None, true);
    for option in mode.split(',').filter(|o| !o.is_empty()) {
        match option {
            "rw" => {}
            "ro" => writable = false,
            "nocopy" => fill = false,
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => propagation = Some(option),
            // There is no SELinux labelling; Docker ignores these two on hosts without it, too.
            "z" | "Z" => {}
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        }
    }
    let destination = clean(destination)?;
    let (source, propagation) = match source {
        path if path.starts_with('/') => (
            Source::Bind {
                path: clean(path)?.into(),
                make: true,
            },
            propagation.unwrap_or("rprivate"),
        ),
        "" => (
            Source::Volume {
                name: None,
                fill,
                labels: None,
            },
            "",
        ),
        name => (
            Source::Volume {
                name: Some(check_volume_name(name)?.to_owned()),
                fill,
                labels: None,
            },
            "",
        ),
    };
    Ok(Wanted {
        source,
        destination,
        writable,
        propagation: propagation.into(),
        mode: mode.into(),
        subpath: None,
    })
}

/// One of the structured mounts (`--mount`).
fn from_mount(mount: &Mount) -> Result<Wanted> {
    let kind = mount.typ.unwrap_or(MountType::BIND);
    let invalid = |why: &str| invalid_mount(mount, why);
    let target = filled(&mount.target).ok_or_else(|| invalid("field Target must not be empty"))?;
    let wanted = match kind {
        MountType::BIND => from_bind(mount, target)?,
        MountType::VOLUME => from_volume(mount, target)?,
        MountType::IMAGE => from_image(mount, target)?,
        MountType::TMPFS => {
            if filled(&mount.source).is_some() {
                return Err(invalid("field Source must not be specified"));
            }
            let options = tmpfs_options(mount, writable(mount));
            plain(Source::Tmpfs { options }, target, writable(mount))?
        }
        _ => return Err(Error::not_yet(format_args!("mounts of type {kind}"))),
    };
    if wanted.destination == "/" {
        return Err(invalid("invalid specification: destination can't be '/'"));
    }
    if let Some(consistency) = mount.consistency.as_deref()
        && !["", "default", "consistent", "cached", "delegated"].contains(&consistency)
    {
        return Err(invalid(&format!("invalid consistency {consistency:?}")));
    }
    Ok(wanted)
}

fn invalid_mount(mount: &Mount, why: &str) -> Error {
    let kind = mount.typ.unwrap_or(MountType::BIND);
    Error::invalid(format!("invalid mount config for type \"{kind}\": {why}"))
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|t| !t.is_empty())
}

fn writable(mount: &Mount) -> bool {
    !mount.read_only.unwrap_or(false)
}

fn from_bind(mount: &Mount, target: &str) -> Result<Wanted> {
    let invalid = |why: &str| invalid_mount(mount, why);
    let path = filled(&mount.source).ok_or_else(|| invalid("field Source must not be empty"))?;
    if !path.starts_with('/') {
        return Err(invalid(&format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let make = options.create_mountpoint.unwrap_or(false);
    if !make && !Path::new(path).exists() {
        return Err(invalid(&format!("bind source path does not exist: {path}"))
            .hint("--mount never makes the source; -v SOURCE:DESTINATION makes a directory"));
    }
    let path = clean(path)?.into();
    let mut wanted = plain(Source::Bind { path, make }, target, writable(mount))?;
    wanted.propagation = options
        .propagation
        .map(|p| p.to_string())
        .filter(|p| !p.is_empty())
        .unwrap_or("rprivate".into());
    if options.non_recursive == Some(true) {
        wanted.mode = "nonrecursive".into();
    }
    Ok(wanted)
}

fn from_volume(mount: &Mount, target: &str) -> Result<Wanted> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let subpath = subpath(mount, &options.subpath)?;
    if subpath.is_some() && filled(&mount.source).is_none() {
        return Err(invalid_mount(
            mount,
            "must not set Subpath when using anonymous volumes",
        ));
    }
    let driver = options.driver_config.and_then(|d| d.name);
    if driver.is_some_and(|n| !n.is_empty() && n != "local") {
        return Err(Error::not_yet("volume drivers"));
    }
    let source = Source::Volume {
        name: filled(&mount.source)
            .map(check_volume_name)
            .transpose()?
            .map(String::from),
        fill: options.no_copy != Some(true),
        labels: options.labels,
    };
    let plain = plain(source, target, writable(mount))?;
    Ok(Wanted { subpath, ..plain })
}

fn from_image(mount: &Mount, target: &str) -> Result<Wanted> {
    let name = filled(&mount.source).ok_or_else(|| invalid_mount(mount, "field Source must not be empty"))?;
    let options = mount.image_options.clone().unwrap_or_default();
    let subpath = subpath(mount, &options.subpath)?;
    let plain = plain(Source::Image { name: name.into() }, target, false)?;
    Ok(Wanted { subpath, ..plain })
}

/// A relative path that stays below where it begins, as it is written (Go's `filepath.IsLocal`).
fn subpath(mount: &Mount, path: &Option<String>) -> Result<Option<String>> {
    let Some(path) = filled(path) else { return Ok(None) };
    let mut depth = 0;
    for part in Path::new(path).components() {
        depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir if depth > 0 => -1,
            _ => {
                let kind = mount.typ.unwrap_or(MountType::BIND);
                let why = format!("subpath must be a relative path within the {kind}");
                return Err(invalid_mount(mount, &why));
            }
        };
    }
    Ok(Some(path.to_owned()))
}

fn tmpfs_options(mount: &Mount, writable: bool) -> String {
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    let mut words = Vec::new();
    if !writable {
        words.push("ro".to_owned());
    }
    words.extend(options.size_bytes.filter(|s| *s > 0).map(|s| format!("size={s}")));
    words.extend(options.mode.filter(|m| *m > 0).map(|m| format!("mode={m:o}")));
    words.extend(options.options.iter().flatten().map(|o| o.join("=")));
    words.join(",")
}

/// An absolute path without `.`, `..` and double slashes.
fn clean(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    if clean == Path::new("/") && path.len() > 1 && path.contains("..") {
        return Err(Error::invalid(format!("invalid mount path: '{path}'")));
    }
    Ok(clean.to_string_lossy().into_owned())
}

impl Wanted {
    /// As `inspect` shows it, once the source is a path.
    pub fn point(&self, source: &Path, volume: Option<&str>) -> MountPoint {
        let typ = match self.source {
            Source::Bind { .. } => "bind",
            Source::Volume { .. } => "volume",
            Source::Image { .. } => "image",
            Source::Tmpfs { .. } => "tmpfs",
        };
        MountPoint {
            typ: Some(typ.into()),
            name: volume.map(String::from),
            source: Some(source.to_string_lossy().into_owned()),
            destination: Some(self.destination.clone()),
            driver: volume.map(|_| "local".into()),
            mode: Some(self.mode.clone()),
            rw: Some(self.writable),
            propagation: Some(self.propagation.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_follow_dockers_table() {
        let bind = |s: &str| {
            parse_bind(s)
                .map(|w| (w.source, w.destination, w.writable))
                .map_err(|e| e.to_string())
        };
        let volume = |name: Option<&str>| Source::Volume {
            name: name.map(String::from),
            fill: true,
            labels: None,
        };
        let path = |p: &str| Source::Bind {
            path: p.into(),
            make: true,
        };
        assert_eq!(bind("/a:/b"), Ok((path("/a"), "/b".into(), true)));
        assert_eq!(bind("/a/../c/:/b//d:ro"), Ok((path("/c"), "/b/d".into(), false)));
        assert_eq!(bind("data:/b:rw,z"), Ok((volume(Some("data")), "/b".into(), true)));
        assert_eq!(bind("/b"), Ok((volume(None), "/b".into(), true)));
        for (bad, words) in [
            ("rel/x:/b", "use absolute path"),
            ("/a:/b:rx", "invalid mode: rx"),
            ("/a:/b:ro:x", "invalid volume specification"),
            (":/b", "invalid volume specification"),
            ("/a:b:ro", "must be absolute"),
        ] {
            let error = bind(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn an_image_puts_no_volume_over_the_root_or_proc() {
        for (place, words) in [
            ("/", "can't be '/'"),
            ("//", "can't be '/'"),
            ("/proc", "/proc"),
            ("/proc/sys/", "/proc"),
        ] {
            let body = ContainerCreateBody {
                volumes: Some(vec![place.into()]),
                ..Default::default()
            };
            let error = wanted(&body).unwrap_err().to_string();
            assert!(error.contains(words), "{place}: {error}");
        }
    }

    #[test]
    fn the_same_place_twice_is_refused_and_parents_come_first() {
        let host = |binds: &[&str]| ContainerCreateBody {
            host_config: Some(bollard_stubs::models::HostConfig {
                binds: Some(binds.iter().map(|b| (*b).into()).collect()),
                ..Default::default()
            }),
            volumes: Some(vec!["/data".into()]),
            ..Default::default()
        };
        let error = wanted(&host(&["/a:/b", "/c:/b/"])).unwrap_err().to_string();
        assert_eq!(error, "Duplicate mount point: /b");
        let list = wanted(&host(&["/a:/b/c", "/a:/b", "x1:/data"])).unwrap();
        let order: Vec<_> = list.iter().map(|w| w.destination.as_str()).collect();
        assert_eq!(order, ["/b", "/data", "/b/c"]);
    }
}
