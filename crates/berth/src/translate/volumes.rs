//! `-v` and `--mount`.

use std::path::{Component, Path, PathBuf};

use engine::models::{Mount, MountBindOptionsPropagationEnum, MountType};
use errdefs::{Error, Kind, Result, Step};

use crate::format::parse_bytes;

/// `-v`: binds as given, their sources absolute; paths alone are anonymous volumes.
pub fn volumes(list: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut binds, mut anonymous) = (Vec::new(), Vec::new());
    for volume in list {
        if volume.is_empty() {
            return Err(Error::invalid("invalid empty volume spec"));
        }
        let Some((source, rest)) = volume.split_once(':') else {
            anonymous.push(volume.clone());
            continue;
        };
        let wrong = |why: &str| Err(Error::invalid(format!("invalid spec: {volume}: {why}")));
        match volume.split(':').collect::<Vec<_>>().as_slice() {
            parts if parts.iter().any(|part| part.is_empty()) => return wrong("empty section between colons"),
            [_, _] | [_, _, _] => binds.push(format!("{}:{rest}", absolute(source)?)),
            _ => return wrong("too many colons"),
        }
    }
    Ok((binds, anonymous))
}

/// A path that begins with a dot is one from here; everything else stays: a name, an absolute path.
fn absolute(source: &str) -> Result<String> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let here = std::env::current_dir().step("find the current directory")?;
    let mut clean = PathBuf::new();
    for part in here.join(source).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = clean.pop(),
            part => clean.push(part),
        }
    }
    Ok(Path::new(&clean).display().to_string())
}

/// One line of comma-separated values, the quoted ones taken out of their quotes (RFC 4180).
fn fields(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if !quoted && field.is_empty() => quoted = true,
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' if quoted && matches!(letters.peek(), None | Some(',')) => quoted = false,
            '"' => return None,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

/// Keys that can stand without a value.
const SWITCHES: &[&str] = &[
    "readonly",
    "ro",
    "volume-nocopy",
    "bind-nonrecursive",
    "bind-create-mountpoint",
];

/// `type=bind,source=/a,target=/b,readonly`.
pub fn mount(text: &str) -> Result<Mount> {
    let invalid = |why: String| Error::flag(format!("invalid argument {text:?} for \"--mount\" flag: {why}"));
    let mut mount = Mount {
        typ: Some(MountType::VOLUME),
        ..Default::default()
    };
    let mut recursion = None;
    for field in fields(text).ok_or_else(|| invalid("bare \" in field".into()))? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        let key = key.to_ascii_lowercase();
        if !field.contains('=') && !SWITCHES.contains(&key.as_str()) {
            return Err(invalid(format!("invalid field '{field}' must be a key=value pair")));
        }
        match key.as_str() {
            "bind-recursive" => recursion = Some(value.to_owned()),
            _ => set(&mut mount, &key, value).map_err(|why| match why {
                Wrong::Key => invalid(format!("unexpected key '{key}' in '{field}'")),
                Wrong::Value => invalid(format!("invalid value for {key}: {value}")),
                Wrong::Other(error) => error,
            })?,
        }
    }
    if let Some(recursion) = recursion {
        recurse(&mut mount, &recursion).map_err(|error| match error.kind() {
            Kind::Invalid => invalid(error.to_string()),
            _ => error,
        })?;
    }
    if let Some((option, typ)) = mixed(&mount) {
        return Err(invalid(format!(
            "cannot mix '{option}-*' options with mount type '{typ}'"
        )));
    }
    if mount.target.as_deref().is_none_or(str::is_empty) {
        return Err(invalid("target is required".into()));
    }
    if mount.typ == Some(MountType::BIND) {
        mount.source = mount.source.map(|source| absolute(&source)).transpose()?;
    }
    Ok(mount)
}

/// What is wrong with a field.
enum Wrong {
    Key,
    Value,
    Other(Error),
}

