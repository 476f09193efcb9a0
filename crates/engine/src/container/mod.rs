//! Containers: create, start, attach, exec, stop, remove, list, logs. STUB: see contract.
#![allow(missing_docs)]
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::link::{Attached, Exit};
use crate::{Engine, Result, models};

#[derive(Clone, Debug, Default)]
pub struct ListOptions { pub all: bool, pub latest: bool, pub last: Option<usize>, pub size: bool, pub filters: Vec<(String, String)> }

#[derive(Clone, Debug, Default)]
pub struct LogOptions { pub stdout: bool, pub stderr: bool, pub follow: bool, pub timestamps: bool, /// lines from the end
    pub tail: Option<u64>, /// ns since the epoch
    pub since: Option<i64>, pub until: Option<i64> }

/// One piece of log output: the stream (1, 2), the timestamp (RFC 3339 with nanoseconds), the bytes as written.
pub struct LogEntry { pub stream: u8, pub time: String, pub bytes: Vec<u8> }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition { NotRunning, NextExit, Removed }

/// `exec`: what to run and the caller's ends... the engine makes pipes and hands the other ends to the process.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions { pub command: Vec<String>, pub env: Vec<String>, pub user: Option<String>, pub workdir: Option<String>, pub privileged: bool, pub tty: bool, pub stdin: bool, pub detach: bool, pub size: (u16, u16) /* rows, cols */ }

/// A running exec'd process.
pub struct Execed { pub id: String, pub pid: i32, /// the terminal's master (tty)
    pub console: Option<OwnedFd>, /// write end (no tty, stdin asked for)
    pub stdin: Option<OwnedFd>, pub stdout: Option<OwnedFd>, pub stderr: Option<OwnedFd>, /* + private socket */ }
impl Execed {
    /// Blocks until it ended.
    pub fn wait(&mut self) -> Result<i32> { todo!() }
}

impl Engine {
    /// The path of the program to start monitors with (default /proc/self/exe).
    pub fn set_monitor_program(&mut self, _path: PathBuf) { todo!() }
    pub fn create(&self, _name: Option<&str>, _body: &models::ContainerCreateBody, _platform: Option<&::image::Platform>) -> Result<models::ContainerCreateResponse> { todo!() }
    /// Starts it. With `attach`, connected before the first byte is written; `auto_remove` as in HostConfig.
    pub fn start(&self, _name: &str, _attach: bool) -> Result<Option<Attached>> { todo!() }
    /// `stdin` false: output only. Conflict when it does not run (`You cannot attach to a stopped container, start it first`).
    pub fn attach(&self, _name: &str) -> Result<Attached> { todo!() }
    pub fn stop(&self, _name: &str, _signal: Option<&str>, _timeout: Option<i64>) -> Result<()> { todo!() }
    pub fn kill(&self, _name: &str, _signal: &str) -> Result<()> { todo!() }
    pub fn restart(&self, _name: &str, _signal: Option<&str>, _timeout: Option<i64>) -> Result<()> { todo!() }
    pub fn pause(&self, _name: &str, _paused: bool) -> Result<()> { todo!() }
    pub fn remove(&self, _name: &str, _force: bool, _volumes: bool) -> Result<()> { todo!() }
    pub fn rename(&self, _name: &str, _new: &str) -> Result<()> { todo!() }
    pub fn list(&self, _options: &ListOptions) -> Result<Vec<models::ContainerSummary>> { todo!() }
    pub fn inspect(&self, _name: &str) -> Result<models::ContainerInspectResponse> { todo!() }
    pub fn wait(&self, _name: &str, _condition: WaitCondition) -> Result<Exit> { todo!() }
    /// Calls `sink` per entry, in order; with `follow` until the container ends or `sink` returns false.
    pub fn logs(&self, _name: &str, _options: &LogOptions, _sink: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> { todo!() }
    pub fn exec(&self, _name: &str, _options: &ExecOptions) -> Result<Execed> { todo!() }
    /// (title row, rows) of `ps` with these arguments, of the container's processes as the host sees them.
    pub fn top(&self, _name: &str, _args: &[String]) -> Result<models::ContainerTopResponse> { todo!() }
    /// Every container whose monitor is dead is brought to rest: what the next command after a kill -9 does.
    pub fn reap(&self) -> Result<()> { todo!() }
}
