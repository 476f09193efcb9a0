//! Between the user's terminal (or pipes) and a container: one thread, one poll.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

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
/// How long is waited for the output of a process that has ended.
const LAST_WORDS: Duration = Duration::from_millis(20);

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

/// What comes from the user: keys and signals.
struct User<'a> {
    signals: &'a OwnedFd,
    keys: Keys,
    /// Keys go to a terminal: some of them detach from it.
    tty: bool,
    /// Standard input is read, so far.
    reading: bool,
    buffer: Vec<u8>,
}

/// What standard input gave.
#[derive(Default)]
struct Typed {
    bytes: Vec<u8>,
    detach: bool,
    end: bool,
}

impl<'a> User<'a> {
    fn new(stdin: bool, tty: bool, keys: Option<&str>, signals: &'a OwnedFd) -> Result<Self> {
        Ok(User {
            signals,
            keys: Keys::parse(keys)?,
            tty,
            reading: stdin,
            buffer: vec![0; BUFFER.min(FRAME_LIMIT)],
        })
    }

    /// What is to be polled, with its place in the answer.
    fn sources(&self) -> impl Iterator<Item = (Place, BorrowedFd<'_>)> {
        let stdin = self.reading.then(|| (Place::Input, rustix::stdio::stdin()));
        [(Place::Signals, self.signals.as_fd())].into_iter().chain(stdin)
    }

    fn read(&mut self) -> Typed {
        match rustix::io::read(rustix::stdio::stdin(), &mut self.buffer[..]) {
            Err(Errno::INTR | Errno::AGAIN) => Typed::default(),
            Ok(n) if n > 0 => {
                let (bytes, detach) = match self.tty {
                    true => {
                        let sifted = self.keys.sift(&self.buffer[..n]);
                        (sifted.input, sifted.detach)
                    }
                    false => (self.buffer[..n].to_vec(), false),
                };
                Typed {
                    bytes,
                    detach,
                    end: false,
                }
            }
            Ok(_) | Err(_) => {
                self.reading = false;
                Typed {
                    end: true,
                    ..Default::default()
                }
            }
        }
    }

    /// Passes signals on; a changed window is told in another way.
    fn pass_signals(&self, mut resize: impl FnMut() -> Result<()>, signal: impl Fn(i32)) -> Result<()> {
        while let Some(number) = sys::signal::next(self.signals)
            .map_err(std::io::Error::from)
            .step("read a signal")?
        {
            match number {
                SIGWINCH if self.tty => resize()?,
                SIGWINCH => {}
                number => signal(number),
            }
        }
        Ok(())
    }
}

/// Who has something to say.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Signals,
    Input,
    Output,
    Error,
    /// A container's socket, or the end of a process.
    Other,
}

/// Waits (`limit`: so long at most) until some of them have something to say.
fn wait_for<'a>(
    sources: impl IntoIterator<Item = (Place, BorrowedFd<'a>)>,
    limit: Option<Duration>,
) -> Result<Vec<Place>> {
    let (places, fds): (Vec<Place>, Vec<BorrowedFd<'a>>) = sources.into_iter().unzip();
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let limit = limit.and_then(|l| rustix::event::Timespec::try_from(l).ok());
    match rustix::event::poll(&mut polled, limit.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Vec::new()),
        Err(e) => return Err(std::io::Error::from(e)).step("wait for input"),
    }
    let spoke = places
        .into_iter()
        .zip(&polled)
        .filter(|(_, fd)| !fd.revents().is_empty());
    Ok(spoke.map(|(place, _)| place).collect())
}

/// Between us and an attached container. `signal` gets what is to be passed on, if anything is.
pub fn attached(
    container: Attached,
    stdin: bool,
    keys: Option<&str>,
    signals: &OwnedFd,
    signal: Option<&dyn Fn(i32)>,
) -> Result<Ended> {
    attached_to(container, (stdin, true, true), keys, signals, signal)
}

/// The same, with some of its streams: input, output, error.
pub fn attached_to(
    mut container: Attached,
    (stdin, stdout, stderr): (bool, bool, bool),
    keys: Option<&str>,
    signals: &OwnedFd,
    signal: Option<&dyn Fn(i32)>,
) -> Result<Ended> {
    let mut user = User::new(stdin, container.tty, keys, signals)?;
    // Left on every way out.
    let _raw = if container.tty && stdin && stdin_is() {
        Raw::enter()
    } else {
        None
    };
    if container.tty {
        send_size(&mut container)?;
    }
    let mut frame = Vec::new();
    loop {
        let socket = [(Place::Other, container.socket.as_fd())];
        let spoke = wait_for(user.sources().chain(socket), None)?;
        if spoke.contains(&Place::Other)
            && let Some(ended) = show_frame(&mut container, &mut frame, stdout, stderr)?
        {
            return Ok(ended);
        }
        if spoke.contains(&Place::Signals) {
            let pass = |number| {
                if let Some(signal) = signal {
                    signal(number);
                }
            };
            user.pass_signals(|| send_size(&mut container), pass)?;
        }
        if spoke.contains(&Place::Input) {
            let typed = user.read();
            // A monitor that is gone says so on the other side.
            if !typed.bytes.is_empty() {
                let _ = container.write_frame(FrameKind::Stdin, &typed.bytes);
            }
            if typed.end {
                let _ = container.write_frame(FrameKind::CloseStdin, &[]);
            }
            if typed.detach {
                return Ok(Ended::Detached);
            }
        }
    }
}

