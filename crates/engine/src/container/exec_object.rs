//! Processes to be added that are made first, started later, and can be looked at until a while after their end: what
//! Docker's API has in place of a plain `exec`.
//!
//! Each is a file of the container's live directory. Its maker writes it, from its start on the monitor does.

use bollard_stubs::models::{ExecConfig, ExecInspectResponse, ProcessConfig};
use errdefs::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::exec::{ExecOptions, Execed, Way, new_exec_id};
use super::record::{Record, read_json, write_json};
use crate::link::{self, Request};
use crate::{Engine, Roots};

/// A process that is to be added, or was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecObject {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its container's.
    pub container: String,
    /// What was asked for.
    pub config: ExecConfig,
    /// What it does.
    pub state: ExecState,
}

/// What an added process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecState {
    /// It is to be started.
    Made,
    /// It runs, as this process of the host.
    Running(i32),
    /// It has ended with this code.
    Ended(i32),
}

impl ExecObject {
    /// Whether it may be started, in Docker's words if not.
    pub fn may_start(&self) -> Result<()> {
        let refuse = |how: &str| Err(Error::conflict(format!("exec command {} {how}", self.id)));
        match self.state {
            ExecState::Made => Ok(()),
            ExecState::Running(_) => refuse("is already running"),
            ExecState::Ended(_) => refuse("has already run"),
        }
    }

    fn tty(&self) -> bool {
        self.config.tty.unwrap_or(false)
    }
}

impl Roots {
    /// The [`ExecObject`].
    pub fn exec_object(&self, container: &str, id: &str) -> std::path::PathBuf {
        self.live(container).join(format!("exec-{id}.json"))
    }
}

impl Engine {
    /// Makes one for a running container; its id.
    pub fn exec_create(&self, name: &str, config: &ExecConfig) -> Result<String> {
        let record = self.record(name)?;
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        self.open_for_exec(&record)?;
        let object = ExecObject {
            id: new_exec_id(&record.id)?,
            container: record.id.clone(),
            config: config.clone(),
            state: ExecState::Made,
        };
        write_json(&self.roots.exec_object(&record.id, &object.id), &object)?;
        let command = config.cmd.clone().unwrap_or_default().join(" ");
        self.tell_of(&record, &format!("exec_create: {command}"), &[("execID", &object.id)]);
        Ok(object.id)
    }

    /// Starts it, once. `size`: the terminal's first rows and columns, if they are not those it was made with.
    pub fn exec_start(&self, id: &str, detach: bool, size: Option<(u16, u16)>) -> Result<Execed> {
        let object = self.exec_object(id)?;
        object.may_start()?;
        let record = self.read_record(&object.container)?;
        let config = &object.config;
        let made_with = |index: usize| {
            let side = config.console_size.as_ref().and_then(|s| s.get(index)).copied();
            side.unwrap_or(0).min(u16::MAX.into()) as u16
        };
        let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let options = ExecOptions {
            command: config.cmd.clone().unwrap_or_default(),
            env: config.env.clone().unwrap_or_default(),
            user: filled(&config.user),
            workdir: filled(&config.working_dir),
            privileged: config.privileged.unwrap_or(false),
            tty: object.tty(),
            stdin: config.attach_stdin.unwrap_or(false),
            detach,
            size: size.unwrap_or((made_with(0), made_with(1))),
        };
        let way = Way {
            id: object.id,
            object: true,
        };
        self.add_process(&record, &options, way)
    }

    /// Everything about it, in Docker's form.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspectResponse> {
        let object = self.exec_object(id)?;
        let (tty, config) = (object.tty(), object.config);
        let mut words = config.cmd.unwrap_or_default().into_iter();
        Ok(ExecInspectResponse {
            id: Some(object.id),
            container_id: Some(object.container),
            running: Some(matches!(object.state, ExecState::Running(_))),
            exit_code: match object.state {
                ExecState::Ended(code) => Some(code.into()),
                _ => None,
            },
            pid: match object.state {
                ExecState::Running(pid) => Some(pid.into()),
                _ => Some(0),
            },
            can_remove: Some(matches!(object.state, ExecState::Ended(_))),
            detach_keys: Some(config.detach_keys.unwrap_or_default()),
            open_stdin: Some(config.attach_stdin.unwrap_or(false)),
            open_stdout: Some(config.attach_stdout.unwrap_or(false)),
            open_stderr: Some(config.attach_stderr.unwrap_or(false)),
            process_config: Some(ProcessConfig {
                privileged: Some(config.privileged.unwrap_or(false)),
                user: Some(config.user.unwrap_or_default()),
                tty: Some(tty),
                entrypoint: words.next(),
                arguments: Some(words.collect()),
            }),
        })
    }

    /// Gives its terminal another size. Works for every process that was added with a terminal.
    pub fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let object = self.exec_object(id)?;
        if !matches!(object.state, ExecState::Running(_)) {
            return Err(Error::conflict(format!("Exec command {id} is not running")));
        }
        let request = Request::ResizeExec {
            id: object.id,
            rows,
            cols,
        };
        link::call(&self.roots.socket(&object.container), &request).map(drop)
    }

    /// The processes of that kind that run in a container, or are to.
    pub(super) fn exec_ids(&self, container: &str) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(self.roots.live(container))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            Some(name.strip_prefix("exec-")?.strip_suffix(".json")?.to_owned())
        });
        let live = |id: &String| {
            let object: Option<ExecObject> = read_json(&self.roots.exec_object(container, id)).ok()?;
            object.filter(|o| !matches!(o.state, ExecState::Ended(_)))
        };
        let list: Vec<String> = names.filter(|id| live(id).is_some()).collect();
        (!list.is_empty()).then_some(list)
    }

    /// By its whole id.
    fn exec_object(&self, id: &str) -> Result<ExecObject> {
        let missing = || Error::not_found(format!("No such exec instance: {id}"));
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let row = self.state.find_container(&id[..id.len() / 2]).map_err(|_| missing())?;
        let read = || read_json::<ExecObject>(&self.roots.exec_object(&row.id, id));
        let object = read()?.ok_or_else(missing)?;
        match object.state {
            // Its monitor may have been killed, and it with it.
            ExecState::Running(_) if self.alive(&row.id)?.is_none() => Err(missing()),
            _ => Ok(object),
        }
    }

    /// The record of the container that such a process belongs to.
    pub fn exec_container(&self, id: &str) -> Result<Record> {
        self.read_record(&self.exec_object(id)?.container)
            .map_err(|e| e.kind_is(Kind::NotFound))
    }
}
