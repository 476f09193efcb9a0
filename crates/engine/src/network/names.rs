//! What containers are called on their networks.

use bollard_stubs::models::EndpointSettings;

use crate::container::Record;

/// What a container is called on a network: its name, its aliases there, the beginning of its id, its host name.
pub(crate) fn of(record: &Record, settings: &EndpointSettings) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    let hostname = record.body.hostname.clone().filter(|h| !h.is_empty());
    let aliases = settings.aliases.iter().flatten().cloned();
    for name in aliases.chain([record.id[..12].to_owned()]).chain(hostname) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
