//! Monitors are our children as long as we live; who outlives us is inherited by init.
//!
//! Only monitors are collected here: other children (`ps`, credential helpers) are waited for by whoever started them.

use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{SignalKind, signal};

/// Children that nobody has collected yet are looked at again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// Collects monitors that have ended, for ever.
pub async fn run() {
    let Ok(mut children) = signal(SignalKind::child()) else {
        return;
    };
    loop {
        children.recv().await;
        while collect() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// True when a child is left that somebody else is about to collect.
fn collect() -> bool {
    while let Some(pid) = sys::process::ended_child() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let Some(pid) = Pid::from_raw(pid).filter(|_| name.trim_end() == "berth-monitor") else {
            return true;
        };
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
    false
}
