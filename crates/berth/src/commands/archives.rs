//! `load`, `save`, `import`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use engine::image::Platform;
use errdefs::{Error, Result, Step};

use crate::cli::flag::Given;
use crate::output::say;
use crate::{settings, terminal};

/// Takes images in from an archive, a layout directory, or standard input.
pub fn load(given: &Given) -> Result<u8> {
    let platforms = platforms(given)?;
    let engine = settings::engine()?;
    let loaded = match given.one("input") {
        Some(path) => engine.load_path(Path::new(path), &platforms)?,
        None if terminal::stdin_is() => return Err(Error::invalid("requested load from stdin, but stdin is empty")),
        None => engine.load(&mut std::io::stdin(), &platforms)?,
    };
    for name in loaded {
        let what = if name.starts_with("sha256:") {
            "Loaded image ID"
        } else {
            "Loaded image"
        };
        say(&format!("{what}: {name}\n"));
    }
    Ok(0)
}

/// Writes images into an archive.
pub fn save(given: &Given) -> Result<u8> {
    let (engine, platforms) = (settings::engine()?, platforms(given)?);
    write_to(given.one("output"), |out| engine.save(&given.words, &platforms, out))?;
    Ok(0)
}

/// Those of `--platform`, which may be given several times, or with commas.
pub fn platforms(given: &Given) -> Result<Vec<Platform>> {
    let all = given.many("platform");
    all.iter().flat_map(|p| p.split(',')).map(Platform::parse).collect()
}

/// Writes an archive to standard output, or to a file that is there in whole or not at all.
pub fn write_to(path: Option<&str>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Some(path) = path else {
        if terminal::stdout_is() {
            return Err(Error::invalid(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        write(&mut out)?;
        return out.flush().step("write the archive");
    };
    let step = || format!("write {path}");
    // What is no file (/dev/stdout, a pipe) is written to as it is.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let mut out = BufWriter::new(File::options().write(true).open(path).step_with(step)?);
        write(&mut out)?;
        return out.flush().step_with(step);
    }
    let temporary = format!("{path}.part-{}", std::process::id());
    let mut out = BufWriter::new(File::create(&temporary).step_with(step)?);
    let saved = write(&mut out).and_then(|()| out.flush().step_with(step));
    let saved = saved.and_then(|()| std::fs::rename(&temporary, path).step_with(step));
    if saved.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    saved
}

/// Makes an image of a root file system.
pub fn import(given: &Given) -> Result<u8> {
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let source = &given.words[0];
    let (tar, default): (Box<dyn Read + Send>, String) = match source.as_str() {
        "-" => (Box::new(std::io::stdin()), "Imported from -".into()),
        url if url.starts_with("http://") || url.starts_with("https://") => {
            (settings::registry()?.download(url)?, format!("Imported from {url}"))
        }
        path => (
            Box::new(File::open(path).step_with(|| format!("open {path}"))?),
            format!("Imported from {path}"),
        ),
    };
    let message = given.one("message").unwrap_or(&default);
    let reference = given.words.get(1).map(String::as_str);
    let id = settings::engine()?.import(tar, reference, message, &given.many("change"), platform.as_ref())?;
    say(&format!("{id}\n"));
    Ok(0)
}
