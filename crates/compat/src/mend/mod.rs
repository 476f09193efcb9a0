//! Remedies that change a copy of a file: bytes in, bytes out. The image's own files stay what they are.
//!
//! Architecture invariant: what was not decoded as a whole is not changed, and no file grows or shrinks.

mod note;
mod vsyscall;

use crate::Version;
use crate::elf::{Elf, is_elf};

/// What a kernel lacks that a changed copy of a file can do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The kernel has no vsyscall page.
    pub vsyscall: bool,
    /// The kernel's release: shared libraries that ask for a newer one ask for none.
    pub notes: Option<Version>,
}

/// One change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Calls into the vsyscall page that are system calls now.
    Vsyscall {
        /// How many.
        calls: usize,
    },
    /// A library that asked for at least this release asks for none.
    Note {
        /// What it asked for.
        release: Version,
    },
    /// Calls into the vsyscall page that stay, because not all around them could be decoded.
    Left {
        /// How many.
        calls: usize,
        /// Why the first of them.
        why: &'static str,
    },
}

impl Change {
    /// Whether the bytes are others than before.
    pub fn changes(&self) -> bool {
        !matches!(self, Change::Left { .. })
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Vsyscall { calls: 1 } => write!(f, "its call into the vsyscall page is a system call"),
            Change::Vsyscall { calls } => write!(f, "its {calls} calls into the vsyscall page are system calls"),
            Change::Note { release } => write!(f, "it no longer asks for Linux {release}"),
            Change::Left { calls, why } => write!(f, "{calls} calls into the vsyscall page stay: {why}"),
        }
    }
}

impl Plan {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }

    /// A file name's worth: copies made by equal plans are equal. The number is that of the way in which they are made.
    pub fn name(&self) -> String {
        let mut name = String::from("mended-1");
        if self.vsyscall {
            name.push_str("-vsyscall");
        }
        if let Some(Version(a, b, c)) = self.notes {
            name.push_str(&format!("-notes-{a}.{b}.{c}"));
        }
        name
    }

    /// Whether a file that begins like this may be one to mend.
    pub fn concerns(&self, head: &[u8]) -> bool {
        is_elf(head)
    }

    /// Changes a file's bytes; what was done, nothing if the file is none that needs it or lies about itself.
    pub fn apply(&self, bytes: &mut [u8]) -> Vec<Change> {
        let Ok(elf) = Elf::parse(bytes) else { return Vec::new() };
        let vsyscall = if self.vsyscall {
            vsyscall::plan(&elf)
        } else {
            Vec::new()
        };
        let note = self.notes.and_then(|release| note::plan(&elf, release));
        let mut changes = vsyscall::apply(bytes, &vsyscall);
        changes.extend(note.map(|note| note.apply(bytes)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_have_names_of_their_own() {
        let plans = [
            Plan {
                vsyscall: true,
                notes: None,
            },
            Plan {
                vsyscall: false,
                notes: Some(Version(5, 10, 0)),
            },
            Plan {
                vsyscall: true,
                notes: Some(Version(5, 10, 0)),
            },
        ];
        let names: std::collections::BTreeSet<String> = plans.iter().map(Plan::name).collect();
        assert_eq!(names.len(), 3);
        assert!(Plan::default().is_empty());
    }

    /// A repeatable stream of numbers (xorshift).
    struct Numbers(u64);
    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % below as u64) as usize
        }
    }

    /// Whatever the file says: no panic, and only places of the right lengths change.
    #[test]
    fn spoilt_files_are_changed_nowhere_else() {
        let whole = super::vsyscall::tests::program(
            &[
                &[0x48, 0xc7, 0xc0, 0, 4, 0x60, 0xff, 0xff, 0xd0, 0xc3][..],
                &[0x90; 20],
                &[
                    0x48, 0xb8, 0, 0, 0x60, 0xff, 0xff, 0xff, 0xff, 0xff, 0x31, 0xf6, 0xff, 0xd0, 0xc3,
                ],
            ]
            .concat(),
        );
        let plan = Plan {
            vsyscall: true,
            notes: Some(Version(3, 0, 0)),
        };
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut changed = 0;
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..numbers.next(6) {
                let at = numbers.next(bytes.len());
                bytes[at] = numbers.next(256) as u8;
            }
            bytes.truncate(bytes.len() - numbers.next(3) * numbers.next(bytes.len() / 2));
            let before = bytes.clone();
            let changes = plan.apply(&mut bytes);
            let differ = before.iter().zip(&bytes).filter(|(a, b)| a != b).count();
            let allowed: usize = changes
                .iter()
                .map(|change| match change {
                    Change::Vsyscall { calls } => 12 * calls,
                    Change::Note { .. } => 12,
                    Change::Left { .. } => 0,
                })
                .sum();
            assert!(before.len() == bytes.len() && differ <= allowed, "{changes:?}");
            changed += usize::from(differ > 0);
        }
        assert!(changed > 1000, "{changed}");
    }
}
