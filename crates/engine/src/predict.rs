//! Will it run? Facts of layers, kept beside them; verdicts for images, containers, archives and directories; and one line
//! for who pulls an image or makes a container of it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use bollard_stubs::models::ContainerCreateBody;
use compat::{Case, Cause, Depth, Finding, Host, Remedy, Scan, Status, Subject, Sure, Verdict, scan};
use errdefs::{ErrnoStep, Error, Result, Step};
use rusqlite::params;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use snapshot::{Digest, Writable};

use crate::image::Image;
use crate::mend::{self, annotation};
use crate::state::database;
use crate::{Engine, Roots, emulate};

/// The name of a layer's facts, in its directory.
const FACTS: &str = "facts.json";

/// What was foretold for an image: kept with it, so that a `run` costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foretold {
    /// For which kernel.
    kernel: String,
    /// Of the image's own command.
    command: Vec<String>,
    /// Of any command: the whole image is for another machine.
    any: Vec<String>,
    /// Static programs that refuse this kernel's release, and the one that each takes.
    #[serde(default)]
    releases: Vec<(String, String)>,
    /// Libraries refuse this kernel.
    #[serde(default)]
    notes: bool,
    /// Architectures whose programs it starts with and this machine does not execute, but qemu-user does.
    #[serde(default)]
    emulate: Vec<String>,
    /// A systemd that needs a cgroup hierarchy of its own.
    #[serde(default)]
    systemd: Vec<String>,
}

/// Finds the facts of a layer that is being made, so that nobody waits for them later.
pub(crate) fn look_at(layer: &snapshot::Prepared) {
    // Without them the next look takes longer, and that is all.
    if let Ok(found) = scan::directory(&layer.files()) {
        let _ = scan::store(&layer.beside(FACTS), &found);
    }
}

impl Engine {
    /// The facts of a layer: kept from before, or found now.
    fn facts(&self, layer: &Digest) -> Result<Rc<Scan>> {
        let kept = self.layers.beside(layer, FACTS);
        if let Some(known) = scan::load(&kept) {
            return Ok(Rc::new(known));
        }
        let found = scan::directory(&self.layers.files(layer))?;
        // Without it the next look takes longer, and that is all.
        let _ = scan::store(&kept, &found);
        Ok(Rc::new(found))
    }

    fn all_facts(&self, layers: &[Digest]) -> Result<Vec<Rc<Scan>>> {
        layers.iter().map(|layer| self.facts(layer)).collect()
    }

    /// An image, its files looked up.
    pub fn image_case(&self, name: &str, programs: &[String], depth: Depth) -> Result<Case> {
        let image = self.image(name)?;
        let scans = self.all_facts(&image.layers)?;
        let subject = Subject {
            programs: programs.to_vec(),
            ..subject_of(&image, name)
        };
        let root = self.layers.mount(&image.layers, None, None)?.root;
        Ok(Case::new(subject, root, &scans, depth))
    }

    /// A container, with what it has written.
    pub fn container_case(&self, name: &str, programs: &[String], depth: Depth) -> Result<Case> {
        let record = self.record(name)?;
        let layers: Vec<Digest> = record
            .layers
            .iter()
            .map(|l| l.parse().step("read a layer's digest"))
            .collect::<Result<_>>()?;
        let own = Writable::at(&self.roots.container(&record.id), true);
        let mut scans = self.all_facts(&layers)?;
        scans.push(Rc::new(scan::directory(&own.dir.join("upper"))?));
        let body = &record.body;
        let words = [&body.entrypoint, &body.cmd].into_iter().flatten().flatten();
        let subject = Subject {
            name: name.to_owned(),
            id: Some(record.id.clone()),
            command: words.cloned().collect(),
            path: path_of(body.env.iter().flatten()),
            directory: body.working_dir.clone().unwrap_or_default(),
            programs: programs.to_vec(),
        };
        let root = self.layers.mount_to_read(&layers, &own)?.root;
        Ok(Case::new(subject, root, &scans, depth))
    }

    /// All images of an archive, which is unpacked for that alone.
    pub fn archive_cases(&self, path: &Path, programs: &[String], depth: Depth) -> Result<Vec<Case>> {
        let scratch = self.layers.scratch()?;
        let inner = Engine::open(Roots {
            data: scratch.dir().join("data"),
            run: scratch.dir().join("run"),
        })?;
        let shown = path.display().to_string();
        let mut cases = Vec::new();
        for name in inner.load_path(path, &[])? {
            let image = inner.image(&name)?;
            let scans = inner.all_facts(&image.layers)?;
            let named = if name.starts_with("sha256:") {
                shown.clone()
            } else {
                format!("{shown}: {name}")
            };
            let subject = Subject {
                programs: programs.to_vec(),
                ..subject_of(&image, &named)
            };
            // Its files go with the scratch: what is to be read of them is read now.
            let root = inner.layers.mount(&image.layers, None, None)?.root;
            cases.push(Case::new(subject, root, &scans, depth));
        }
        Ok(cases)
    }

