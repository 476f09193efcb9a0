//! Reading ELF files (elf(5)) that somebody else wrote: what a kernel and a loader look at, and no more.
//!
//! Headers may lie: every offset is checked, every count has a limit, and what cannot be read is a reason, never a panic.

use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};

/// Program headers that are looked at; the kernel takes no more than fit into a page of 64 KiB.
const SEGMENTS: usize = 1170;
/// Bytes of notes that are looked at, in all.
const NOTES: usize = 64 * 1024;
/// Entries of the dynamic section that are looked at.
const DYNAMIC: usize = 4096;
/// Longest name of a library or an interpreter.
const NAME: usize = 4096;

/// `GNU_PROPERTY_X86_ISA_1_NEEDED` and `..._USED`: a bit a level.
const PROPERTY_ISA_NEEDED: u32 = 0xc000_8002;
const PROPERTY_ISA_USED: u32 = 0xc001_0002;

/// A part of the file that is loaded into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `PF_X` and so on.
    pub flags: u32,
    /// Where in the file.
    pub offset: u64,
    /// Where in memory.
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes in memory.
    pub memory: u64,
    /// Alignment.
    pub align: u64,
}

impl Segment {
    /// Whether its bytes may be executed.
    pub fn executable(&self) -> bool {
        self.flags & elf::PF_X != 0
    }
}

/// An ELF file, its headers read.
#[derive(Clone, Debug)]
pub struct Elf<'a> {
    /// The whole file.
    pub data: &'a [u8],
    /// 64 bit words, else 32.
    pub wide: bool,
    /// Little endian.
    pub little: bool,
    /// `EM_*`.
    pub machine: u16,
    /// `ET_*`.
    pub kind: u16,
    /// `EI_OSABI`.
    pub os_abi: u8,
    /// `e_flags`.
    pub flags: u32,
    /// Where it starts.
    pub entry: u64,
    /// What is loaded.
    pub segments: Vec<Segment>,
    /// `PT_INTERP`.
    pub interpreter: Option<String>,
    /// `NT_GNU_ABI_TAG`: the oldest Linux that its C library takes.
    pub abi: Option<[u32; 3]>,
    /// File offset of that note's description (os, major, minor, patch), for who changes it.
    pub abi_offset: Option<u64>,
    /// x86-64 levels that it needs, a bit each.
    pub isa_needed: u32,
    /// x86-64 levels whose instructions it uses where they are there.
    pub isa_used: u32,
    /// The dynamic section: tag and value.
    pub dynamic: Vec<(u64, u64)>,
    /// Whether there is a section table.
    pub sections: bool,
    /// Whether the stack may have to be executable (`PT_GNU_STACK`, or none).
    pub exec_stack: bool,
}

/// Why a file could not be read.
pub type Why = String;

