//! The kernel's log (syslog(2)).

use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// `SYSLOG_ACTION_READ_ALL`
const READ_ALL: u32 = 3;

/// The last bytes of the log, no more than `limit`. Takes CAP_SYSLOG, or a kernel that lets everybody read it.
pub fn last(limit: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0u8; limit];
    let length = i32::try_from(limit).map_err(|_| rustix::io::Errno::INVAL)?;
    // SAFETY: the kernel writes no more than `length` bytes, which is the buffer's length; the buffer lives through the call.
    let read = unsafe { syscall!(Sysno::syslog, READ_ALL, buffer.as_mut_ptr(), length) }.map_err(errno)?;
    buffer.truncate(read);
    Ok(buffer)
}
