//! `events`.

use engine::event::{self, EventOptions};
use engine::models::EventMessage;
use errdefs::Result;
use serde_json::{Value, json};

use crate::cli::flag::Given;
use crate::template::Template;
use crate::{format, output, settings};

/// Prints what happens, until it is ended or the time is over.
pub fn events(given: &Given) -> Result<u8> {
    let time = |flag: &str| given.one(flag).map(format::parse_time).transpose();
    let options = EventOptions {
        since: time("since")?,
        until: time("until")?,
        filters: given.filters()?,
    };
    let template = match given.one("format") {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text.strip_prefix("table ").unwrap_or(text))?),
    };
    let json = given.one("format") == Some("json");
    let mut failure = None;
    settings::engine()?.events(&options, &mut |event| {
        let line = match &template {
            Some(template) => template.fill(&super::listing::plain(&fields(&event))),
            None if json => Ok(event::document(&event).to_string()),
            None => Ok(output::plain(&sentence(&event)).into_owned()),
        };
        match line {
            Ok(line) => output::write(&(line + "\n")),
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    })?;
    failure.map_or(Ok(0), Err)
}

/// `TIME container start ID (image=..., name=...)`.
fn sentence(event: &EventMessage) -> String {
    let actor = event.actor.clone().unwrap_or_default();
    let mut attributes: Vec<String> = actor
        .attributes
        .unwrap_or_default()
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    attributes.sort();
    let time = jiff::Timestamp::from_nanosecond(event.time_nano.unwrap_or(0).into()).unwrap_or_default();
    let mut line = format!(
        "{time:.9} {} {} {}",
        event.typ.map(|t| t.to_string()).unwrap_or_default(),
        event.action.as_deref().unwrap_or_default(),
        actor.id.unwrap_or_default()
    );
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

/// The names that templates use.
fn fields(event: &EventMessage) -> Value {
    let document = event::document(event);
    let take = |name: &str| document.get(name).cloned().unwrap_or_default();
    json!({
        "Type": take("Type"), "Action": take("Action"), "Actor": take("Actor"), "Scope": take("scope"), "Time": take("time"),
        "TimeNano": take("timeNano"), "Status": take("status"), "ID": take("id"), "From": take("from"),
    })
}
