//! `ps` and `top`.

use engine::container::ListOptions;
use engine::models::ContainerSummary;
use errdefs::Result;
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::{format, output, settings};

const COLUMNS: &[listing::Column] = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

/// Lists containers.
pub fn ps(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let size = given.on("size");
    let options = ListOptions {
        all: given.on("all"),
        latest: given.on("latest"),
        last: given.number("last")?.filter(|n| *n >= 0).map(|n| n as usize),
        size,
        filters: given.filters()?,
    };
    let list = engine.list(&options)?;
    let whole = given.on("no-trunc");
    if given.on("quiet") {
        list.iter().for_each(|c| {
            output::say(&format!(
                "{}\n",
                shortened(c.id.as_deref().unwrap_or_default(), 12, whole)
            ))
        });
        return Ok(0);
    }
    let rows: Vec<Value> = list.iter().map(|c| row(c, whole)).collect();
    let mut columns = COLUMNS.to_vec();
    if size {
        columns.push(("SIZE", "Size"));
    }
    listing::print(given.one("format"), &columns, &rows)?;
    Ok(0)
}

fn shortened(text: &str, length: usize, whole: bool) -> String {
    if whole {
        text.into()
    } else {
        text.chars().take(length).collect()
    }
}

fn row(container: &ContainerSummary, whole: bool) -> Value {
    let command = container.command.clone().unwrap_or_default();
    let command = match whole || command.chars().count() <= 20 {
        true => command,
        false => command.chars().take(19).collect::<String>() + "…",
    };
    let names = container
        .names
        .iter()
        .flatten()
        .map(|n| n.trim_start_matches('/'))
        .collect::<Vec<_>>()
        .join(",");
    let labels = container
        .labels
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>()
        .join(",");
    let mounts = container.mounts.iter().flatten();
    let mounts = mounts
        .map(|m| m.name.clone().or(m.source.clone()).unwrap_or_default())
        .collect::<Vec<_>>()
        .join(",");
    let networks = container.network_settings.as_ref().and_then(|n| n.networks.as_ref());
    let networks = networks
        .map(|n| n.keys().cloned().collect::<Vec<_>>().join(","))
        .unwrap_or_default();
    let size = container.size_rw.map(|own| {
        format!(
            "{} (virtual {})",
            format::human_size(own),
            format::human_size(container.size_root_fs.unwrap_or(own))
        )
    });
    let created = container.created.unwrap_or(0);
    json!({
        "ID": shortened(container.id.as_deref().unwrap_or_default(), 12, whole),
        "Image": container.image,
        "Command": format!("{command:?}"),
        "CreatedAt": jiff::Timestamp::from_second(created).map(|t| t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default(),
        "RunningFor": format::ago(created),
        "Status": container.status,
        "State": container.state.map(|s| s.to_string()),
        "Ports": super::ports::line(container.ports.as_deref().unwrap_or_default()),
        "Names": names,
        "Labels": labels,
        "Mounts": mounts,
        "Networks": networks,
        "LocalVolumes": container.mounts.iter().flatten().filter(|m| m.name.is_some()).count().to_string(),
        "Size": size.unwrap_or_else(|| "0B".into()),
    })
}

/// Shows a container's processes.
pub fn top(given: &Given) -> Result<u8> {
    let top = settings::engine()?.top(&given.words[0], &given.words[1..])?;
    let mut rows = vec![top.titles.unwrap_or_default()];
    rows.extend(top.processes.unwrap_or_default());
    output::say(&output::table(&rows));
    Ok(0)
}