/// What a number of bytes starts as.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    pub fn parse(data: &'a [u8]) -> Result<Elf<'a>, Why> {
        if !is_elf(data) {
            return Err("it is no ELF file".into());
        }
        match data.get(4) {
            Some(&elf::ELFCLASS32) => Self::of::<elf::FileHeader32<Endianness>>(data),
            Some(&elf::ELFCLASS64) => Self::of::<elf::FileHeader64<Endianness>>(data),
            Some(class) => Err(format!("its class {class} is neither 32 nor 64 bit")),
            None => Err("it is cut off in its header".into()),
        }
    }

    fn of<H: FileHeader<Endian = Endianness>>(data: &'a [u8]) -> Result<Elf<'a>, Why> {
        let why = |what: &'static str| move |e: object::read::Error| format!("{what}: {e}");
        let header = H::parse(data).map_err(why("its header"))?;
        let endian = header.endian().map_err(why("its header"))?;
        let programs = header
            .program_headers(endian, data)
            .map_err(why("its program headers"))?;
        if programs.len() > SEGMENTS {
            return Err(format!("it has {} program headers", programs.len()));
        }
        let mut elf = Elf {
            data,
            wide: header.is_class_64(),
            little: endian == Endianness::Little,
            machine: header.e_machine(endian),
            kind: header.e_type(endian),
            os_abi: header.e_ident().os_abi,
            flags: header.e_flags(endian),
            entry: header.e_entry(endian).into(),
            segments: Vec::new(),
            interpreter: None,
            abi: None,
            abi_offset: None,
            isa_needed: 0,
            isa_used: 0,
            dynamic: Vec::new(),
            sections: header.e_shnum(endian) != 0,
            exec_stack: !programs.is_empty(),
        };
        let mut notes = NOTES;
        for program in programs {
            elf.program_header(program, endian, &mut notes)?;
        }
        Ok(elf)
    }

    fn program_header<P>(&mut self, program: &P, endian: Endianness, notes: &mut usize) -> Result<(), Why>
    where
        P: ProgramHeader<Endian = Endianness>,
    {
        let (offset, size): (u64, u64) = program.file_range(endian);
        let range = || self.bytes(offset, size);
        match program.p_type(endian) {
            elf::PT_LOAD => {
                let segment = Segment {
                    flags: program.p_flags(endian),
                    offset,
                    address: program.p_vaddr(endian).into(),
                    size,
                    memory: program.p_memsz(endian).into(),
                    align: program.p_align(endian).into(),
                };
                if range().is_none() {
                    return Err(format!(
                        "it is cut off: a segment ends at byte {}",
                        offset.saturating_add(size)
                    ));
                }
                // No kernel maps it; nobody who adds has to look again.
                if segment.address.checked_add(segment.memory.max(size)).is_none() {
                    return Err("it is to be loaded beyond all addresses".into());
                }
                self.segments.push(segment);
            }
            elf::PT_INTERP => {
                let bytes = range().ok_or("its interpreter's name is outside of it")?;
                let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
                if name.is_empty() || name.len() > NAME {
                    return Err("its interpreter has no proper name".into());
                }
                self.interpreter = Some(String::from_utf8_lossy(name).into_owned());
            }
            elf::PT_DYNAMIC => self.dynamic_section(range().unwrap_or_default()),
            elf::PT_NOTE => {
                let bytes = range().unwrap_or_default();
                let bytes = &bytes[..bytes.len().min(*notes)];
                *notes -= bytes.len();
                self.notes(bytes, offset, program.p_align(endian).into());
            }
            elf::PT_GNU_STACK => self.exec_stack = program.p_flags(endian) & elf::PF_X != 0,
            _ => {}
        }
        Ok(())
    }

    fn dynamic_section(&mut self, bytes: &'a [u8]) {
        let size = if self.wide { 16 } else { 8 };
        for entry in bytes.chunks_exact(size).take(DYNAMIC) {
            let (tag, value) = entry.split_at(size / 2);
            match (self.word_of(tag), self.word_of(value)) {
                (0, _) => break,
                pair => self.dynamic.push(pair),
            }
        }
    }

    /// Notes: size of name, size of description, type, name, description, each padded.
    fn notes(&mut self, bytes: &[u8], offset: u64, align: u64) {
        let align = if align == 8 { 8usize } else { 4 };
        let mut at = 0usize;
        while let Some(head) = bytes.get(at..at + 12) {
            let (names, descs, kind) = (self.u32_of(head), self.u32_of(&head[4..]), self.u32_of(&head[8..]));
            let name_at = at + 12;
            let desc_at = (name_at + names as usize).next_multiple_of(align);
            let end = desc_at + descs as usize;
            let (Some(name), Some(desc)) = (bytes.get(name_at..name_at + names as usize), bytes.get(desc_at..end))
            else {
                return;
            };
            match (name, kind) {
                (b"GNU\0", elf::NT_GNU_ABI_TAG) if desc.len() >= 16 && self.u32_of(desc) == 0 => {
                    let number = |index: usize| self.u32_of(&desc[index * 4..]);
                    self.abi = Some([number(1), number(2), number(3)]);
                    self.abi_offset = Some(offset + desc_at as u64);
                }
                (b"GNU\0", elf::NT_GNU_PROPERTY_TYPE_0) => self.properties(desc),
                _ => {}
            }
            at = end.next_multiple_of(align);
        }
    }

    /// Properties of x86: type, size, bits, padded to a word.
    fn properties(&mut self, desc: &[u8]) {
        let align = if self.wide { 8 } else { 4 };
        let mut at = 0usize;
        while let Some(head) = desc.get(at..at + 8) {
            let (kind, size) = (self.u32_of(head), self.u32_of(&head[4..]) as usize);
            let Some(value) = desc.get(at + 8..at + 8 + size) else {
                return;
            };
            if size == 4 && self.x86() {
                let bits = self.u32_of(value);
                match kind {
                    PROPERTY_ISA_NEEDED => self.isa_needed |= bits,
                    PROPERTY_ISA_USED => self.isa_used |= bits,
                    // Among them those of binutils before 2.36, which named sets of instructions, not levels.
                    _ => {}
                }
            }
            at = (at + 8 + size).next_multiple_of(align);
        }
    }

    fn x86(&self) -> bool {
        matches!(self.machine, elf::EM_X86_64 | elf::EM_386)
    }

    /// Bytes of the file, if they are there.
    pub fn bytes(&self, offset: u64, size: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        self.data.get(start..end)
    }

    /// A number of four bytes.
    pub fn u32_of(&self, bytes: &[u8]) -> u32 {
        let four: [u8; 4] = bytes.get(..4).and_then(|b| b.try_into().ok()).unwrap_or_default();
        if self.little {
            u32::from_le_bytes(four)
        } else {
            u32::from_be_bytes(four)
        }
    }

    /// A number of eight bytes.
    pub fn u64_of(&self, bytes: &[u8]) -> u64 {
        let eight: [u8; 8] = bytes.get(..8).and_then(|b| b.try_into().ok()).unwrap_or_default();
        if self.little {
            u64::from_le_bytes(eight)
        } else {
            u64::from_be_bytes(eight)
        }
    }

    /// A number of this file's word.
    pub fn word_of(&self, bytes: &[u8]) -> u64 {
        if self.wide {
            self.u64_of(bytes)
        } else {
            self.u32_of(bytes).into()
        }
    }

    /// Where an address is in the file.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let inside = |s: &&Segment| address >= s.address && address - s.address < s.size;
        let segment = self.segments.iter().find(inside)?;
        segment.offset.checked_add(address - segment.address)
    }

    /// Where a byte of the file is in memory.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let inside = |s: &&Segment| offset >= s.offset && offset - s.offset < s.size;
        let segment = self.segments.iter().find(inside)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// The bytes at an address, to the end of its segment.
    pub fn at(&self, address: u64) -> Option<&'a [u8]> {
        let inside = |s: &&Segment| address >= s.address && address - s.address < s.size;
        let segment = self.segments.iter().find(inside)?;
        let skip = address - segment.address;
        self.bytes(segment.offset.checked_add(skip)?, segment.size - skip)
    }

    /// The value of a dynamic entry.
    pub fn dynamic_value(&self, tag: u64) -> Option<u64> {
        self.dynamic.iter().find(|(t, _)| *t == tag).map(|(_, v)| *v)
    }

    /// A name in the dynamic string table.
    pub fn string(&self, at: u64) -> Option<&'a [u8]> {
        let table = self.dynamic_value(elf::DT_STRTAB.into())?;
        let bytes = self.at(table.checked_add(at)?)?;
        let bytes = &bytes[..bytes.len().min(NAME)];
        bytes.split(|b| *b == 0).next()
    }

    fn name(&self, at: u64) -> Option<String> {
        self.string(at).map(|n| String::from_utf8_lossy(n).into_owned())
    }

    /// `DT_NEEDED`.
    pub fn needed(&self) -> Vec<String> {
        let entries = self.dynamic.iter().filter(|(t, _)| *t == u64::from(elf::DT_NEEDED));
        entries
            .filter_map(|(_, at)| self.name(*at))
            .filter(|n| !n.is_empty())
            .collect()
    }

    /// `DT_SONAME`.
    pub fn soname(&self) -> Option<String> {
        self.name(self.dynamic_value(elf::DT_SONAME.into())?)
    }

    /// `DT_RUNPATH`, or `DT_RPATH`.
    pub fn run_path(&self) -> Option<String> {
        let at = self.dynamic_value(elf::DT_RUNPATH.into());
        self.name(at.or_else(|| self.dynamic_value(elf::DT_RPATH.into()))?)
    }

    /// x32: 32 bit words on x86-64.
    pub fn is_x32(&self) -> bool {
        self.machine == elf::EM_X86_64 && !self.wide
    }

    /// Whether it is loaded by nobody but the kernel.
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed().is_empty() && self.entry != 0 && self.soname().is_none()
    }

    /// Smallest alignment among what is loaded; what a kernel of larger pages cannot map.
    pub fn page_align(&self) -> Option<u64> {
        self.segments.iter().map(|s| s.align).filter(|a| *a > 1).min()
    }
}

