//! `system df`.

use engine::image::DiskUsage;
use engine::models::ContainerSummaryStateEnum;
use errdefs::{Error, Result};
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::output::say;
use crate::{format, settings};

/// Where the space is.
pub fn df(given: &Given) -> Result<u8> {
    let usage = settings::engine()?.disk_usage()?;
    if !given.on("verbose") {
        let columns = [
            ("TYPE", "Type"),
            ("TOTAL", "TotalCount"),
            ("ACTIVE", "Active"),
            ("SIZE", "Size"),
            ("RECLAIMABLE", "Reclaimable"),
        ];
        listing::print(given.one("format"), &columns, &rows(&usage))?;
        return Ok(0);
    }
    match given.one("format") {
        None => verbose(&usage)?,
        Some("json") => say(&format!("{}\n", details(&usage))),
        Some(_) => return Err(Error::not_yet("system df --verbose with a template")),
    }
    Ok(0)
}

/// One row a kind; together they are everything that the engine has on disk.
fn rows(usage: &DiskUsage) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, size: i64, reclaimable: i64| {
        let percent = if size > 0 { reclaimable * 100 / size } else { 0 };
        let share = if size > 0 {
            format!(" ({percent}%)")
        } else {
            String::new()
        };
        json!({"Type": kind, "TotalCount": total.to_string(), "Active": active.to_string(),
            "Size": format::human_size(size), "Reclaimable": format!("{}{share}", format::human_size(reclaimable))})
    };
    let at_rest = |c: &&engine::models::ContainerSummary| {
        !matches!(
            c.state,
            Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
        )
    };
    let resting: Vec<_> = usage.containers.iter().filter(at_rest).collect();
    let unused = |v: &&engine::models::Volume| v.usage_data.as_ref().is_some_and(|u| u.ref_count == 0);
    let unused: Vec<_> = usage.volumes.iter().filter(unused).collect();
    vec![
        row(
            "Images",
            usage.images.len(),
            usage.images.iter().filter(|i| i.containers > 0).count(),
            usage.layers_size,
            usage.reclaimable,
        ),
        row(
            "Containers",
            usage.containers.len(),
            usage.containers.len() - resting.len(),
            usage.containers_size(),
            resting.iter().filter_map(|c| c.size_rw).sum(),
        ),
        row(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.len() - unused.len(),
            usage.volumes_size(),
            unused
                .iter()
                .filter_map(|v| v.usage_data.as_ref())
                .map(|u| u.size)
                .sum(),
        ),
        row("Build Cache", usage.build_cache.len(), 0, 0, 0),
        row("Other", 0, 0, usage.other, 0),
    ]
}

fn images(usage: &DiskUsage) -> Vec<Value> {
    let row = |image: &engine::models::ImageSummary| {
        let name = image
            .repo_tags
            .first()
            .cloned()
            .unwrap_or_else(|| "<none>:<none>".into());
        let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "<none>"));
        json!({"Repository": repository, "Tag": tag, "ID": short(&image.id), "CreatedSince": format::ago(image.created),
            "Size": format::human_size(image.size), "SharedSize": format::human_size(image.shared_size),
            "UniqueSize": format::human_size(image.size - image.shared_size), "Containers": image.containers.to_string()})
    };
    usage.images.iter().map(row).collect()
}

fn containers(usage: &DiskUsage) -> Vec<Value> {
    let row = |c: &engine::models::ContainerSummary| {
        let names: Vec<_> = c.names.iter().flatten().map(|n| n.trim_start_matches('/')).collect();
        let volumes = c.mounts.iter().flatten().filter(|m| m.name.is_some()).count();
        json!({"ID": short(c.id.as_deref().unwrap_or_default()), "Image": c.image, "Command": format!("{:?}", c.command.as_deref().unwrap_or_default()),
            "LocalVolumes": volumes.to_string(), "Size": format::human_size(c.size_rw.unwrap_or(0)),
            "CreatedSince": format::ago(c.created.unwrap_or(0)), "Status": c.status, "Names": names.join(",")})
    };
    usage.containers.iter().map(row).collect()
}

fn volumes(usage: &DiskUsage) -> Vec<Value> {
    let row = |v: &engine::models::Volume| {
        let data = v.usage_data.clone().unwrap_or_default();
        json!({"Name": v.name, "Links": data.ref_count.to_string(), "Size": format::human_size(data.size)})
    };
    usage.volumes.iter().map(row).collect()
}

fn details(usage: &DiskUsage) -> Value {
    json!({"Images": images(usage), "Containers": containers(usage), "Volumes": volumes(usage), "BuildCache": []})
}

fn verbose(usage: &DiskUsage) -> Result<()> {
    say("Images space usage:\n\n");
    let columns = [
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
        ("SHARED SIZE", "SharedSize"),
        ("UNIQUE SIZE", "UniqueSize"),
        ("CONTAINERS", "Containers"),
    ];
    listing::print(None, &columns, &images(usage))?;
    say("\nContainers space usage:\n\n");
    let columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("LOCAL VOLUMES", "LocalVolumes"),
        ("SIZE", "Size"),
        ("CREATED", "CreatedSince"),
        ("STATUS", "Status"),
        ("NAMES", "Names"),
    ];
    listing::print(None, &columns, &containers(usage))?;
    say("\nLocal Volumes space usage:\n\n");
    let columns = [("VOLUME NAME", "Name"), ("LINKS", "Links"), ("SIZE", "Size")];
    listing::print(None, &columns, &volumes(usage))?;
    let size = format::human_size;
    say(&format!(
        "\nLayers and images' documents, each once: {}\n",
        size(usage.layers_size)
    ));
    say(&format!("Layers that no image has: {}\n", size(usage.loose)));
    say("Build cache usage: 0B\n");
    say(&format!("Database and the rest: {}\n", size(usage.other)));
    say(&format!("Together, as du counts: {}\n", size(usage.total())));
    Ok(())
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}
