//! The note by which a shared library asks for a kernel (`NT_GNU_ABI_TAG`): a dynamic loader refuses the library where the
//! kernel is older, whatever it needs in truth.

use super::Change;
use crate::Version;
use crate::elf::Elf;

/// A note to be lowered.
pub struct Lower {
    at: usize,
    asked: Version,
}

/// What to do about a library that asks for more than `release`. A static program's note says what its code will check:
/// another `uname` helps it, another note does not.
pub fn plan(elf: &Elf<'_>, release: Version) -> Option<Lower> {
    let asked = elf
        .abi
        .map(|[a, b, c]| Version(a, b, c))
        .filter(|asked| *asked > release)?;
    let at = usize::try_from(elf.abi_offset?).ok()?;
    (!elf.is_static() && elf.little).then_some(Lower { at, asked })
}

impl Lower {
    /// Any kernel will do.
    pub fn apply(self, bytes: &mut [u8]) -> Change {
        // Behind the number of the system, three numbers.
        bytes[self.at + 4..self.at + 16].fill(0);
        Change::Note { release: self.asked }
    }
}