/// Puts one field in its place.
fn set(mount: &mut Mount, key: &str, value: &str) -> std::result::Result<(), Wrong> {
    let truth = || match value {
        "" => Ok(true),
        _ => crate::cli::flag::truth(value).map_err(|_| Wrong::Value),
    };
    match key {
        "type" => {
            mount.typ = Some(match value.to_ascii_lowercase().as_str() {
                "bind" => MountType::BIND,
                "volume" => MountType::VOLUME,
                "tmpfs" => MountType::TMPFS,
                "image" => MountType::IMAGE,
                _ => {
                    let message = format!("invalid mount config for type \"{value}\": mount type unknown");
                    return Err(Wrong::Other(Error::invalid(message)));
                }
            });
        }
        "source" | "src" => mount.source = Some(value.to_owned()).filter(|source| !source.is_empty()),
        "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
        "readonly" | "ro" => mount.read_only = Some(truth()?),
        "consistency" => mount.consistency = Some(value.to_owned()),
        "bind-propagation" => {
            let propagation: MountBindOptionsPropagationEnum = value.parse().map_err(|_| Wrong::Value)?;
            mount.bind_options.get_or_insert_default().propagation = Some(propagation);
        }
        "bind-create-mountpoint" => mount.bind_options.get_or_insert_default().create_mountpoint = Some(truth()?),
        "volume-nocopy" => mount.volume_options.get_or_insert_default().no_copy = Some(truth()?),
        "volume-subpath" => mount.volume_options.get_or_insert_default().subpath = Some(value.to_owned()),
        "image-subpath" => mount.image_options.get_or_insert_default().subpath = Some(value.to_owned()),
        "volume-label" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            let labels = &mut mount.volume_options.get_or_insert_default().labels;
            labels.get_or_insert_default().insert(name.into(), value.into());
        }
        "tmpfs-size" => {
            let size = parse_bytes(value).map_err(|_| Wrong::Value)?;
            mount.tmpfs_options.get_or_insert_default().size_bytes = Some(size);
        }
        "tmpfs-mode" => {
            let mode = i64::from_str_radix(value, 8).map_err(|_| Wrong::Value)?;
            mount.tmpfs_options.get_or_insert_default().mode = Some(mode);
        }
        "volume-driver" | "volume-opt" | "bind-nonrecursive" | "tmpfs-opt" => {
            return Err(Wrong::Other(not_yet(key)));
        }
        _ => return Err(Wrong::Key),
    }
    Ok(())
}

fn not_yet(key: &str) -> Error {
    Error::not_yet(format_args!("--mount {key}"))
}

/// `bind-recursive=`: whether mounts below the source come along, and whether they are read-only, too.
fn recurse(mount: &mut Mount, how: &str) -> Result<()> {
    match how {
        "enabled" => Ok(()),
        "disabled" => {
            mount.bind_options.get_or_insert_default().non_recursive = Some(true);
            Ok(())
        }
        "writable" | "readonly" if mount.read_only != Some(true) => Err(Error::invalid(format!(
            "option 'bind-recursive={how}' requires 'readonly' to be specified in conjunction"
        ))),
        "writable" | "readonly" => Err(not_yet(&format!("bind-recursive={how}"))),
        _ => Err(Error::invalid(format!(
            "invalid value for bind-recursive: {how} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
        ))),
    }
}

/// Options of one type given for another.
fn mixed(mount: &Mount) -> Option<(&'static str, MountType)> {
    let typ = mount.typ?;
    let options = [
        ("volume", MountType::VOLUME, mount.volume_options.is_some()),
        ("bind", MountType::BIND, mount.bind_options.is_some()),
        ("image", MountType::IMAGE, mount.image_options.is_some()),
        ("tmpfs", MountType::TMPFS, mount.tmpfs_options.is_some()),
    ];
    let found = options.iter().find(|(_, of, given)| *given && *of != typ);
    found.map(|(name, _, _)| (*name, typ))
}

/// `/t:size=1m`.
pub fn tmpfs(list: &[String]) -> Option<std::collections::HashMap<String, String>> {
    let pair = |t: &String| {
        t.split_once(':').map_or((t.clone(), String::new()), |(path, options)| {
            (path.into(), options.into())
        })
    };
    (!list.is_empty()).then(|| list.iter().map(pair).collect())
}
