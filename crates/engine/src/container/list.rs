//! `ps`.

use std::collections::HashMap;

use bollard_stubs::models::{
    ContainerSummary, ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, ContainerSummaryStateEnum,
    HealthStatusEnum,
};
use errdefs::Result;

use super::record::{LiveStatus, Record, read_json};
use super::status::Status;
use crate::filters::{self, Kind};
use crate::state::ContainerRow;
use crate::{Engine, human};

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Those that do not run, too.
    pub all: bool,
    /// The newest only, whatever it does.
    pub latest: bool,
    /// The `n` newest, whatever they do.
    pub last: Option<usize>,
    /// With sizes, which takes long.
    pub size: bool,
    /// `name=value`, all of which must match (several of one name: any).
    pub filters: Vec<(String, String)>,
}

/// A container, its state and its record.
struct Found {
    row: ContainerRow,
    record: Record,
    status: Status,
    /// Names and ids.
    networks: Vec<String>,
    /// Its record, or what is live of it, cannot be read: it can only be removed.
    dead: bool,
}

impl Found {
    fn state(&self) -> ContainerSummaryStateEnum {
        match self.dead {
            true => ContainerSummaryStateEnum::DEAD,
            false => state(&self.status),
        }
    }
}

const FILTERS: &[(&str, Kind)] = &[
    ("ancestor", Kind::Text),
    ("before", Kind::Text),
    ("exited", Kind::Number),
    ("expose", Kind::Port),
    (
        "health",
        Kind::Word("health", &["none", "starting", "healthy", "unhealthy"]),
    ),
    ("id", Kind::Text),
    ("is-task", Kind::Flag),
    // Of Windows alone: everything matches.
    ("isolation", Kind::Text),
    ("label", Kind::Text),
    ("name", Kind::Text),
    ("network", Kind::Text),
    ("publish", Kind::Port),
    ("since", Kind::Text),
    ("status", Kind::Word("state", STATES)),
    ("volume", Kind::Text),
];

/// The states that can be asked for.
const STATES: &[&str] = &[
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

impl Engine {
    /// The containers, newest first.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        filters::check(&options.filters, FILTERS)?;
        let rows = self.state.containers()?;
        self.reap_half_made(&rows)?;
        self.layers.sweep()?;
        let limit = if options.latest { Some(1) } else { options.last };
        let by_state = options.filters.iter().any(|(n, _)| n == "status" || n == "exited");
        let everything = options.all || limit.is_some() || by_state;
        let filter = Filter::new(self, &rows, &options.filters)?;
        let (mut list, mut shown) = (Vec::new(), HashMap::new());
        for row in rows {
            let Some(found) = self.look(row, everything)? else {
                continue;
            };
            if filter.matches(&found) {
                list.push(self.summary(found, options.size, &mut shown)?);
            }
            if limit.is_some_and(|limit| list.len() == limit) {
                break;
            }
        }
        Ok(list)
    }

    /// `None` for a container that goes at this moment, or does not run and is not asked for.
    fn look(&self, row: ContainerRow, everything: bool) -> Result<Option<Found>> {
        let status = self.settled(&row.id);
        let idle = |status: &Status| status.running().is_none() && !matches!(status, Status::Alive(_));
        if !everything && status.as_ref().map_or(true, idle) {
            return Ok(None);
        }
        match (read_json(&self.roots.record(&row.id)), status) {
            (Ok(Some(record)), Ok(status)) => Ok(Some(Found {
                networks: self.network_names(&record)?,
                row,
                record,
                status,
                dead: false,
            })),
            (Ok(None), _) => {
                self.erase_abandoned(&row.id)?;
                Ok(None)
            }
            // One that is damaged does not keep the others from being seen.
            (record, status) => Ok(Some(Found {
                record: record.unwrap_or(None).unwrap_or_else(|| Record::lost(&row)),
                status: status.unwrap_or(Status::Created),
                row,
                networks: Vec::new(),
                dead: true,
            })),
        }
    }

    fn summary(&self, found: Found, size: bool, shown: &mut HashMap<String, String>) -> Result<ContainerSummary> {
        let shown_state = found.state();
        let Found {
            row,
            record,
            status,
            dead,
            ..
        } = found;
        let size_rw = if size { Some(self.written(&row.id)) } else { None };
        let size_root_fs = match size_rw {
            Some(own) => Some(own + self.image(&record.image).map_or(0, |i| i.size as i64)),
            None => None,
        };
        Ok(ContainerSummary {
            names: Some(vec![format!("/{}", row.name)]),
            image: Some(self.shown_image(&record, shown)),
            image_id: Some(record.image.clone()),
            command: Some(command(&record.args())),
            created: Some(row.created / 1_000_000_000),
            ports: Some(crate::network::show::port_summaries(&record, status.running())),
            size_rw,
            size_root_fs,
            labels: Some(record.body.labels.clone().unwrap_or_default()),
            state: Some(shown_state),
            status: Some(if dead { "Dead".into() } else { sentence(&status) }),
            host_config: Some(ContainerSummaryHostConfig {
                network_mode: Some(record.network().into()),
                ..Default::default()
            }),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: crate::network::show::settings(self, &record, &status)?.networks,
            }),
            mounts: Some(record.mounts.clone()),
            id: Some(row.id),
            ..Default::default()
        })
    }

    /// The image's name as it was given, or its id when that name is another image's by now. `shown` remembers which image
    /// a name stands for.
    fn shown_image(&self, record: &Record, shown: &mut HashMap<String, String>) -> String {
        let given = record.body.image.clone().unwrap_or_default();
        let look = || self.image_id(&given).unwrap_or_default();
        let id = shown.entry(given.clone()).or_insert_with(look);
        match *id == record.image {
            true => given,
            false => record
                .image
                .trim_start_matches("sha256:")
                .get(..12)
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// Bytes in a container's own directory.
    pub(crate) fn written(&self, id: &str) -> i64 {
        let mut total = 0;
        let mut todo = vec![self.roots.container(id).join("upper")];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(m) if m.is_dir() => todo.push(entry.path()),
                    Ok(m) if m.is_file() => total += m.len() as i64,
                    _ => {}
                }
            }
        }
        total
    }
}

