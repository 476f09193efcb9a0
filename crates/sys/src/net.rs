//! The loopback interface of a new network namespace; what a socket's other side has not read.

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

/// Memory of what was written to a unix socket and the other side has not read yet (SIOCOUTQ).
pub fn unread(socket: impl std::os::fd::AsFd) -> Result<u32> {
    const SIOCOUTQ: u32 = 0x5411;
    let mut bytes: i32 = 0;
    // SAFETY: the kernel writes one int, which lives through the call.
    unsafe { syscall!(Sysno::ioctl, socket.as_fd().as_raw_fd(), SIOCOUTQ, &raw mut bytes) }.map_err(errno)?;
    Ok(bytes.max(0) as u32)
}

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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    #[test]
    fn what_is_not_read_is_seen() {
        let (mut a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(super::unread(&a).unwrap(), 0);
        a.write_all(b"abc").unwrap();
        assert!(super::unread(&a).unwrap() > 0);
        b.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(super::unread(&a).unwrap(), 0);
    }
}
