//! The loopback interface of a new network namespace.

use std::os::fd::AsRawFd;

use linux_raw_sys::ioctl::{SIOCGIFFLAGS, SIOCSIFFLAGS};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// The part of `struct ifreq` (netdevice(7)) that carries flags; as long as the whole.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

const UP: i16 = 1;

/// Sets `lo` up.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = InterfaceFlags {
        name: [0; 16],
        flags: 0,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: the structure has the size and layout of `struct ifreq`, and lives through the call.
    unsafe { syscall!(Sysno::ioctl, socket.as_raw_fd(), SIOCGIFFLAGS, &raw mut request) }.map_err(errno)?;
    request.flags |= UP;
    // SAFETY: as above; the kernel only reads it.
    unsafe { syscall!(Sysno::ioctl, socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) }.map_err(errno)?;
    Ok(())
}
