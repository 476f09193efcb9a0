//! Networks.

use engine::Engine;
use engine::models::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use errdefs::{Error, Result};

use crate::call::Call;
use crate::decode;
use crate::reply::Reply;

/// `docker network ls`.
pub fn list(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.networks(&call.filters()?)?))
}

/// `docker network inspect`.
pub fn inspect(engine: &Engine, call: &Call) -> Result<Reply> {
    if let Some(verbose) = call.query.text("verbose")
        && ![
            "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False",
        ]
        .contains(&verbose)
    {
        let words =
            format!("invalid value for verbose: {verbose}: strconv.ParseBool: parsing {verbose:?}: invalid syntax");
        return Err(Error::invalid(words));
    }
    let network = engine.inspect_network(call.name())?;
    match call.query.text("scope") {
        Some(scope) if network.scope.as_deref() != Some(scope) => {
            Err(Error::not_found(format!("network {} not found", call.name())))
        }
        _ => Ok(Reply::json(200, &network)),
    }
}

/// `docker network create`.
pub fn create(engine: &Engine, call: &Call) -> Result<Reply> {
    let request: NetworkCreateRequest = decode::lenient(&call.headers, &call.body, &["Name"])?;
    Ok(Reply::json(201, &engine.create_network(&request)?))
}

/// `docker network connect`.
pub fn connect(engine: &Engine, call: &Call) -> Result<Reply> {
    let request: NetworkConnectRequest = decode::lenient(&call.headers, &call.body, &["Container"])?;
    engine.connect(call.name(), &request)?;
    Ok(Reply::status(200))
}

/// `docker network disconnect`.
pub fn disconnect(engine: &Engine, call: &Call) -> Result<Reply> {
    let request: NetworkDisconnectRequest = decode::lenient(&call.headers, &call.body, &["Container"])?;
    engine.disconnect(call.name(), &request)?;
    Ok(Reply::status(200))
}

/// `docker network rm`.
pub fn delete(engine: &Engine, call: &Call) -> Result<Reply> {
    engine.remove_network(call.name())?;
    Ok(Reply::nothing())
}

/// `docker network prune`.
pub fn prune(engine: &Engine, call: &Call) -> Result<Reply> {
    Ok(Reply::json(200, &engine.prune_networks(&call.filters()?)?))
}