/// Machines by Docker's names, or ELF's: name, `e_machine`, 64 bit, little endian.
const MACHINES: &[(&str, u16, bool, bool)] = &[
    ("amd64", elf::EM_X86_64, true, true),
    ("x32", elf::EM_X86_64, false, true),
    ("386", elf::EM_386, false, true),
    ("arm64", elf::EM_AARCH64, true, true),
    ("arm", elf::EM_ARM, false, true),
    ("armeb", elf::EM_ARM, false, false),
    ("ppc64le", elf::EM_PPC64, true, true),
    ("ppc64", elf::EM_PPC64, true, false),
    ("ppc", elf::EM_PPC, false, false),
    ("s390x", elf::EM_S390, true, false),
    ("riscv64", elf::EM_RISCV, true, true),
    ("mips64le", elf::EM_MIPS, true, true),
    ("mips64", elf::EM_MIPS, true, false),
    ("mipsle", elf::EM_MIPS, false, true),
    ("mips", elf::EM_MIPS, false, false),
    ("loong64", 258, true, true),
];

/// A file's machine in Docker's words, or ELF's.
pub fn machine_name(machine: u16, wide: bool, little: bool) -> String {
    let known = MACHINES
        .iter()
        .find(|row| (row.1, row.2, row.3) == (machine, wide, little));
    known.map_or_else(|| format!("machine {machine}"), |row| row.0.to_owned())
}

