//! Between the user's terminal (or pipes) and a container: one thread, one poll.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use engine::container::Execed;
use engine::link::{Attached, Exit, FRAME_LIMIT, FrameKind};
use errdefs::{Error, Result, Step};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::{Keys, Raw, size, stdin_is};

const SIGWINCH: i32 = 28;
/// Those that are passed on: all but what is about ourselves, and those that nobody can catch.
const PROXIED: &[i32] = &[1, 2, 3, 10, 12, 14, 15, 16, 18, 20, 21, 22, 30];
const BUFFER: usize = 32 * 1024;

/// How the pumping ended.
pub enum Ended {
    /// With the container (or the process).
    Exited(Exit),
    /// By the keys for it.
    Detached,
    /// The monitor is gone.
    Lost,
}

/// A descriptor for the signals that are to be passed on. To be made before the container is: one that comes in between
/// waits.
pub fn signals() -> Result<OwnedFd> {
    let mut list = PROXIED.to_vec();
    list.push(SIGWINCH);
    sys::signal::descriptor(&list)
        .map_err(std::io::Error::from)
        .step("watch for signals")
}

fn ready(fds: &mut [PollFd<'_>]) -> Result<()> {
    match rustix::event::poll(fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(std::io::Error::from(e)).step("wait for input"),
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Between us and an attached container. `signal` gets what is to be passed on, if anything is.
pub fn attached(
    mut container: Attached,
    stdin: bool,
    keys: Option<&str>,
    signals: &OwnedFd,
    signal: Option<&dyn Fn(i32)>,
) -> Result<Ended> {
    let mut keys = Keys::parse(keys)?;
    let terminal = container.tty && stdin && stdin_is();
    let raw = if terminal { Raw::enter() } else { None };
    if container.tty {
        send_size(&mut container)?;
    }
    let (mut reading, mut frame, mut buffer) = (stdin, Vec::new(), vec![0; BUFFER]);
    loop {
        let input = {
            let mut fds = vec![
                PollFd::from_borrowed_fd(container.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            if reading {
                fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
            }
            ready(&mut fds)?;
            [0, 1, 2].map(|i| fds.get(i).is_some_and(|fd| !fd.revents().is_empty()))
        };
        if input[0] {
            let kind = container.read_frame(&mut frame)?;
            let to = match kind {
                Some(FrameKind::Stdout) => rustix::stdio::stdout(),
                Some(FrameKind::Stderr) => rustix::stdio::stderr(),
                Some(FrameKind::Exit) => {
                    drop(raw);
                    return serde_json::from_slice(&frame)
                        .map(Ended::Exited)
                        .step("read how the container ended");
                }
                Some(_) => return Err(Error::system("the monitor sent a frame that is none")),
                None => return Ok(Ended::Lost),
            };
            if write_all(to, &frame).is_err() {
                return Err(Error::system("write /dev/stdout: broken pipe")
                    .hint("what reads our output has ended; the container goes on"));
            }
        }
        if input[1] {
            while let Some(number) = sys::signal::next(signals)
                .map_err(std::io::Error::from)
                .step("read a signal")?
            {
                match (number, signal) {
                    (SIGWINCH, _) if container.tty => send_size(&mut container)?,
                    (SIGWINCH, _) | (_, None) => {}
                    (number, Some(signal)) => signal(number),
                }
            }
        }
        if input[2] {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(0) => {
                    reading = false;
                    // A monitor that is gone says so on the other side.
                    let _ = container.write_frame(FrameKind::CloseStdin, &[]);
                }
                Ok(n) => {
                    let sifted = match container.tty {
                        true => keys.sift(&buffer[..n]),
                        false => super::keys::Sifted {
                            input: buffer[..n].to_vec(),
                            detach: false,
                        },
                    };
                    if !sifted.input.is_empty() {
                        let _ = container.write_frame(FrameKind::Stdin, &sifted.input);
                    }
                    if sifted.detach {
                        return Ok(Ended::Detached);
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => reading = false,
            }
        }
    }
}

fn send_size(container: &mut Attached) -> Result<()> {
    let (rows, cols) = size();
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let [a, b] = rows.to_be_bytes();
    let [c, d] = cols.to_be_bytes();
    container.write_frame(FrameKind::Resize, &[a, b, c, d])
}

/// Between us and a process added by exec.
pub fn execed(
    mut process: Execed,
    stdin: bool,
    keys: Option<&str>,
    signals: &OwnedFd,
    signal: &dyn Fn(i32),
) -> Result<Ended> {
    let mut keys = Keys::parse(keys)?;
    let console = process.console.take();
    let raw = if console.is_some() && stdin && stdin_is() {
        Raw::enter()
    } else {
        None
    };
    let outputs = [
        console
            .as_ref()
            .map(|c| c.try_clone())
            .transpose()
            .step("use the terminal")?
            .or(process.stdout.take()),
        process.stderr.take(),
    ];
    let [mut out, mut err] = outputs;
    let mut into = match &console {
        Some(console) => Some(console.try_clone().step("use the terminal")?),
        None => process.stdin.take(),
    };
    let (mut reading, mut buffer) = (stdin, vec![0; BUFFER.min(FRAME_LIMIT)]);
    // When it has ended, what it wrote is still to be read.
    let mut ended = false;
    while !ended || out.is_some() || err.is_some() {
        let input = {
            let mut list: Vec<(usize, BorrowedFd<'_>)> = vec![(1, signals.as_fd())];
            list.extend(out.as_ref().map(|fd| (2, fd.as_fd())));
            list.extend(err.as_ref().map(|fd| (3, fd.as_fd())));
            let end = process.ended();
            if !ended {
                list.push((0, end.as_fd()));
            }
            if reading {
                list.push((4, rustix::stdio::stdin()));
            }
            let mut polled: Vec<PollFd<'_>> = list
                .iter()
                .map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            // A process that left others behind with its output is not waited for longer than what is there now.
            match ended {
                true => {
                    let none = rustix::event::Timespec {
                        tv_sec: 0,
                        tv_nsec: 20_000_000,
                    };
                    let count = rustix::event::poll(&mut polled, Some(&none)).unwrap_or(0);
                    if count == 0 {
                        break;
                    }
                }
                false => ready(&mut polled)?,
            }
            let mut input = [false; 5];
            for ((place, _), fd) in list.iter().zip(&polled) {
                input[*place] = !fd.revents().is_empty();
            }
            input
        };
        for (place, source, to) in [
            (2, &mut out, rustix::stdio::stdout()),
            (3, &mut err, rustix::stdio::stderr()),
        ] {
            if !input[place] {
                continue;
            }
            match source.as_ref().map(|fd| rustix::io::read(fd, &mut buffer[..])) {
                Some(Ok(n)) if n > 0 => {
                    if write_all(to, &buffer[..n]).is_err() {
                        return Err(Error::system("write /dev/stdout: broken pipe"));
                    }
                }
                Some(Err(Errno::INTR | Errno::AGAIN)) => {}
                _ => *source = None,
            }
        }
        if input[1] {
            while let Some(number) = sys::signal::next(signals)
                .map_err(std::io::Error::from)
                .step("read a signal")?
            {
                match (number, &console) {
                    (SIGWINCH, Some(console)) => {
                        let (rows, cols) = size();
                        let size = rustix::termios::Winsize {
                            ws_row: rows,
                            ws_col: cols,
                            ws_xpixel: 0,
                            ws_ypixel: 0,
                        };
                        let _ = rustix::termios::tcsetwinsize(console, size);
                    }
                    (SIGWINCH, None) => {}
                    (number, _) => signal(number),
                }
            }
        }
        if input[4] {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(n) if n > 0 => {
                    let sifted = match console.is_some() {
                        true => keys.sift(&buffer[..n]),
                        false => super::keys::Sifted {
                            input: buffer[..n].to_vec(),
                            detach: false,
                        },
                    };
                    if into
                        .as_ref()
                        .is_some_and(|to| write_all(to.as_fd(), &sifted.input).is_err())
                    {
                        (into, reading) = (None, false);
                    }
                    if sifted.detach {
                        return Ok(Ended::Detached);
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => (into, reading) = (None, false),
            }
        }
        ended |= input[0];
    }
    drop(raw);
    process.wait().map(|code| {
        Ended::Exited(Exit {
            code,
            ..Default::default()
        })
    })
}
