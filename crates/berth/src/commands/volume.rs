//! `volume create`, `ls`, `rm`, `inspect`.

use std::collections::HashMap;

use engine::models::VolumeCreateRequest;
use errdefs::{Result, Step};
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::{output, settings};

/// Makes a volume; prints its name.
pub fn create(given: &Given) -> Result<u8> {
    let labels = given.many("label");
    let pair = |l: &String| {
        l.split_once('=')
            .map_or((l.clone(), String::new()), |(k, v)| (k.into(), v.into()))
    };
    let request = VolumeCreateRequest {
        name: given.words.first().cloned(),
        driver: given.one("driver").map(String::from),
        labels: (!labels.is_empty()).then(|| labels.iter().map(pair).collect()),
        driver_opts: Some(given.many("opt").iter().map(pair).collect()).filter(|o: &HashMap<_, _>| !o.is_empty()),
        ..Default::default()
    };
    let volume = settings::engine()?.create_volume(&request)?;
    say(&format!("{}\n", volume.name));
    Ok(0)
}

/// Only volumes of a cluster can be changed, and there is none: as with a dockerd of its own.
pub fn update(given: &Given) -> Result<u8> {
    settings::engine()?.volume(&given.words[0])?;
    Err(errdefs::Error::invalid("can only update cluster volumes"))
}

/// Lists volumes.
pub fn ls(given: &Given) -> Result<u8> {
    let list = settings::engine()?.volumes(&given.filters()?)?;
    if given.on("quiet") {
        list.iter().for_each(|v| say(&format!("{}\n", v.name)));
        return Ok(0);
    }
    let row = |v: &engine::models::Volume| {
        let labels = v
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",");
        json!({"Driver": v.driver, "Name": v.name, "Mountpoint": v.mountpoint, "Scope": "local", "Labels": labels})
    };
    let rows: Vec<Value> = list.iter().map(row).collect();
    listing::print(
        given.one("format"),
        &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")],
        &rows,
    )?;
    Ok(0)
}

/// Removes volumes.
pub fn rm(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        engine.remove_volume(name, given.on("force"))?;
        say(&format!("{name}\n"));
        Ok(())
    }))
}

/// Prints everything about volumes.
pub fn inspect(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let (mut documents, mut code) = (Vec::new(), 0);
    for name in &given.words {
        match engine.volume(name) {
            Ok(volume) => documents.push(serde_json::to_value(volume).step("write JSON")?),
            Err(error) => {
                output::complain(&error);
                code = 1;
            }
        }
    }
    listing::print_documents(given.one("format"), &documents)?;
    Ok(code)
}
