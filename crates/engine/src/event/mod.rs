//! What happened, in Docker's words: `events`.
//!
//! There is no daemon that could tell: every front door and every monitor appends a line to one log below the data
//! directory ([`log`]), and whoever wants to know reads and follows it ([`EventStream`]). Telling never fails a verb:
//! a full disk loses events, not containers.

mod filter;
mod log;
mod stream;

use std::collections::HashMap;

use bollard_stubs::models::{EventActor, EventMessage, EventMessageScopeEnum, EventMessageTypeEnum};
use serde_json::Value;

use crate::container::Record;
use crate::{Engine, Roots};

pub use bollard_stubs::models::EventMessageTypeEnum as Type;
pub use stream::{EventOptions, EventStream};

/// An event of this moment.
pub fn event(kind: Type, action: &str, id: &str, attributes: HashMap<String, String>) -> EventMessage {
    let nano = jiff::Timestamp::now().as_nanosecond() as i64;
    EventMessage {
        typ: Some(kind),
        action: Some(action.into()),
        actor: Some(EventActor {
            id: Some(id.into()),
            attributes: Some(attributes),
        }),
        scope: Some(EventMessageScopeEnum::LOCAL),
        time: Some(nano / 1_000_000_000),
        time_nano: Some(nano),
    }
}

/// Of a container: with its image, its name and its labels.
pub fn of_container(record: &Record, action: &str, more: &[(&str, &str)]) -> EventMessage {
    let mut attributes = record.body.labels.clone().unwrap_or_default();
    let image = record.body.image.clone().unwrap_or_default();
    attributes.extend([("image".into(), image), ("name".into(), record.name.clone())]);
    attributes.extend(pairs(more));
    event(EventMessageTypeEnum::CONTAINER, action, &record.id, attributes)
}

/// A container's volumes are mounted, or let go.
pub fn of_mounts(record: &Record, mounted: bool) -> Vec<EventMessage> {
    let volumes = record.mounts.iter().filter_map(|m| Some((m, m.name.as_deref()?)));
    let tell = |(mount, name): (&bollard_stubs::models::MountPoint, &str)| {
        let driver = mount.driver.as_deref().unwrap_or("local");
        let (writable, empty) = (mount.rw.unwrap_or(true).to_string(), String::new());
        let mut more = vec![("container", record.id.as_str()), ("driver", driver)];
        if mounted {
            more.extend([
                ("destination", mount.destination.as_ref().unwrap_or(&empty).as_str()),
                ("propagation", mount.propagation.as_ref().unwrap_or(&empty)),
                ("read/write", &writable),
            ]);
        }
        let action = if mounted { "mount" } else { "unmount" };
        event(EventMessageTypeEnum::VOLUME, action, name, pairs(&more).collect())
    };
    volumes.map(tell).collect()
}

fn pairs<'a>(list: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (String, String)> + 'a {
    list.iter().map(|(name, value)| ((*name).into(), (*value).into()))
}

/// Writes events down, one line each, in order.
pub fn tell(roots: &Roots, events: &[EventMessage]) {
    if !events.is_empty() {
        // A full disk must not fail what has happened already.
        let _ = log::append(&roots.events(), events);
    }
}

/// The document that clients get: with the fields for containers and images that Docker had before it had actors.
pub fn document(event: &EventMessage) -> Value {
    let mut document = serde_json::to_value(event).unwrap_or_default();
    let actor = event.actor.clone().unwrap_or_default();
    let old = matches!(event.typ, Some(Type::CONTAINER | Type::IMAGE));
    if let Some(fields) = document.as_object_mut().filter(|_| old) {
        fields.insert("status".into(), event.action.clone().into());
        fields.insert("id".into(), actor.id.into());
        if event.typ == Some(Type::CONTAINER) {
            let image = actor.attributes.and_then(|mut a| a.remove("image"));
            fields.insert("from".into(), image.into());
        }
    }
    document
}

impl Engine {
    /// Writes down what has happened to a container.
    pub(crate) fn tell_of(&self, record: &Record, action: &str, more: &[(&str, &str)]) {
        tell(&self.roots, &[of_container(record, action, more)]);
    }

    /// Writes down what has happened to something else: `image pull`, `network connect`...
    pub fn tell_event(&self, kind: Type, action: &str, id: &str, more: &[(&str, &str)]) {
        tell(&self.roots, &[event(kind, action, id, pairs(more).collect())]);
    }
}