    /// Looks at an image that is new, and keeps what is to be said of it.
    pub(crate) fn foretell(&self, id: &str) -> Result<Foretold> {
        let image = self.image_of(id)?;
        let scans = self.all_facts(&image.layers)?;
        let root = self.layers.mount(&image.layers, None, None)?.root;
        let depth = Depth {
            no_calls: true,
            ..Depth::default()
        };
        let case = Case::new(subject_of(&image, id), root, &scans, depth);
        let foretold = Foretold::of(&case.verdict(&Host::probe()));
        let text = serde_json::to_string(&foretold).step("write what was foretold")?;
        let kept = self
            .state
            .db
            .execute("UPDATE image SET foretold = ?2 WHERE id = ?1", params![id, text]);
        kept.map_err(database)?;
        Ok(foretold)
    }

    /// The lines for who has just got an image.
    pub fn foretold(&self, name: &str) -> Result<Vec<String>> {
        let image = self.image(name)?;
        let Some(foretold) = self.foretold_of(&image) else {
            return Ok(Vec::new());
        };
        Ok(match foretold.emulated() {
            true => [foretold.emulation_lines(), foretold.command].concat(),
            false => [foretold.any, foretold.command].concat(),
        })
    }

    /// The lines for who makes a container; `own`: of the image's own command; `emulated`: it was given interpreters.
    pub(crate) fn foretold_for(&self, image: &Image, own: bool, emulated: bool) -> Vec<String> {
        let Some(foretold) = self.foretold_of(image) else {
            return Vec::new();
        };
        let any = if emulated { Vec::new() } else { foretold.any };
        if own { [any, foretold.command].concat() } else { any }
    }

    /// What was foretold, for this kernel. Another kernel has been booted: it is done anew, if the facts are there.
    fn foretold_of(&self, image: &Image) -> Option<Foretold> {
        let kept: Foretold = serde_json::from_str(image.foretold.as_deref()?).ok()?;
        if kept.kernel == kernel() {
            return Some(kept);
        }
        let there = image.layers.iter().all(|l| self.layers.beside(l, FACTS).is_file());
        if there { self.foretell(&image.id).ok() } else { None }
    }
}

/// A directory that is a root.
pub fn directory_case(path: &Path, programs: &[String], depth: Depth) -> Result<Case> {
    let root = open(path)?;
    // Who names programs wants those alone.
    let scans = match programs.is_empty() {
        true => vec![Rc::new(scan::directory(path)?)],
        false => Vec::new(),
    };
    let subject = Subject {
        name: path.display().to_string(),
        programs: programs.to_vec(),
        ..Subject::default()
    };
    Ok(Case::new(subject, root, &scans, depth))
}

/// One program of this machine.
pub fn program_case(path: &Path, depth: Depth) -> Result<Case> {
    let whole = std::path::absolute(path).step_with(|| format!("find {}", path.display()))?;
    let subject = Subject {
        name: path.display().to_string(),
        programs: vec![whole.display().to_string()],
        ..Subject::default()
    };
    Ok(Case::new(subject, open(Path::new("/"))?, &[], depth))
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).errno_step(format!("open {}", path.display()))
}

/// What an image starts with.
fn subject_of(image: &Image, name: &str) -> Subject {
    let config = image.config.config().clone().unwrap_or_default();
    let words = [config.entrypoint(), config.cmd()].into_iter().flatten().flatten();
    Subject {
        name: name.to_owned(),
        id: Some(image.id.clone()),
        command: words.cloned().collect(),
        path: path_of(config.env().iter().flatten()),
        directory: config.working_dir().clone().unwrap_or_default(),
        programs: Vec::new(),
    }
}

fn path_of<'a>(mut env: impl Iterator<Item = &'a String>) -> Option<String> {
    env.find_map(|e| e.strip_prefix("PATH=")).map(String::from)
}

/// By which another kernel is told apart, at no cost.
fn kernel() -> String {
    let uname = rustix::system::uname();
    format!(
        "{} {}",
        uname.release().to_string_lossy(),
        uname.version().to_string_lossy()
    )
}

