//! How the kernel schedules a process: policy, priorities, processors; and its personality.

use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// `IOPRIO_WHO_PROCESS`.
const WHO_PROCESS: u32 = 1;
/// `IOPRIO_CLASS_SHIFT`.
const CLASS_SHIFT: u32 = 13;
/// Processors that a mask has room for.
const PROCESSORS: usize = 8192;

/// `struct sched_attr` (sched_setattr(2)), in its first form.
#[repr(C)]
pub struct Policy {
    /// Bytes of this structure.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Of the ordinary policies.
    pub nice: i32,
    /// Of the real-time policies.
    pub priority: u32,
    /// Of SCHED_DEADLINE, in nanoseconds.
    pub runtime: u64,
    /// The same.
    pub deadline: u64,
    /// The same.
    pub period: u64,
}

/// sched_setattr(2), of the caller.
pub fn set_policy(attributes: &Policy) -> Result<()> {
    // SAFETY: the structure says its own size, and the kernel only reads it.
    unsafe { syscall!(Sysno::sched_setattr, 0, &raw const *attributes, 0) }
        .map(drop)
        .map_err(errno)
}

/// ioprio_set(2), of the caller: class 1 (real time) to 3 (idle), level 0 to 7.
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    // SAFETY: numbers alone.
    unsafe { syscall!(Sysno::ioprio_set, WHO_PROCESS, 0, class << CLASS_SHIFT | level) }
        .map(drop)
        .map_err(errno)
}

/// sched_setaffinity(2), of the caller.
pub fn set_affinity(processors: &[usize]) -> Result<()> {
    let mut mask = [0u8; PROCESSORS / 8];
    for number in processors {
        let byte = mask.get_mut(number / 8).ok_or(rustix::io::Errno::INVAL)?;
        *byte |= 1 << (number % 8);
    }
    // SAFETY: the mask is of the size that is passed with it, and the kernel only reads it.
    unsafe { syscall!(Sysno::sched_setaffinity, 0, mask.len(), mask.as_ptr()) }
        .map(drop)
        .map_err(errno)
}

/// Of another process, or of the caller with 0: all processors that its cpuset allows.
pub fn reset_affinity(pid: i32) -> Result<()> {
    let mask = [u8::MAX; PROCESSORS / 8];
    // SAFETY: as above.
    unsafe { syscall!(Sysno::sched_setaffinity, pid, mask.len(), mask.as_ptr()) }
        .map(drop)
        .map_err(errno)
}

/// personality(2), of the caller.
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: a number alone.
    unsafe { syscall!(Sysno::personality, domain) }.map(drop).map_err(errno)
}
