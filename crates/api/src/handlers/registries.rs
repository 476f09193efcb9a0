//! What is asked of registries themselves.

use engine::Engine;
use engine::image::{Reference, registry};
use errdefs::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use super::transfer::client;
use crate::call::Call;
use crate::decode;
use crate::reply::Reply;

/// How many a search finds unless told otherwise, as dockerd's.
const HITS: i64 = 25;
/// And at most.
const MOST_HITS: i64 = 100;

/// Whose credentials they are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    identitytoken: String,
    serveraddress: String,
}

/// `docker login`: nothing is kept here.
pub fn login(_: &Engine, call: &Call) -> Result<Reply> {
    let login: Login = decode::required(&call.headers, &call.body)?;
    let (user, secret) = match login.identitytoken.is_empty() {
        true => (login.username, login.password),
        false => ("<token>".into(), login.identitytoken),
    };
    let registry = registry::Client::new(call.server.registry.clone())?;
    registry.check_credentials(&host(&login.serveraddress), &user, &secret)?;
    Ok(Reply::json(
        200,
        &json!({"Status": "Login Succeeded", "IdentityToken": ""}),
    ))
}

/// `https://host/v1/` and `host` are the same; Docker's own has two names.
fn host(address: &str) -> String {
    let name = address.split_once("://").map_or(address, |(_, rest)| rest);
    match name.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        name => name.into(),
    }
}

/// `docker search`.
pub fn search(_: &Engine, call: &Call) -> Result<Reply> {
    let term = call
        .query
        .text("term")
        .ok_or_else(|| Error::invalid("a term to search for is needed"))?;
    call.filters()?;
    let limit = call.query.number("limit");
    let limit = limit.map_err(|e| Error::invalid(format!("invalid limit specified: {e}")))?;
    let limit = limit.unwrap_or(HITS);
    if !(0..=MOST_HITS).contains(&limit) {
        return Err(Error::invalid(format!(
            "limit {limit} is outside the range of [1, {MOST_HITS}]"
        )));
    }
    let (registry, term) = match term.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", term),
    };
    let client = registry::Client::new(call.server.registry.clone())?;
    let hits = client.search(registry, term, if limit == 0 { HITS } else { limit } as usize)?;
    let hit = |hit: &registry::Hit| {
        json!({
            "name": hit.name, "description": hit.description, "star_count": hit.star_count,
            "is_official": hit.is_official, "is_automated": hit.is_automated
        })
    };
    Ok(Reply::json(200, &hits.iter().map(hit).collect::<Vec<_>>()))
}

/// `docker manifest inspect` and its like: what a registry has under a name.
pub fn distribution(engine: &Engine, call: &Call) -> Result<Reply> {
    let reference = Reference::parse(call.name())?;
    Ok(Reply::json(
        200,
        &engine.distribution(&reference, &client(call, &reference)?)?,
    ))
}
