//! Containers: everything that is one call and one answer.

use engine::Engine;
use engine::container::ListOptions;
use engine::image::{Commit, Platform};
use engine::models::{ContainerUpdateBody, ContainerUpdateResponse};
use errdefs::{Error, Result};

use serde_json::json;

use super::images::name_and_tag;
use crate::call::Call;
use crate::query::integer;
use crate::reply::Reply;
use crate::{decode, shape};

/// `docker ps`.
pub fn list(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut filters = call.filters()?;
    for name in ["before", "since"] {
        filters.extend(call.query.text(name).map(|v| (name.to_owned(), v.to_owned())));
    }
    let options = ListOptions {
        all: call.query.on("all"),
        latest: false,
        last: call
            .query
            .number("limit")?
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0),
        size: call.query.on("size"),
        filters,
    };
    Ok(Reply::json(200, &engine.list(&options)?))
}

/// `docker create`.
pub fn create(engine: &Engine, call: &Call) -> Result<Reply> {
    let mut body = decode::container(&call.headers, &call.body)?;
    shape::container(call.version, &mut body)?;
    let platform = call.query.text("platform").filter(|_| call.since(41));
    let platform = platform.map(Platform::parse).transpose()?;
    let made = engine.create(call.query.text("name"), &body, platform.as_ref())?;
    Ok(Reply::json(201, &made))
}

/// `docker inspect`.
pub fn inspect(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.inspect(call.name())?))
}

/// `docker top`.
pub fn top(engine: &Engine, call: &Call) -> Result<Reply> {
    let arguments = call.query.text("ps_args").unwrap_or_default().split_ascii_whitespace();
    let arguments: Vec<String> = arguments.map(String::from).collect();
    Ok(Reply::json(200, &engine.top(call.name(), &arguments)?))
}

/// `docker start`: with everybody who has attached, or waits, already.
pub fn start(engine: &Engine, call: &Call) -> Result<Reply> {
    if !call.body.is_empty() && call.body.as_ref() != b"{}" {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let id = engine.find(call.name())?.id;
    engine.start_with(&id, &call.server.pending.take(&id))?;
    Ok(Reply::nothing())
}

/// `docker stop`.
pub fn stop(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.stop(call.name(), signal(call), call.query.number("t")?)?;
    Ok(Reply::nothing())
}

fn signal(call: &Call) -> Option<&str> {
    call.query.text("signal").filter(|_| call.since(42))
}

/// `docker restart`.
pub fn restart(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.restart(call.name(), signal(call), call.query.number("t")?)?;
    Ok(Reply::nothing())
}

/// `docker kill`.
pub fn kill(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.kill(call.name(), call.query.text("signal").unwrap_or("KILL"))?;
    Ok(Reply::nothing())
}

/// `docker pause`.
pub fn pause(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.pause(call.name(), true)?;
    Ok(Reply::nothing())
}

/// `docker unpause`.
pub fn unpause(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.pause(call.name(), false)?;
    Ok(Reply::nothing())
}

/// `docker rename`.
pub fn rename(engine: &Engine, call: &Call) -> Result<Reply> {
    let name = call.query.text("name").unwrap_or_default();
    engine.rename(call.name(), name)?;
    Ok(Reply::nothing())
}

/// `docker container prune`.
pub fn prune(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.prune_containers(&call.filters()?)?))
}

/// `docker update`.
pub fn update(engine: &Engine, call: &Call) -> Result<Reply> {
    let body: ContainerUpdateBody = decode::lenient(&call.headers, &call.body, &[])?;
    let warnings = engine.update(call.name(), &body)?;
    let response = ContainerUpdateResponse {
        warnings: Some(warnings),
    };
    Ok(Reply::json(200, &response))
}

/// `docker diff`.
pub fn changes(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.changes(call.name())?))
}

/// `docker commit`.
pub fn commit(engine: &Engine, call: &Call) -> Result<Reply> {
    let text = |name: &str| call.query.text(name).unwrap_or_default().to_owned();
    let changes = call.query.all("changes");
    let how = Commit {
        reference: call
            .query
            .text("repo")
            .map(|repo| name_and_tag(repo, call.query.text("tag"))),
        comment: text("comment"),
        author: text("author"),
        pause: call.query.text("pause").is_none() || call.query.on("pause"),
        changes: changes.iter().flat_map(|c| c.lines()).map(String::from).collect(),
        settings: decode::body(&call.headers, &call.body)?,
    };
    let id = engine.commit(call.query.text("container").unwrap_or_default(), &how)?;
    Ok(Reply::json(201, &json!({"Id": id})))
}

/// The terminal's size.
pub fn resize(engine: &Engine, call: &Call) -> Result<Reply> {
    let (rows, cols) = size(call)?;
    engine.resize(call.name(), rows, cols)?;
    Ok(Reply::status(200))
}

/// `h` and `w`.
pub fn size(call: &Call) -> Result<(u16, u16)> {
    let side = |name: &str, words: &str| {
        let text = call.query.text(name).unwrap_or_default();
        let why = match integer("Atoi", text).map(u16::try_from) {
            Ok(Ok(number)) => return Ok(number),
            Ok(Err(_)) => "value out of range",
            Err(e) if e.to_string().ends_with("range") => "value out of range",
            Err(_) => "invalid syntax",
        };
        Err(Error::invalid(format!("invalid resize {words} {text:?}: {why}")))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

/// `docker rm`.
pub fn delete(engine: &Engine, call: &Call) -> Result<Reply> {
    if call.query.on("link") {
        engine.unlink(call.name())?;
        return Ok(Reply::nothing());
    }
    engine.remove(call.name(), call.query.on("force"), call.query.on("v"))?;
    Ok(Reply::nothing())
}
