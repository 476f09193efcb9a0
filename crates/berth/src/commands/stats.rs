//! `stats`.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::Engine;
use engine::container::{ListOptions, StatsReader};
use engine::models::{ContainerCpuStats, ContainerStatsResponse};
use errdefs::{Kind, Result};
use serde_json::{Value, json};

use super::listing;
use crate::cli::flag::Given;
use crate::{format, output, settings};

const COLUMNS: &[listing::Column] = &[
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows what containers use, again and again unless told otherwise.
pub fn stats(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let mut readers: BTreeMap<usize, StatsReader> = BTreeMap::new();
    let mut known: Vec<String> = Vec::new();
    let stream = !given.on("no-stream");
    loop {
        for id in wanted(&engine, given)? {
            if !known.contains(&id) {
                readers.insert(known.len(), engine.stats(&id)?);
                known.push(id);
            }
        }
        let first = readers.values_mut().try_fold(Vec::new(), look)?;
        if !stream {
            std::thread::sleep(PAUSE);
        }
        let list = match stream {
            true => first,
            false => readers.values_mut().try_fold(Vec::new(), look)?,
        };
        // Those that have ended are shown only on demand.
        let shown = |s: &&ContainerStatsResponse| {
            given.on("all") || !given.words.is_empty() || s.pids_stats.as_ref().and_then(|p| p.current).unwrap_or(0) > 0
        };
        let rows: Vec<Value> = list
            .iter()
            .filter(shown)
            .map(|s| row(s, given.on("no-trunc")))
            .collect();
        if stream && given.one("format").is_none_or(|f| f.starts_with("table")) {
            // Home, and everything below cleared: one screen is drawn over the other.
            output::say("\x1b[2J\x1b[H");
        }
        listing::print(given.one("format"), COLUMNS, &rows)?;
        if !stream {
            return Ok(0);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The containers that were named, or all that run (`--all`: all).
fn wanted(engine: &Engine, given: &Given) -> Result<Vec<String>> {
    if !given.words.is_empty() {
        return given.words.iter().map(|name| Ok(engine.find(name)?.id)).collect();
    }
    let list = engine.list(&ListOptions {
        all: given.on("all"),
        ..Default::default()
    })?;
    Ok(list.into_iter().filter_map(|c| c.id).collect())
}

fn look(mut list: Vec<ContainerStatsResponse>, reader: &mut StatsReader) -> Result<Vec<ContainerStatsResponse>> {
    match reader.look() {
        Ok(stats) => list.extend(stats),
        // It goes at this moment.
        Err(e) if e.kind() == Kind::NotFound => {}
        Err(e) => return Err(e),
    }
    Ok(list)
}

fn row(stats: &ContainerStatsResponse, whole: bool) -> Value {
    let id = stats.id.clone().unwrap_or_default();
    let shown: String = if whole {
        id.clone()
    } else {
        id.chars().take(12).collect()
    };
    let runs = stats.pids_stats.as_ref().and_then(|p| p.current).unwrap_or(0);
    let memory = stats.memory_stats.clone().unwrap_or_default();
    let details = memory.stats.unwrap_or_default();
    let cache = details
        .get("total_inactive_file")
        .or(details.get("inactive_file"))
        .copied();
    let used = memory.usage.unwrap_or(0).saturating_sub(cache.unwrap_or(0)) as f64;
    let limit = memory.limit.unwrap_or(0) as f64;
    let percent = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
    let networks = stats.networks.iter().flatten();
    let (received, sent) = networks.fold((0, 0), |(r, s), (_, n)| {
        (r + n.rx_bytes.unwrap_or(0), s + n.tx_bytes.unwrap_or(0))
    });
    let moved = |operation: &str| -> u64 {
        let list = stats
            .blkio_stats
            .as_ref()
            .and_then(|b| b.io_service_bytes_recursive.as_ref());
        let same = |e: &&engine::models::ContainerBlkioStatEntry| e.op.as_deref() == Some(operation);
        list.into_iter().flatten().filter(same).filter_map(|e| e.value).sum()
    };
    let pair = |a: u64, b: u64| format!("{} / {}", format::human_size(a as i64), format::human_size(b as i64));
    json!({
        "ID": shown, "Container": shown, "Name": stats.name.as_deref().unwrap_or_default().trim_start_matches('/'),
        "CPUPerc": format!("{:.2}%", processor(stats)),
        "MemUsage": format!("{} / {}", format::binary_size(used as i64), format::binary_size(limit as i64)),
        "MemPerc": format!("{percent:.2}%"), "NetIO": pair(received, sent), "BlockIO": pair(moved("read"), moved("write")),
        "PIDs": runs.to_string(),
    })
}

/// Of one processor, in percent: what it used of what all of them passed.
fn processor(stats: &ContainerStatsResponse) -> f64 {
    let used = |cpu: &Option<ContainerCpuStats>| {
        let cpu = cpu.clone().unwrap_or_default();
        let total = cpu.cpu_usage.and_then(|u| u.total_usage).unwrap_or(0);
        (total as f64, cpu.system_cpu_usage.unwrap_or(0) as f64)
    };
    let (now, before) = (used(&stats.cpu_stats), used(&stats.precpu_stats));
    let processors = stats.cpu_stats.as_ref().and_then(|c| c.online_cpus).unwrap_or(1);
    match (now.0 - before.0, now.1 - before.1) {
        (own, all) if before.1 > 0.0 && own > 0.0 && all > 0.0 => own / all * f64::from(processors) * 100.0,
        _ => 0.0,
    }
}
