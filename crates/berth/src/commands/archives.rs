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
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let engine = settings::engine()?;
    let loaded = match given.one("input") {
        Some(path) => engine.load_path(Path::new(path), platform.as_ref())?,
        None if terminal::stdin_is() => return Err(Error::invalid("requested load from stdin, but stdin is empty")),
        None => engine.load(&mut std::io::stdin(), platform.as_ref())?,
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

/// Writes images into an archive; to a file that is there in whole or not at all.
pub fn save(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let Some(path) = given.one("output") else {
        if terminal::stdout_is() {
            return Err(Error::invalid(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        engine.save(&given.words, &mut out)?;
        return out.flush().step("write the archive").map(|()| 0);
    };
    let temporary = format!("{path}.part-{}", std::process::id());
    let step = || format!("write {path}");
    let mut out = BufWriter::new(File::create(&temporary).step_with(step)?);
    let saved = engine
        .save(&given.words, &mut out)
        .and_then(|()| out.flush().step_with(step));
    let saved = saved.and_then(|()| std::fs::rename(&temporary, path).step_with(step));
    if saved.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    saved.map(|()| 0)
}

/// Makes an image of a root file system.
pub fn import(given: &Given) -> Result<u8> {
    let platform = given.one("platform").map(Platform::parse).transpose()?;
    let source = &given.words[0];
    let (tar, default): (Box<dyn Read + Send>, String) = match source.as_str() {
        "-" => (Box::new(std::io::stdin()), "Imported from -".into()),
        url if url.starts_with("http://") || url.starts_with("https://") => {
            return Err(Error::not_yet("import from a URL").hint("curl URL | berth import -"));
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
