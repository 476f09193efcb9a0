//! `logs`.

use std::io::Write;

use engine::container::LogOptions;
use errdefs::Result;

use crate::cli::flag::Given;
use crate::{format, settings};

/// Prints what a container wrote, to the stream that it wrote to.
pub fn logs(given: &Given) -> Result<u8> {
    // What is no number is all of it, as Docker has it.
    let tail = given.one("tail").and_then(|text| text.parse().ok());
    let time = |flag: &str| given.one(flag).map(format::parse_time).transpose();
    let options = LogOptions {
        stdout: true,
        stderr: true,
        follow: given.on("follow"),
        timestamps: given.on("timestamps"),
        tail,
        since: time("since")?,
        until: time("until")?,
    };
    let details = given.on("details");
    let engine = settings::engine()?;
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    engine.logs(&given.words[0], &options, &mut |entry| {
        let to: &mut dyn Write = if entry.stream == 2 { &mut err } else { &mut out };
        let time = if options.timestamps {
            format!("{} ", entry.time)
        } else {
            String::new()
        };
        let pairs: Vec<String> = entry.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let details = if details { pairs.join(",") + " " } else { String::new() };
        to.write_all(time.as_bytes())
            .and_then(|()| to.write_all(details.as_bytes()))
            .and_then(|()| to.write_all(&entry.bytes))
            .and_then(|()| to.flush())
            .is_ok()
    })?;
    Ok(0)
}
