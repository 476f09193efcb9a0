//! `--compat=supervise`: a process of its own watches the container's, and answers their calls of the vsyscall page where
//! this kernel has none. For what changed copies of files cannot reach: packed programs, files that came later.
//!
//! `--compat=trace`: the same, at each system call as well: those that are refused are written down for `berth why`.
//!
//! Signals pass through a stop each; everything else runs as always. Who is watched cannot be watched by others: strace
//! and gdb in the container get EPERM.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use compat::vsyscall::{Function, PAGE};
use compat::why::{REFUSALS, Refused};
use engine::Roots;
use engine::container::Record;
use engine::mend::Asked;
use errdefs::{ErrnoStep, Error, Result};
use rustix::io::Errno;
use sys::process::Forked;
use sys::ptrace::{self, Call, Registers, Stop};

const SIGSEGV: i32 = 11;
/// Which processor it was on last: a field of `/proc/PID/stat`.
const PROCESSOR: usize = 39;
/// So many bytes of refused calls are kept.
const REFUSED: u64 = 64 * 1024;

/// Starts the supervisor of a container whose first process (or of one that is added, which) has not executed anything
/// yet, if that is asked for; returns once it watches. It ends with the last of the container's processes, and they end
/// with it.
pub fn begin_if(asked: &Asked, roots: &Roots, record: &Record, pid: i32) -> Result<()> {
    if !asked.supervised() {
        return Ok(());
    }
    let step = "watch the container's processes";
    let refused = asked.traced().then(|| roots.refused(&record.id));
    let (ready, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).errno_step(step)?;
    match sys::process::clone3(0, None).errno_step(step)? {
        Forked::Child => {
            drop(ready);
            sys::process::exit_now(match ptrace::seize(pid, refused.is_some()) {
                Ok(()) => watch(told, refused),
                Err(errno) => {
                    let _ = rustix::io::write(&told, &errno.raw_os_error().to_le_bytes());
                    1
                }
            })
        }
        Forked::Parent { .. } => {
            drop(told);
            let mut answer = [0; 4];
            match rustix::io::read(&ready, &mut answer) {
                Ok(1) => Ok(()),
                Ok(4) => Err(Errno::from_raw_os_error(i32::from_le_bytes(answer))).errno_step(step),
                _ => Err(Error::system("the supervisor died before it watched")),
            }
        }
    }
}

/// The supervisor's life.
fn watch(told: OwnedFd, refused: Option<PathBuf>) -> i32 {
    let _ = rustix::thread::set_name(c"berth-supervise");
    let _ = rustix::io::write(&told, b"r");
    drop(told);
    // Its memory is the monitor's; what that holds open is none of its business.
    sys::process::close_everything_and(|| {
        let mut trace = refused.map(Trace::new);
        loop {
            match ptrace::wait() {
                Ok(Some((pid, stop))) => react(pid, stop, trace.as_mut()),
                Ok(None) => return 0,
                Err(Errno::INTR) => {}
                Err(_) => return 1,
            }
        }
    })
}

fn react(pid: i32, stop: Stop, mut trace: Option<&mut Trace>) {
    if let Some(trace) = &mut trace {
        trace.take(pid, stop);
    }
    let go_on = if trace.is_some() {
        ptrace::go_on_to_call
    } else {
        ptrace::go_on
    };
    // Whoever was killed meanwhile is told by the next wait.
    let _ = match stop {
        Stop::Signal(SIGSEGV) if answered(pid) => go_on(pid, 0),
        Stop::Signal(signal) => go_on(pid, signal),
        Stop::Event | Stop::Call => go_on(pid, 0),
        Stop::Group => ptrace::listen(pid),
        Stop::Gone => Ok(()),
    };
}

/// Who looks at all system calls, and writes down which were refused (`--compat=trace`).
struct Trace {
    file: PathBuf,
    /// What each process is at: architecture and number.
    calls: HashMap<i32, (u32, u32)>,
}