impl Foretold {
    fn of(verdict: &Verdict) -> Foretold {
        let whole = |f: &&Finding| matches!(f.cause, Cause::Architecture | Cause::CpuLevel | Cause::OldFormat);
        let qemu = |f: &&Finding| matches!(f.remedy, Remedy::QemuUser { .. });
        let entries: Vec<usize> = verdict
            .programs
            .iter()
            .filter(|p| p.entry)
            .flat_map(|p| p.findings.clone())
            .collect();
        let found = entries.iter().filter_map(|i| verdict.findings.get(*i));
        let named = verdict.findings.iter().filter(|f| f.remedy == Remedy::NamedHierarchy);
        let systemd: Vec<String> = named.map(|f| f.file.clone()).collect();
        let mut emulate: Vec<String> = found.clone().filter(qemu).filter_map(|f| f.emulated()).collect();
        emulate.sort();
        emulate.dedup();
        // What is mended is told by who mends it, when it is; qemu-user may come and go.
        let counts = |f: &&Finding| f.status() != Status::Runs && (!f.remedy.automatic() || qemu(f));
        let found: Vec<&Finding> = found.filter(counts).collect();
        let line = |f: &Finding| {
            let how = if f.sure == Sure::OnStart {
                "will not run here"
            } else {
                "may fail here"
            };
            let code = f
                .symptom
                .exit_code
                .map(|c| format!(" (exit code {c})"))
                .unwrap_or_default();
            let file = if f.file.is_empty() {
                "the image's command"
            } else {
                &f.file
            };
            let with = compat::qemu_advice(f.cause, &f.remedy).map(|advice| format!("; to run it: {advice}"));
            let with = with.unwrap_or_default();
            format!(
                "{file} {how}: {}; {}: {}{code}{with}",
                f.asks, f.lacks, f.symptom.message
            )
        };
        let lines = |pick: &dyn Fn(&&Finding) -> bool| -> Vec<String> {
            // The first says it: more of the same is for `berth compat`.
            found.iter().copied().filter(|f| pick(f)).map(line).take(1).collect()
        };
        Foretold {
            kernel: kernel(),
            any: lines(&|f| whole(f)),
            command: lines(&|f| !whole(f)),
            releases: verdict.findings.iter().filter_map(release).collect(),
            notes: verdict.findings.iter().any(|f| f.remedy == Remedy::AbiNoteRemoved),
            emulate,
            systemd,
        }
    }

    /// Whether all that it takes is here now.
    fn emulated(&self) -> bool {
        !self.emulate.is_empty() && self.emulate.iter().all(|a| emulate::possible(a))
    }

    fn emulation_lines(&self) -> Vec<String> {
        let line = |a: &String| {
            let name = emulate::name(a);
            format!("mended for this machine: programs for {a} run in {name} (--compat=off does without)")
        };
        self.emulate.iter().map(line).collect()
    }
}

/// A static program that is to see another release.
fn release(finding: &Finding) -> Option<(String, String)> {
    match &finding.remedy {
        Remedy::KernelRelease { release } => Some((finding.file.clone(), release.clone())),
        _ => None,
    }
}

impl Engine {
    /// The image's files that a container's command comes to.
    fn started(&self, image: &Image, body: &ContainerCreateBody) -> Result<Vec<String>> {
        let words = [&body.entrypoint, &body.cmd].into_iter().flatten().flatten();
        let subject = Subject {
            command: words.cloned().collect(),
            path: path_of(body.env.iter().flatten()),
            directory: body.working_dir.clone().unwrap_or_default(),
            ..Subject::default()
        };
        let root = self.layers.mount(&image.layers, None, None)?.root;
        Ok(compat::started(&subject, root, &self.all_facts(&image.layers)?))
    }

    /// What a container of this image needs on this kernel is asked for in its request, unless that says otherwise: a line
    /// for each thing.
    pub(crate) fn ask_for_needs(&self, image: &Image, body: &mut ContainerCreateBody) -> Result<Vec<String>> {
        let Some(foretold) = self.foretold_of(image) else {
            return Ok(Vec::new());
        };
        let quiet = foretold.releases.is_empty() && foretold.emulate.is_empty() && foretold.systemd.is_empty();
        if quiet && !foretold.notes {
            return Ok(Vec::new());
        }
        let host = body.host_config.get_or_insert_default();
        let asked = mend::asked(host)?;
        if asked.mode == mend::Mode::Off {
            return Ok(Vec::new());
        }
        // Whose files cannot be looked at will be told so when they are mounted.
        let started = self.started(image, body).unwrap_or_default();
        let host = body.host_config.get_or_insert_default();
        // The host's users have the host's binfmt_misc.
        let emulated = !crate::spec::host_users(host) && foretold.emulated();
        let annotations = host.annotations.get_or_insert_default();
        let mut lines = Vec::new();
        if emulated {
            annotations.insert(annotation::EMULATE.into(), foretold.emulate.join(","));
            lines.extend(foretold.emulation_lines());
        }
        if foretold.notes {
            annotations.insert(annotation::LOWER_NOTES.into(), "true".into());
        }
        let named = |path: &String| started.contains(path);
        let own_view = host.cgroupns_mode.is_none_or(|mode| mode.to_string() != "host");
        if own_view && let Some(path) = foretold.systemd.iter().find(|path| named(path)) {
            annotations.insert(annotation::OLD_SYSTEMD.into(), "true".into());
            lines.push(format!(
                "mended for this host: the container has a cgroup hierarchy name=systemd of its own, for {path} (--compat=off does without)"
            ));
        }
        if let Some((path, release)) = foretold.releases.iter().find(|(path, _)| named(path))
            && asked.release.is_none()
        {
            annotations.insert(annotation::RELEASE.into(), release.clone());
            lines.push(format!(
                "mended for this kernel: uname tells release {release}, below which {path} refuses to run (--compat=off tells the truth)"
            ));
        }
        Ok(lines)
    }
}

/// Nothing can be said: no such thing.
pub fn unknown(name: &str) -> Error {
    Error::not_found(format!("No such image, container, directory or archive: {name}"))
}
