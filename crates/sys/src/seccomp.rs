//! Installing a seccomp filter (seccomp(2)).

use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// One BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How far to jump if it holds.
    pub jt: u8,
    /// How far to jump if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Installs a filter for this process and its children, for ever. Needs no-new-privileges or CAP_SYS_ADMIN.
pub fn install(filter: &[Instruction], flags: u32) -> Result<()> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    let length = u16::try_from(filter.len()).map_err(|_| rustix::io::Errno::INVAL)?;
    let program = Program {
        length,
        instructions: filter.as_ptr(),
    };
    // SAFETY: the program points to as many instructions as it says, which live through the call; the kernel checks
    // and copies them.
    unsafe { syscall!(Sysno::seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) }
        .map(drop)
        .map_err(errno)
}
