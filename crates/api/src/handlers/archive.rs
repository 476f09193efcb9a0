//! `docker cp`.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::Engine;
use engine::container::archive::{PathStat, PutOptions};
use errdefs::{Error, Result};
use hyper::header::{CONTENT_TYPE, HeaderName};

use crate::call::{Call, blocking};
use crate::reply::Reply;
use crate::stream::{Late, Upload, written};

/// What a path is, as JSON in base64.
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// What a path is.
pub fn stat(engine: &Engine, call: &Call) -> Result<Reply> {
    let stat = engine.stat_path(call.name(), &path(call)?)?;
    Ok(with_stat(Reply::status(200), &stat).header(CONTENT_TYPE, "application/json"))
}

/// Out of a container.
pub async fn get(call: Call) -> Result<Reply> {
    let (name, path) = (call.name().to_owned(), path(&call)?);
    let told: Arc<Mutex<Option<PathStat>>> = Arc::default();
    let tell = told.clone();
    let reply = written(&call.server, "application/x-tar", Late::Break, move |engine, pipe| {
        let mut told = |stat: &PathStat| {
            *tell.lock().unwrap_or_else(|e| e.into_inner()) = Some(stat.clone());
            Ok(())
        };
        engine.get_archive(&name, &path, None, &mut told, pipe)
    })
    .await?;
    // Told before the first byte, which has come.
    let told = told.lock().unwrap_or_else(|e| e.into_inner()).take();
    Ok(told.iter().fold(reply, with_stat))
}

/// Into a container.
pub async fn put(mut call: Call) -> Result<Reply> {
    let (name, path) = (call.name().to_owned(), path(&call)?);
    let options = PutOptions {
        no_overwrite_dir_non_dir: call.query.on("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.on("copyUIDGID"),
    };
    let body = call.incoming.take().map(Upload::new);
    let body = body.ok_or_else(|| Error::invalid("there is nothing to unpack"))?;
    blocking(&call.server, move |engine| {
        engine.put_archive(&name, &path, &options, Box::new(body))
    })
    .await?;
    Ok(Reply::status(200))
}

fn path(call: &Call) -> Result<String> {
    let path = call.query.text("path").map(String::from);
    let path = path.ok_or_else(|| Error::invalid("bad parameter: path cannot be empty"))?;
    match path.contains('\0') {
        true => Err(Error::invalid(format!("lstat {path:?}: invalid argument"))),
        false => Ok(path),
    }
}

fn with_stat(reply: Reply, stat: &PathStat) -> Reply {
    let text = serde_json::to_vec(stat).unwrap_or_default();
    reply.header(STAT, &BASE64_STANDARD.encode(text))
}
