//! `compat`: will it run on this kernel, or another? And `info --kernel`.

use std::path::Path;

use compat::host::{Asked, Feature, features};
use compat::report::{self, Report, Row};
use compat::{Case, Depth, Host};
use engine::{Engine, predict};
use errdefs::{Error, Kind, Result, Step};

use crate::cli::flag::Given;
use crate::output::{self, say};
use crate::settings;

/// The kernels that a page shows when none is named: this one and Debian's.
const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "7.0"];

/// Judges images, containers, directories, archives and programs.
pub fn compat(given: &Given) -> Result<u8> {
    let format = given.one("format").unwrap_or("table");
    if !["table", "json", "html"].contains(&format) {
        let message = format!("invalid format: '{format}': must be one of \"table\", \"json\" or \"html\"");
        return Err(Error::invalid(message));
    }
    let hosts = hosts(given, format)?;
    let depth = Depth {
        all_calls: given.on("syscalls"),
        no_calls: false,
    };
    let names = names(given)?;
    let mut rows = Vec::new();
    for name in &names {
        match cases(name, &given.many("program"), depth) {
            Ok(cases) => rows.extend(cases.iter().map(|case| judged(case, &hosts, given.on("syscalls")))),
            // One that is not there is an error; in a fleet the others are still told.
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => rows.push(Row {
                name: name.clone(),
                verdicts: Vec::new(),
                calls: Vec::new(),
                error: Some(error.to_string()),
            }),
        }
    }
    let report = Report::new(hosts, rows);
    print(format, &report)?;
    Ok(report.status.code())
}

fn print(format: &str, report: &Report) -> Result<()> {
    match format {
        "json" => say(&(serde_json::to_string_pretty(report).step("write JSON")? + "\n")),
        "html" => say(&report::page(report)),
        _ => {
            let single = (report.hosts.as_slice(), report.subjects.as_slice());
            if let ([host], [row]) = single {
                row.verdicts.iter().for_each(|v| say(&report::screen(v, host)));
                for calls in &row.calls {
                    say(&format!(
                        "\n{} ({} calls): {}\n",
                        calls.program,
                        calls.calls.len(),
                        calls.calls.join(" ")
                    ));
                }
            } else {
                say(&output::table(&report::matrix(report)));
            }
        }
    }
    Ok(())
}

/// What is to be judged: all images, or what was named.
fn names(given: &Given) -> Result<Vec<String>> {
    let usage = |how: &str| {
        let message = format!(
            "'berth compat' {how}\n\nUsage:  berth compat [OPTIONS] IMAGE|CONTAINER|DIRECTORY|ARCHIVE|PROGRAM..."
        );
        Error::flag(message).hint("see 'berth compat --help'")
    };
    match (given.on("all"), given.words.is_empty()) {
        (true, false) => Err(usage("takes --all or names, not both")),
        (false, true) => Err(usage("requires at least 1 argument, or --all")),
        (false, false) => Ok(given.words.clone()),
        (true, true) => {
            let images = settings::engine()?.images(&[], false)?;
            Ok(images
                .into_iter()
                .map(|i| i.repo_tags.first().cloned().unwrap_or(i.id))
                .collect())
        }
    }
}

/// The columns: one for each kernel that was named, or this host.
fn hosts(given: &Given, format: &str) -> Result<Vec<Host>> {
    let text = |name: &str| given.one(name).map(String::from);
    let asked = Asked {
        kernel: None,
        vsyscall: text("vsyscall"),
        cpu: text("cpu"),
        page_size: text("page-size"),
        cgroup: text("cgroup"),
        engine_seccomp: text("engine-seccomp"),
        ia32: text("ia32"),
        architecture: text("arch"),
    };
    let here = Host::probe();
    let mut kernels: Vec<Option<String>> = given.many("kernel").into_iter().map(Some).collect();
    if kernels.is_empty() {
        kernels.push(None);
        if format == "html" {
            kernels.extend(KERNELS.iter().map(|k| Some((*k).to_owned())));
        }
    }
    kernels
        .into_iter()
        .map(|kernel| {
            Asked {
                kernel,
                ..asked.clone()
            }
            .host(here.clone())
        })
        .collect()
}

/// What a word stands for: a path if it looks like one, else an image, a container, or a path after all.
fn cases(name: &str, programs: &[String], depth: Depth) -> Result<Vec<Case>> {
    let path = Path::new(name);
    if name.starts_with(['/', '.']) {
        return on_disk(path, programs, depth);
    }
    let engine = settings::engine();
    let absent = |e: &Error| matches!(e.kind(), Kind::NotFound | Kind::Invalid);
    match engine.and_then(|engine| in_engine(&engine, name, programs, depth)) {
        Err(error) if absent(&error) && path.exists() => on_disk(path, programs, depth),
        Err(error) if absent(&error) => Err(predict::unknown(name)),
        other => other.map(|case| vec![case]),
    }
}

fn in_engine(engine: &Engine, name: &str, programs: &[String], depth: Depth) -> Result<Case> {
    match engine.image_case(name, programs, depth) {
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Invalid) && engine.image(name).is_err() => {
            engine.container_case(name, programs, depth)
        }
        other => other,
    }
}

fn on_disk(path: &Path, programs: &[String], depth: Depth) -> Result<Vec<Case>> {
    let meta = std::fs::metadata(path).step_with(|| format!("look at {}", path.display()))?;
    let layout = path.join("oci-layout").is_file();
    if meta.is_dir() && !layout {
        return predict::directory_case(path, programs, depth).map(|case| vec![case]);
    }
    if !layout {
        let mut head = [0u8; 4];
        let file = std::fs::File::open(path).step_with(|| format!("open {}", path.display()))?;
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut head, 0)
            .step_with(|| format!("read {}", path.display()))?;
        if compat::elf::is_elf(&head[..read]) || head.starts_with(b"#!") {
            return predict::program_case(path, depth).map(|case| vec![case]);
        }
    }
    settings::engine()?.archive_cases(path, programs, depth)
}

fn judged(case: &Case, hosts: &[Host], calls: bool) -> Row {
    let verdicts: Vec<_> = hosts.iter().map(|host| case.verdict(host)).collect();
    Row {
        name: verdicts.first().map(|v| v.name.clone()).unwrap_or_default(),
        verdicts,
        calls: if calls { case.calls() } else { Vec::new() },
        error: None,
    }
}

/// `info --kernel`: what this kernel gives.
pub fn kernel(given: &Given) -> Result<u8> {
    let list = features::features(&Host::probe());
    match given.one("format") {
        None => say(&kernel_text(&list)),
        format => {
            let document = serde_json::to_value(&list).step("write JSON")?;
            super::listing::print_documents(format, &[document])?;
        }
    }
    Ok(0)
}

fn kernel_text(list: &[Feature]) -> String {
    let mut text = String::new();
    let mut group = "";
    let width = list.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
    for feature in list {
        if feature.group != group {
            group = feature.group;
            text.push_str(&format!("{group}\n"));
        }
        text.push_str(&format!("  {:<width$}  {}\n", feature.name, feature.value));
    }
    text
}