impl Trace {
    fn new(file: PathBuf) -> Self {
        Trace {
            file,
            calls: HashMap::new(),
        }
    }

    fn take(&mut self, pid: i32, stop: Stop) {
        match stop {
            Stop::Gone => drop(self.calls.remove(&pid)),
            Stop::Call => match ptrace::call(pid) {
                Ok(Some(Call::Begins(architecture, number))) => drop(self.calls.insert(pid, (architecture, number))),
                Ok(Some(Call::Ends(Some(errno)))) if REFUSALS.contains(&errno) => self.write(pid, errno),
                _ => {}
            },
            _ => {}
        }
    }

    fn write(&mut self, pid: i32, errno: i32) {
        let Some((architecture, call)) = self.calls.remove(&pid) else {
            return;
        };
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let refused = Refused {
            comm: comm.trim_end().to_owned(),
            architecture,
            call,
            errno,
        };
        // A supervisor for each process that was added writes here, too: whole lines.
        let Ok(mut file) = OpenOptions::new().create(true).append(true).open(&self.file) else {
            return;
        };
        // The last ones count.
        if file.metadata().is_ok_and(|m| m.len() > REFUSED) {
            let _ = file.set_len(0);
        }
        let _ = file.write_all(format!("{refused}\n").as_bytes());
    }
}

/// Whether it was a call of the page, and is done. Decided by the instruction's address alone.
fn answered(pid: i32) -> bool {
    let Ok(mut registers) = ptrace::registers(pid) else {
        return false;
    };
    let Some(function) = Function::at(registers.rip) else {
        return false;
    };
    if registers.rip & !0xc00 != PAGE {
        return false;
    }
    answer(pid, function, &mut registers).is_some() && ptrace::set_registers(pid, &registers).is_ok()
}

/// Does it as the kernel's emulation does: the result, and back to the caller.
fn answer(pid: i32, function: Function, registers: &mut Registers) -> Option<()> {
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .ok()?;
    let mut back = [0; 8];
    memory.read_exact_at(&mut back, registers.rsp).ok()?;
    registers.rax = match function {
        Function::Time => time(&memory, registers.rdi)?,
        Function::Gettimeofday => gettimeofday(&memory, registers.rdi, registers.rsi)?,
        Function::Getcpu => getcpu(pid, &memory, registers.rdi, registers.rsi)?,
    };
    registers.rip = u64::from_le_bytes(back);
    registers.rsp = registers.rsp.wrapping_add(8);
    // No system call is to be begun anew.
    registers.orig_rax = u64::MAX;
    Some(())
}

fn now() -> rustix::time::Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime)
}

/// `None`: it cannot be written there, and the fault is the program's own.
fn put(memory: &File, at: u64, numbers: &[u8]) -> Option<()> {
    match at {
        0 => Some(()),
        at => memory.write_all_at(numbers, at).ok(),
    }
}

fn time(memory: &File, at: u64) -> Option<u64> {
    let seconds = now().tv_sec;
    put(memory, at, &seconds.to_le_bytes())?;
    Some(seconds as u64)
}

fn gettimeofday(memory: &File, at: u64, zone: u64) -> Option<u64> {
    let now = now();
    let mut numbers = [0; 16];
    numbers[..8].copy_from_slice(&now.tv_sec.to_le_bytes());
    numbers[8..].copy_from_slice(&(now.tv_nsec / 1000).to_le_bytes());
    put(memory, at, &numbers)?;
    // Minutes west of Greenwich and a kind of summer time: the kernel's are 0 on all distributions.
    put(memory, zone, &[0; 8])?;
    Some(0)
}

fn getcpu(pid: i32, memory: &File, cpu: u64, node: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let number: u32 = runtime::kernel_files::stat(&stat, PROCESSOR)?.parse().ok()?;
    put(memory, cpu, &number.to_le_bytes())?;
    put(memory, node, &[0; 4])?;
    Some(0)
}