/// One line: words with blanks in quotes.
fn command(words: &[String]) -> String {
    let quoted = |(index, word): (usize, &String)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    words.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Docker's word for a state.
pub(crate) fn state(status: &Status) -> ContainerSummaryStateEnum {
    match status {
        Status::Alive(live) | Status::Orphaned(live) => match live.status {
            LiveStatus::Running => ContainerSummaryStateEnum::RUNNING,
            LiveStatus::Paused => ContainerSummaryStateEnum::PAUSED,
            LiveStatus::Restarting => ContainerSummaryStateEnum::RESTARTING,
        },
        Status::Exited(ended) if !ended.started_at.is_empty() => ContainerSummaryStateEnum::EXITED,
        Status::Created | Status::Changing | Status::Exited(_) => ContainerSummaryStateEnum::CREATED,
    }
}

/// Whether one of the ports (`80/tcp`) is of a range (`80`, `80-90/udp`).
fn ports<'a>(mut list: impl Iterator<Item = &'a String>, wanted: &str) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        return false;
    };
    list.any(|port| {
        let (number, of) = port.split_once('/').unwrap_or((port, "tcp"));
        of == protocol && number.parse::<u16>().is_ok_and(|n| (first..=last).contains(&n))
    })
}

/// Docker's word for what a health check says.
fn health(status: &Status) -> String {
    match status {
        Status::Alive(live) | Status::Orphaned(live) => live.health.map_or("none".into(), |h| h.to_string()),
        Status::Exited(ended) if ended.health.is_some() => "unhealthy".into(),
        _ => "none".into(),
    }
}

/// Docker's sentence for a state.
fn sentence(status: &Status) -> String {
    let since = |time: &str| human::duration(human::seconds_since(time));
    match status {
        Status::Alive(live) | Status::Orphaned(live) => match live.status {
            LiveStatus::Running => match live.health {
                None => format!("Up {}", since(&live.started_at)),
                Some(HealthStatusEnum::STARTING) => format!("Up {} (health: starting)", since(&live.started_at)),
                Some(health) => format!("Up {} ({health})", since(&live.started_at)),
            },
            LiveStatus::Paused => format!("Up {} (Paused)", since(&live.started_at)),
            LiveStatus::Restarting => {
                let last = live.last.clone().unwrap_or_default();
                format!("Restarting ({}) {} ago", last.code, since(&last.finished_at))
            }
        },
        Status::Exited(ended) if !ended.started_at.is_empty() => {
            format!("Exited ({}) {} ago", ended.exit.code, since(&ended.exit.finished_at))
        }
        Status::Created | Status::Changing | Status::Exited(_) => "Created".into(),
    }
}

