//! Process 1 of `--init`: passes signals on to the command and collects what others leave.

use rustix::process::{Pid, WaitOptions};
use sys::process::Forked;

use errdefs::{ErrnoStep, Result};

const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// Splits into process 1, which never returns from here, and the one that is to execute the command.
pub fn split() -> Result<()> {
    // Before there is a child to send one.
    sys::signal::block_all().errno_step("block signals in the container's init")?;
    match sys::process::clone3(0, None).errno_step("start the command below the container's init")? {
        Forked::Parent { pid, .. } => {
            let _ = rustix::thread::set_name(c"berth-init");
            sys::process::close_everything_and(|| reap(pid))
        }
        Forked::Child => {
            // The command leads the terminal's foreground, as if it were alone.
            let _ = rustix::process::setpgid(None, None);
            if let Ok(own) = rustix::process::getpgid(None) {
                let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), own);
            }
            Ok(())
        }
    }
}

/// Until the command ends; its exit code.
fn reap(command: i32) -> i32 {
    loop {
        match sys::signal::wait() {
            Ok(SIGCHLD) => {
                if let Some(code) = collect(command) {
                    return code;
                }
            }
            // They are about our own access to the terminal.
            Ok(SIGTTIN | SIGTTOU) => {}
            Ok(signal) => {
                let _ = sys::process::kill(command, signal);
            }
            Err(_) => return 255,
        }
    }
}

/// Everybody who has ended; the command's code if it is among them.
fn collect(command: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(pid) == Pid::from_raw(command) {
            let signal = status.terminating_signal().map(|s| 128 + s);
            code = status.exit_status().or(signal);
        }
    }
    code
}