/// The first bytes of a machine's programs, as binfmt_misc compares them: a magic and a mask. The padding of `e_ident`
/// counts, and is empty in every program.
pub fn magic(name: &str) -> Option<([u8; 20], [u8; 20])> {
    let (_, machine, wide, little) = MACHINES.iter().find(|row| row.0 == name)?;
    let (mut magic, mut mask) = ([0; 20], [0xff; 20]);
    magic[..7].copy_from_slice(&[
        0x7f,
        b'E',
        b'L',
        b'F',
        if *wide { 2 } else { 1 },
        if *little { 1 } else { 2 },
        1,
    ]);
    // System V's ABI, or GNU's.
    mask[7] = 0xfc;
    // ET_EXEC (2) or ET_DYN (3).
    let low = if *little { 16 } else { 17 };
    (magic[low], mask[low]) = (2, 0xfe);
    let number = if *little {
        machine.to_le_bytes()
    } else {
        machine.to_be_bytes()
    };
    magic[18..].copy_from_slice(&number);
    Some((magic, mask))
}

/// Makes a program one that [`magic`] does not know, and kernels execute all the same: who interprets programs of its own
/// machine would otherwise be interpreted itself, for ever.
pub fn set_apart(program: &mut [u8]) {
    if let Some(last) = program.get_mut(15) {
        *last = 1;
    }
}

/// Whether the kernel loads an interpreter for the program that begins like this; `None` if that is not in sight.
pub fn has_interpreter(head: &[u8]) -> Option<bool> {
    fn of<H: FileHeader<Endian = Endianness>>(head: &[u8]) -> Option<bool> {
        let header = H::parse(head).ok()?;
        let endian = header.endian().ok()?;
        let programs = header.program_headers(endian, head).ok()?;
        Some(programs.iter().any(|p| p.p_type(endian) == elf::PT_INTERP))
    }
    match head.get(4) {
        Some(&elf::ELFCLASS64) => of::<elf::FileHeader64<Endianness>>(head),
        _ => of::<elf::FileHeader32<Endianness>>(head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_their_first_bytes() {
        let matches = |(magic, mask): ([u8; 20], [u8; 20]), data: &[u8]| (0..20).all(|i| data[i] & mask[i] == magic[i]);
        let mut own = std::fs::read("/proc/self/exe").unwrap();
        let name = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let foreign = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
        assert!(matches(magic(name).unwrap(), &own) && !matches(magic(foreign).unwrap(), &own));
        set_apart(&mut own);
        assert!(!matches(magic(name).unwrap(), &own));
        assert!(Elf::parse(&own).is_ok());
        // As in Debian's package qemu-user-binfmt.
        let (magic, mask) = magic("arm64").unwrap();
        assert_eq!(magic, *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0");
        assert_eq!((mask[7], mask[16], mask[17]), (0xfc, 0xfe, 0xff));
        let shell = std::fs::read("/bin/sh").unwrap();
        assert_eq!(has_interpreter(&shell[..4096]), Some(true));
        assert_eq!(has_interpreter(b"\x7fELF"), None);
    }
}
