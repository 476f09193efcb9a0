//! The end: of a run, and of the container's life until somebody starts it again.
//!
//! Goes on after an error, and writes down all of them. What is visible to others goes first, the news of the end last:
//! whoever hears of it finds everything done.

use compat::why::Cause;
use engine::Engine;
use engine::container::Ended;
use engine::container::record::{now, write_json};
use engine::container::remove::remove_from_sight;
use engine::link::Exit;
use errdefs::{Error, Kind, Result};
use snapshot::Doomed;

use crate::event_loop::Monitor;

impl Monitor {
    /// After the last run.
    pub fn tear_down(&mut self, mut exit: Exit) {
        let started_at = std::mem::take(&mut self.started_at);
        let mut errors = Vec::new();
        keep_error(&mut errors, self.remove_cgroup());
        keep_error(&mut errors, self.unpublish());
        let mut doomed = None;
        let removal = match self.record.auto_remove() {
            true => self.remove_container().map(|files| doomed = files),
            false => {
                if !errors.is_empty() {
                    exit.error.get_or_insert_default().push_str(&errors.join("; "));
                }
                let ended = Ended {
                    exit: exit.clone(),
                    started_at,
                    restart_count: self.restart.count,
                    health: self.last_health.take(),
                };
                write_json(&self.roots.ended(&self.record.id), &ended).and_then(|()| self.discard())
            }
        };
        keep_error(&mut errors, removal);
        self.bury_added();
        for client in &mut self.clients {
            client.finish(&exit);
        }
        if doomed.is_none() && !self.networks.is_empty() {
            self.clients.clear();
            keep_error(&mut errors, self.release_networks());
        }
        if doomed.is_some() {
            // Nobody waits for the rest: a row without a record counts for nothing, and the files are out of sight.
            self.clients.clear();
            drop(doomed);
            keep_error(
                &mut errors,
                Engine::open(self.roots.clone()).and_then(|e| e.forget_at_leisure(&self.record.id)),
            );
        }
    }

    fn has_volumes(&self) -> bool {
        self.record.mounts.iter().any(|mount| mount.name.is_some())
    }

    /// After a start that failed: the container is as it was, but for the reason.
    pub fn tear_down_unstarted(&mut self, error: &Error) {
        self.run = None;
        let code = match error.kind() {
            Kind::CommandNotFound => 127,
            Kind::CommandNotExecutable => 126,
            _ => 128,
        };
        let exit = Exit {
            code,
            error: Some(error.to_string()),
            why: Some(Cause {
                sentence: error.to_string(),
                hint: error.find_hint().map(String::from),
                certain: true,
            }),
            finished_at: now(),
            ..Default::default()
        };
        self.started_at.clear();
        self.tear_down(exit);
    }

    /// Everything live: with it goes the name of the lock that we hold.
    fn discard(&self) -> Result<()> {
        engine::container::lock::discard(&self.roots, &self.record.id)
    }

    /// `--rm`. Only now the database is opened, and only if there are volumes to care for: until its end a monitor has no
    /// need of it.
    fn remove_container(&self) -> Result<Option<Doomed>> {
        if !self.has_volumes() {
            let doomed = remove_from_sight(&self.roots, &self.record.id)?;
            self.tell("destroy", &[]);
            return Ok(Some(doomed));
        }
        let engine = Engine::open(self.roots.clone())?;
        engine.remove_ended(&self.record.id).map(|()| None)
    }
}

fn keep_error(errors: &mut Vec<String>, result: Result<()>) {
    if let Err(error) = result {
        errors.push(error.to_string());
    }
}