/// The filters, references to other containers and images resolved.
struct Filter {
    by_name: HashMap<String, Vec<String>>,
    before: Option<i64>,
    since: Option<i64>,
    images: Option<Vec<String>>,
    layers: Vec<Vec<String>>,
}

impl Filter {
    fn new(engine: &Engine, rows: &[ContainerRow], filters: &[(String, String)]) -> Result<Self> {
        let mut by_name: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in filters {
            by_name.entry(name.clone()).or_default().push(value.clone());
        }
        let created = |name: &str| -> Result<Option<i64>> {
            let Some(wanted) = by_name.get(name).and_then(|v| v.first()) else {
                return Ok(None);
            };
            let id = engine.find(wanted)?.id;
            Ok(rows.iter().find(|r| r.id == id).map(|r| r.created))
        };
        let (before, since) = (created("before")?, created("since")?);
        let ancestors: Option<Vec<_>> = by_name
            .get("ancestor")
            .map(|names| names.iter().filter_map(|n| engine.image(n).ok()).collect());
        let images = ancestors
            .as_ref()
            .map(|list| list.iter().map(|i| i.id.clone()).collect());
        let layers = ancestors
            .iter()
            .flatten()
            .map(|i| i.layers.iter().map(|l| l.to_string()).collect())
            .collect();
        Ok(Filter {
            by_name,
            before,
            since,
            images,
            layers,
        })
    }

    fn matches(&self, found: &Found) -> bool {
        let (row, record) = (&found.row, &found.record);
        let any = |name: &str, test: &dyn Fn(&str) -> bool| {
            self.by_name
                .get(name)
                .is_none_or(|values| values.iter().any(|v| test(v)))
        };
        let all = |name: &str, test: &dyn Fn(&str) -> bool| {
            self.by_name
                .get(name)
                .is_none_or(|values| values.iter().all(|v| test(v)))
        };
        let label = |wanted: &str| {
            let labels = record.body.labels.as_ref();
            match wanted.split_once('=') {
                Some((key, value)) => labels.and_then(|l| l.get(key)).is_some_and(|v| v == value),
                None => labels.is_some_and(|l| l.contains_key(wanted)),
            }
        };
        let code = match &found.status {
            Status::Exited(ended) if !ended.started_at.is_empty() => Some(ended.exit.code.to_string()),
            _ => None,
        };
        let volume = |wanted: &str| {
            record
                .mounts
                .iter()
                .any(|m| m.name.as_deref() == Some(wanted) || m.destination.as_deref() == Some(wanted))
        };
        any("id", &|v| row.id.starts_with(v))
            && any("name", &|v| name_matches(&row.name, v))
            && all("label", &label)
            && any("exited", &|v| code.as_deref() == Some(v))
            && any("status", &|v| found.state().to_string() == v)
            && any("expose", &|v| ports(record.body.exposed_ports.iter().flatten(), v))
            && any("publish", &|v| {
                let published = record.host().port_bindings.iter().flatten();
                ports(published.map(|(port, _)| port), v)
            })
            // There is no swarm, and no Hyper-V.
            && any("is-task", &|v| matches!(v, "false" | "0"))
            && any("health", &|v| health(&found.status) == v)
            && any("network", &|v| found.networks.iter().any(|n| n == v))
            && any("volume", &volume)
            && self.before.is_none_or(|t| row.created < t)
            && self.since.is_none_or(|t| row.created > t)
            && self
                .images
                .as_ref()
                .is_none_or(|images| images.contains(&record.image) || self.descends(record))
    }

    /// Whether the container's layers start with those of an ancestor.
    fn descends(&self, record: &Record) -> bool {
        self.layers
            .iter()
            .any(|ancestor| !ancestor.is_empty() && record.layers.starts_with(ancestor))
    }
}

/// A part of the name, with `^` and `$` for its ends.
fn name_matches(name: &str, pattern: &str) -> bool {
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    let (start, rest) = pattern
        .strip_prefix('^')
        .map_or((false, pattern), |r| (true, r.trim_start_matches('/')));
    let (end, rest) = rest.strip_suffix('$').map_or((false, rest), |r| (true, r));
    match (start, end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_part_unless_anchored() {
        for (pattern, matches) in [
            ("eb", true),
            ("^web", true),
            ("^eb", false),
            ("b1$", true),
            ("^web$", false),
            ("/web", true),
        ] {
            assert_eq!(name_matches("web1", pattern), matches, "{pattern}");
        }
    }
}
