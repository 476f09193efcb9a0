//! `tour`: what a container is, shown on this machine, with an image that is this very program.

use std::fmt::Write as _;

use engine::image::ImageConfiguration;
use engine::models::{ContainerCreateBody, HostConfig};
use errdefs::{Error, Result, Step};

use crate::cli::flag::Given;
use crate::output;
use crate::terminal::{self, Ended};

/// What the program is called with inside the container.
pub const INSIDE: &str = "--show-what-is-inside";
const IMAGE: &str = "berth/tour:latest";
/// What the layer has besides the program.
const OS_RELEASE: &str = "PRETTY_NAME=\"Berth's own image: one static program and no distribution\"\nID=berth\n";

/// Makes the image, runs a container of it, and removes both.
pub fn tour(_given: &Given) -> Result<u8> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            Error::new(errdefs::Kind::Forbidden, "the tour makes a container, which needs root")
                .hint("sudo, or run it as root"),
        );
    }
    let scratch = Scratch::new()?;
    let engine = engine::Engine::open(scratch.roots())?;
    engine.add_image(&config()?, vec![Box::new(std::io::Cursor::new(layer()?))], IMAGE)?;
    let body = ContainerCreateBody {
        image: Some(IMAGE.into()),
        hostname: Some("tour".into()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            auto_remove: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    output::say(&host()?);
    let created = engine.create(None, &body, None)?;
    let signals = terminal::signals()?;
    let started = std::time::Instant::now();
    let attached = engine
        .start(&created.id, true)?
        .ok_or_else(|| Error::system("the container was not attached to"))?;
    let elapsed = started.elapsed();
    let record = engine.read_record(&created.id).ok();
    let code = match terminal::attached(attached, false, None, &signals, None)? {
        Ended::Exited(exit) => exit.code as u8,
        _ => 1,
    };
    if let Some(ids) = record.and_then(|r| r.ids) {
        output::say(&format!(
            "\nRoot in there (uid 0) was uid {} out here: nobody. It started in {:.1} ms, and is gone with everything it was.\n",
            ids.first,
            elapsed.as_secs_f64() * 1000.0
        ));
    }
    output::say("Next: berth run --rm -it --network host debian:12 bash\n");
    Ok(code)
}

/// State of the tour's own, gone with it.
struct Scratch {
    dir: std::path::PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::path::Path::new("/var/tmp").join(format!("berth-tour-{}", std::process::id()));
        std::fs::create_dir_all(&dir).step_with(|| format!("make {}", dir.display()))?;
        Ok(Scratch { dir })
    }

    fn roots(&self) -> engine::Roots {
        engine::Roots {
            data: self.dir.join("data"),
            run: self.dir.join("run"),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn config() -> Result<ImageConfiguration> {
    let json = serde_json::json!({
        "architecture": engine::image::Platform::host().architecture, "os": "linux",
        "config": {"Entrypoint": ["/berth", INSIDE]},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    serde_json::from_value(json).step("describe the tour's image")
}

/// A tar with this program in it.
fn layer() -> Result<Vec<u8>> {
    let program = std::fs::read("/proc/self/exe").step("read our own program")?;
    let files: &[(&str, u32, &[u8])] = &[
        ("berth", 0o755, &program),
        ("etc/os-release", 0o644, OS_RELEASE.as_bytes()),
        ("etc/passwd", 0o644, b"root:x:0:0:root:/:/berth\n"),
    ];
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, name, *bytes)
            .step("put the tour's image together")?;
    }
    tar.into_inner().step("put the tour's image together")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn system() -> String {
    read("/etc/os-release")
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .unwrap_or("unknown")
        .trim_matches('"')
        .to_owned()
}

fn processes() -> Vec<String> {
    names("/proc")
        .into_iter()
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        .collect()
}

/// The same facts from outside and from inside, one below the other.
fn facts(out: &mut String) {
    let uname = rustix::system::uname();
    let processes = processes();
    let shown = processes.iter().take(4).cloned().collect::<Vec<_>>().join(" ");
    let map = read("/proc/self/uid_map");
    let map: Vec<&str> = map.split_whitespace().collect();
    let ids = match map.as_slice() {
        [inside, outside, count, ..] => format!("{inside} in here is {outside} on the host, and {count} of them"),
        _ => "unknown".into(),
    };
    let rows = [
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("system", system()),
        ("files in /", names("/").join(" ")),
        (
            "processes",
            format!(
                "{}: {shown}{}",
                processes.len(),
                if processes.len() > 4 { " ..." } else { "" }
            ),
        ),
        ("user ids", ids),
        ("host name", uname.nodename().to_string_lossy().into_owned()),
        ("mounts", read("/proc/self/mountinfo").lines().count().to_string()),
        ("network", names("/sys/class/net").join(" ")),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "  {name:<11} {value}");
    }
}

fn host() -> Result<String> {
    let mut out = String::from(
        "A container is an ordinary process of this kernel that sees other files, processes, users and networks.\n\nThis host:\n",
    );
    facts(&mut out);
    out.push_str("\nThe same questions, asked inside a container whose image is this one program:\n");
    Ok(out)
}

/// What runs inside.
pub fn inside() -> u8 {
    let mut out = String::new();
    facts(&mut out);
    output::say(&out);
    0
}