/// Prints what the container wrote; how it ended, once it has.
fn show_frame(container: &mut Attached, frame: &mut Vec<u8>, stdout: bool, stderr: bool) -> Result<Option<Ended>> {
    let to = match container.read_frame(frame)? {
        Some(FrameKind::Stdout) if !stdout => return Ok(None),
        Some(FrameKind::Stderr) if !stderr => return Ok(None),
        Some(FrameKind::Stdout) => rustix::stdio::stdout(),
        Some(FrameKind::Stderr) => rustix::stdio::stderr(),
        Some(FrameKind::Exit) => {
            let exit = serde_json::from_slice(frame).step("read how the container ended")?;
            return Ok(Some(Ended::Exited(exit)));
        }
        Some(_) => return Err(Error::system("the monitor sent a frame that is none")),
        None => return Ok(Some(Ended::Lost)),
    };
    match write_all(to, frame) {
        Ok(()) => Ok(None),
        Err(_) => Err(Error::system("write /dev/stdout: broken pipe")
            .hint("what reads our output has ended; the container goes on")),
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
    let console = process.console.take();
    let mut user = User::new(stdin, console.is_some(), keys, signals)?;
    let _raw = if console.is_some() && stdin && stdin_is() {
        Raw::enter()
    } else {
        None
    };
    let copy = || {
        console
            .as_ref()
            .map(|c| c.try_clone().step("use the terminal"))
            .transpose()
    };
    let (mut out, mut err) = (copy()?.or(process.stdout.take()), process.stderr.take());
    let mut into = copy()?.or(process.stdin.take());
    let mut buffer = vec![0; BUFFER];
    // When it has ended, what it wrote is still to be read.
    let mut ended = false;
    while !ended || out.is_some() || err.is_some() {
        let end = process.ended();
        let outputs = [(Place::Output, &out), (Place::Error, &err)];
        let outputs = outputs
            .into_iter()
            .filter_map(|(place, fd)| Some((place, fd.as_ref()?.as_fd())));
        let end = (!ended).then(|| (Place::Other, end.as_fd()));
        // A process that left others behind with its output is not waited for longer than what is there now.
        let limit = ended.then_some(LAST_WORDS);
        let spoke = wait_for(user.sources().chain(outputs).chain(end), limit)?;
        if ended && spoke.is_empty() {
            break;
        }
        if spoke.contains(&Place::Output) {
            hand_out(&mut out, rustix::stdio::stdout(), &mut buffer)?;
        }
        if spoke.contains(&Place::Error) {
            hand_out(&mut err, rustix::stdio::stderr(), &mut buffer)?;
        }
        if spoke.contains(&Place::Signals) {
            let resize = || {
                console.as_ref().inspect(|c| set_size(c));
                Ok(())
            };
            user.pass_signals(resize, signal)?;
        }
        if spoke.contains(&Place::Input) {
            let typed = user.read();
            let refused = |to: &OwnedFd| write_all(to.as_fd(), &typed.bytes).is_err();
            if typed.end || into.as_ref().is_some_and(refused) {
                (into, user.reading) = (None, false);
            }
            if typed.detach {
                return Ok(Ended::Detached);
            }
        }
        ended |= spoke.contains(&Place::Other);
    }
    process.wait().map(|code| {
        Ended::Exited(Exit {
            code,
            ..Default::default()
        })
    })
}

/// From a process to us; nothing more comes when it is closed.
fn hand_out(from: &mut Option<OwnedFd>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<()> {
    match from.as_ref().map(|fd| rustix::io::read(fd, &mut *buffer)) {
        Some(Ok(n)) if n > 0 => {
            write_all(to, &buffer[..n]).map_err(|_| Error::system("write /dev/stdout: broken pipe"))
        }
        Some(Err(Errno::INTR | Errno::AGAIN)) => Ok(()),
        _ => {
            *from = None;
            Ok(())
        }
    }
}

fn set_size(console: &OwnedFd) {
    let (rows, cols) = size();
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let _ = rustix::termios::tcsetwinsize(console, size);
}
