//! Showing pulls and pushes: bars on a terminal, plain lines in a pipe.

use std::collections::HashMap;
use std::sync::Mutex;

use engine::Engine;
use engine::image::{Platform, Progress, Pulled};
use errdefs::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{output, settings, terminal};

/// Lines, or bars.
struct Display {
    /// To standard error: standard output is the container's.
    aside: bool,
    bars: Option<MultiProgress>,
    layers: Mutex<HashMap<String, ProgressBar>>,
}

impl Display {
    fn new(aside: bool) -> Self {
        let terminal = if aside {
            rustix::termios::isatty(rustix::stdio::stderr())
        } else {
            terminal::stdout_is()
        };
        let target = || {
            if aside {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::stdout()
            }
        };
        Display {
            aside,
            bars: terminal.then(|| MultiProgress::with_draw_target(target())),
            layers: Mutex::default(),
        }
    }

    fn line(&self, text: &str) {
        match (&self.bars, self.aside) {
            (Some(bars), _) => _ = bars.println(text),
            (None, true) => output::note(text),
            (None, false) => output::say(&format!("{text}\n")),
        }
    }

    fn show(&self, progress: Progress) {
        let (id, status, current, total) = match progress {
            Progress::Message(text) => return self.line(&text),
            Progress::Layer {
                id,
                status,
                current,
                total,
            } => (id, status, current, total),
        };
        let moving = ["Downloading", "Pushing"].contains(&status);
        let Some(bars) = &self.bars else {
            // A pipe gets what changes, not how far it is.
            return if moving && total > 0 && status == "Downloading" {
            } else {
                self.line(&format!("{id}: {status}"))
            };
        };
        let mut layers = self.layers.lock().unwrap_or_else(|e| e.into_inner());
        let bar = layers
            .entry(id.clone())
            .or_insert_with(|| bars.add(ProgressBar::new(0).with_prefix(id)));
        let template = if moving && total > 0 {
            "{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes}"
        } else {
            "{prefix}: {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_length(total);
        bar.set_position(current);
        bar.set_message(status);
        if !moving && status != "Pulling fs layer" && status != "Preparing" {
            bar.abandon();
        }
        bar.tick();
    }
}

/// Pulls, and shows it; `aside` for a pull that is not what was asked for itself.
pub fn pull(engine: &Engine, reference: &str, platform: Option<&Platform>, aside: bool, quiet: bool) -> Result<Pulled> {
    let registry = settings::registry()?;
    let pulled = shown(aside, quiet, |display| {
        let parsed = engine::image::Reference::parse(reference)?;
        if !aside && parsed.tag.as_deref() == Some("latest") && !reference.ends_with(":latest") {
            display.iter().for_each(|d| d.line("Using default tag: latest"));
        }
        engine.pull(reference, platform, &registry, &|p| {
            display.iter().for_each(|d| d.show(p.clone()))
        })
    })?;
    engine.collect_images(settings::bounds()?).map(|_| pulled)
}

/// All tags of a repository.
pub fn pull_all(engine: &Engine, repository: &str, platform: Option<&Platform>, quiet: bool) -> Result<()> {
    let registry = settings::registry()?;
    shown(false, quiet, |display| {
        engine.pull_all(repository, platform, &registry, &|p| {
            display.iter().for_each(|d| d.show(p.clone()))
        })
    })?;
    engine.collect_images(settings::bounds()?).map(drop)
}

/// Pushes, and shows it: one name, or with `all` every tag of a repository.
pub fn push(engine: &Engine, name: &str, platform: Option<&Platform>, all: bool, quiet: bool) -> Result<Vec<Pulled>> {
    let registry = settings::registry()?;
    shown(false, quiet, |display| {
        let show = |p: Progress| display.iter().for_each(|d| d.show(p.clone()));
        match all {
            true => engine.push_all(name, &registry, &show),
            false => Ok(vec![engine.push(name, platform, &registry, &show)?]),
        }
    })
}

/// With something that shows what happens, unless nobody wants to see it.
fn shown<T>(aside: bool, quiet: bool, work: impl FnOnce(Option<&Display>) -> Result<T>) -> Result<T> {
    work((!quiet).then(|| Display::new(aside)).as_ref())
}
