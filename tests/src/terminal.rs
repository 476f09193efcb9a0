//! A terminal for tests: what a user types and sees.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::OpenptFlags;

/// A command on a terminal of its own.
pub struct Terminal {
    pub child: Child,
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command on a terminal of this size.
    pub fn start(mut command: Command, rows: u16, cols: u16) -> Self {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        resize(&master, rows, cols);
        let stream = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        command
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .process_group(0);
        let child = command.spawn().expect("start berth");
        drop(slave);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, collected) = (File::from(master.try_clone().unwrap()), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                collected.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Terminal {
            child,
            master: master.into(),
            seen,
        }
    }

    /// Types.
    pub fn keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Makes the window another size.
    pub fn resize(&self, rows: u16, cols: u16) {
        resize(&self.master, rows, cols);
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    }

    /// Everything on the screen so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for words.
    #[track_caller]
    pub fn expect(&self, words: &str) {
        crate::eventually(&format!("{words:?} on the screen: {:?}", self.screen()), || {
            self.screen().contains(words)
        });
    }

    /// Waits for the end; the exit code.
    pub fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

fn resize(master: impl std::os::fd::AsFd, rows: u16, cols: u16) {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(master, size).unwrap();
}
