//! One ELF file as the analysis sees it: functions, what they export, what is relocated where.

use std::collections::{BTreeSet, HashMap};

use object::elf as raw;

use super::frames;
use crate::elf::Elf;

/// Limits: no library comes near them.
const SYMBOLS: usize = 1 << 20;
const RELOCATIONS: usize = 1 << 21;
const FUNCTIONS: usize = 1 << 20;

/// Relative relocations in few bits, which `object` does not name.
const DT_RELRSZ: u32 = 35;
const DT_RELR: u32 = 36;

/// What is put at an address when the file is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// An address of this file.
    Address(u64),
    /// The address of a symbol, which another file may have.
    Symbol(u32),
    /// What a function of this file returns.
    Resolved(u64),
}

/// Bytes that are decoded of one function.
const LONGEST: usize = 1 << 20;

/// A file, its tables read.
pub struct Module<'a> {
    /// Its headers.
    pub elf: &'a Elf<'a>,
    /// Names of dynamic symbols.
    pub names: Vec<&'a [u8]>,
    /// What it exports: name and address.
    pub exports: HashMap<&'a [u8], Vec<u64>>,
    /// What is put where.
    pub relocations: HashMap<u64, Put>,
    /// Places of relocations that are for calls alone.
    pub slots: BTreeSet<u64>,
    /// Beginnings of functions, in order.
    pub starts: Vec<u64>,
    /// Where it is entered without being called: entry, constructors.
    pub roots: Vec<u64>,
    /// Function pointers in its data.
    pub pointers: Vec<u64>,
    /// Symbols whose addresses are in its data.
    pub pointed: Vec<u32>,
}

impl<'a> Module<'a> {
    /// Reads the tables.
    pub fn new(elf: &'a Elf<'a>) -> Module<'a> {
        let mut module = Module {
            elf,
            names: Vec::new(),
            exports: HashMap::new(),
            relocations: HashMap::new(),
            slots: BTreeSet::new(),
            starts: Vec::new(),
            roots: Vec::new(),
            pointers: Vec::new(),
            pointed: Vec::new(),
        };
        let mut starts = BTreeSet::new();
        module.dynamic_symbols(&mut starts);
        module.section_symbols(&mut starts);
        module.all_relocations();
        module.entries();
        starts.extend(frames::starts(elf));
        starts.extend(module.roots.iter().copied());
        module.starts = starts
            .into_iter()
            .filter(|at| module.executable(*at))
            .take(FUNCTIONS)
            .collect();
        module.data_pointers();
        module
    }

    /// Whether an address is code.
    pub fn executable(&self, address: u64) -> bool {
        let inside = |s: &crate::elf::Segment| address >= s.address && address - s.address < s.size;
        self.elf.segments.iter().any(|s| s.executable() && inside(s))
    }

    fn tag(&self, tag: u32) -> Option<u64> {
        self.elf.dynamic_value(tag.into())
    }

    fn table(&self, at: u32, size: u32) -> &'a [u8] {
        let (Some(at), Some(size)) = (self.tag(at), self.tag(size)) else {
            return &[];
        };
        let bytes = self.elf.at(at).unwrap_or_default();
        &bytes[..bytes.len().min(usize::try_from(size).unwrap_or(0))]
    }

    /// Where each function begins and the next one does, and its bytes. What lies before the first of a segment counts as
    /// one: stubs of calls to other files.
    pub fn functions(&self) -> Vec<(u64, u64, &'a [u8])> {
        let mut found = Vec::new();
        for segment in self.elf.segments.iter().filter(|s| s.executable()) {
            let Some(code) = self.elf.bytes(segment.offset, segment.size) else {
                continue;
            };
            let end = segment.address + segment.size;
            let from = self.starts.partition_point(|s| *s < segment.address);
            let to = self.starts.partition_point(|s| *s < end);
            let mut starts = self.starts[from..to].to_vec();
            if starts.first() != Some(&segment.address) {
                starts.insert(0, segment.address);
            }
            for (index, start) in starts.iter().enumerate() {
                let next = starts.get(index + 1).copied().unwrap_or(end);
                let bytes = &code[(start - segment.address) as usize..(next - segment.address) as usize];
                found.push((*start, next, &bytes[..bytes.len().min(LONGEST)]));
            }
        }
        found
    }

    fn dynamic_symbols(&mut self, starts: &mut BTreeSet<u64>) {
        let elf = self.elf;
        let Some(table) = self.tag(raw::DT_SYMTAB).and_then(|at| elf.at(at)) else {
            return;
        };
        let count = match (self.tag(raw::DT_SYMTAB), self.tag(raw::DT_STRTAB)) {
            (Some(symbols), Some(names)) if names > symbols => ((names - symbols) / symbol_size(elf) as u64) as usize,
            _ => SYMBOLS,
        };
        for symbol in table.chunks_exact(symbol_size(elf)).take(count.min(SYMBOLS)) {
            let (name, kind, section, value) = symbol_of(elf, symbol);
            let Some(name) = elf.string(name.into()) else { break };
            self.names.push(name);
            if section != 0 && matches!(kind & 15, 2 | 10 | 0) && value != 0 && !name.is_empty() {
                self.exports.entry(name).or_default().push(value);
                if kind & 15 != 0 {
                    starts.insert(value);
                }
            }
        }
    }

    /// `.symtab`, if it was not stripped: more beginnings of functions.
    fn section_symbols(&mut self, starts: &mut BTreeSet<u64>) {
        let elf = self.elf;
        for (kind, offset, size) in sections(elf) {
            if kind != raw::SHT_SYMTAB {
                continue;
            }
            let bytes = elf.bytes(offset, size).unwrap_or_default();
            for symbol in bytes.chunks_exact(symbol_size(elf)).take(SYMBOLS) {
                let (_, kind, section, value) = symbol_of(elf, symbol);
                if section != 0 && matches!(kind & 15, 2 | 10) && value != 0 {
                    starts.insert(value);
                }
            }
        }
    }

    fn all_relocations(&mut self) {
        let wide = self.elf.wide;
        let rela = self.table(raw::DT_RELA, raw::DT_RELASZ);
        let rel = self.table(raw::DT_REL, raw::DT_RELSZ);
        let jumps = self.table(raw::DT_JMPREL, raw::DT_PLTRELSZ);
        let with_addend = self.tag(raw::DT_PLTREL).unwrap_or(u64::from(raw::DT_RELA)) == u64::from(raw::DT_RELA);
        self.relocation_table(rela, true, false);
        self.relocation_table(rel, false, false);
        self.relocation_table(jumps, with_addend, true);
        let relr = self.table(DT_RELR, DT_RELRSZ);
        let word = if wide { 8u64 } else { 4 };
        let mut at = 0u64;
        for entry in relr.chunks_exact(word as usize).take(RELOCATIONS) {
            let value = self.elf.word_of(entry);
            if value & 1 == 0 {
                self.relative(value);
                at = value.wrapping_add(word);
                continue;
            }
            for bit in 0..word * 8 - 1 {
                if value >> (bit + 1) & 1 == 1 {
                    self.relative(at.wrapping_add(bit * word));
                }
            }
            at = at.wrapping_add((word * 8 - 1) * word);
        }
    }

    /// A place that has its target in itself.
    fn relative(&mut self, place: u64) {
        if self.relocations.len() < RELOCATIONS
            && let Some(bytes) = self.elf.at(place)
        {
            self.relocations.insert(place, Put::Address(self.elf.word_of(bytes)));
        }
    }

    fn relocation_table(&mut self, bytes: &[u8], addends: bool, calls: bool) {
        let elf = self.elf;
        let word = if elf.wide { 8 } else { 4 };
        for entry in bytes
            .chunks_exact(if addends { word * 3 } else { word * 2 })
            .take(RELOCATIONS)
        {
            let (place, info) = (elf.word_of(entry), elf.word_of(&entry[word..]));
            let (symbol, kind) = match elf.wide {
                true => ((info >> 32) as u32, info as u32),
                false => ((info >> 8) as u32, info as u32 & 0xff),
            };
            let addend = match addends {
                true => elf.word_of(&entry[word * 2..]),
                false => elf.at(place).map_or(0, |b| elf.word_of(b)),
            };
            let put = match (elf.machine, kind) {
                (raw::EM_X86_64, 8) | (raw::EM_386, 8) | (raw::EM_AARCH64, 1027) => Put::Address(addend),
                (raw::EM_X86_64, 37) | (raw::EM_386, 42) | (raw::EM_AARCH64, 1032) => Put::Resolved(addend),
                (raw::EM_X86_64, 1 | 6 | 7) | (raw::EM_386, 1 | 6 | 7) | (raw::EM_AARCH64, 257 | 1025 | 1026) => {
                    Put::Symbol(symbol)
                }
                _ => continue,
            };
            let slot = matches!(
                (elf.machine, kind),
                (raw::EM_X86_64 | raw::EM_386, 6 | 7) | (raw::EM_AARCH64, 1025 | 1026)
            );
            if slot || calls {
                self.slots.insert(place);
            }
            self.relocations.insert(place, put);
        }
    }

    /// Entry, constructors, destructors.
    fn entries(&mut self) {
        let mut roots = vec![self.elf.entry];
        roots.extend(self.tag(raw::DT_INIT));
        roots.extend(self.tag(raw::DT_FINI));
        let word = if self.elf.wide { 8 } else { 4 };
        for (array, size) in [
            (raw::DT_INIT_ARRAY, raw::DT_INIT_ARRAYSZ),
            (raw::DT_FINI_ARRAY, raw::DT_FINI_ARRAYSZ),
            (raw::DT_PREINIT_ARRAY, raw::DT_PREINIT_ARRAYSZ),
        ] {
            let first = self.tag(array).unwrap_or(0);
            for (index, entry) in self.table(array, size).chunks_exact(word).enumerate().take(4096) {
                let place = first + (index * word) as u64;
                match self.relocations.get(&place) {
                    Some(Put::Address(to)) => roots.push(*to),
                    _ => roots.push(self.elf.word_of(entry)),
                }
            }
        }
        roots.retain(|at| self.executable(*at));
        self.roots = roots;
    }

    /// Function pointers in data: relocated ones, and in a file that is loaded where it says also any word that is the
    /// beginning of a function.
    fn data_pointers(&mut self) {
        let mut pointers = BTreeSet::new();
        for (place, put) in &self.relocations {
            match put {
                Put::Address(to) if self.executable(*to) => _ = pointers.insert(*to),
                Put::Resolved(by) if !self.slots.contains(place) => _ = pointers.insert(*by),
                Put::Symbol(symbol) if !self.slots.contains(place) => self.pointed.push(*symbol),
                _ => {}
            }
        }
        if self.elf.kind == raw::ET_EXEC {
            let word = if self.elf.wide { 8 } else { 4 };
            for segment in self.elf.segments.iter().filter(|s| !s.executable()) {
                let bytes = self.elf.bytes(segment.offset, segment.size).unwrap_or_default();
                let values = bytes.chunks_exact(word).map(|b| self.elf.word_of(b));
                pointers.extend(values.filter(|v| self.starts.binary_search(v).is_ok()));
            }
        }
        self.pointers = pointers.into_iter().collect();
    }
}

fn symbol_size(elf: &Elf<'_>) -> usize {
    if elf.wide { 24 } else { 16 }
}

/// Name, kind, section, value.
fn symbol_of(elf: &Elf<'_>, symbol: &[u8]) -> (u32, u8, u16, u64) {
    let half = |at: usize| match elf.little {
        true => u16::from_le_bytes([symbol[at], symbol[at + 1]]),
        false => u16::from_be_bytes([symbol[at], symbol[at + 1]]),
    };
    match elf.wide {
        true => (elf.u32_of(symbol), symbol[4], half(6), elf.u64_of(&symbol[8..])),
        false => (
            elf.u32_of(symbol),
            symbol[12],
            half(14),
            elf.u32_of(&symbol[4..]).into(),
        ),
    }
}

/// Kind, offset and size of each section.
fn sections(elf: &Elf<'_>) -> Vec<(u32, u64, u64)> {
    let (offset_at, size_at, count_at, entry_size) = if elf.wide { (40, 58, 60, 64) } else { (32, 46, 48, 40) };
    let half = |at: usize| {
        elf.bytes(at as u64, 2).map_or(0, |b| {
            if elf.little {
                u16::from_le_bytes([b[0], b[1]])
            } else {
                u16::from_be_bytes([b[0], b[1]])
            }
        })
    };
    let offset = elf.bytes(offset_at, 8).map_or(0, |b| elf.word_of(b));
    if usize::from(half(size_at)) != entry_size {
        return Vec::new();
    }
    let bytes = elf
        .bytes(offset, u64::from(half(count_at)) * entry_size as u64)
        .unwrap_or_default();
    let (file_at, length_at) = if elf.wide { (24, 32) } else { (16, 20) };
    let entry = |e: &[u8]| {
        (
            elf.u32_of(&e[4..]),
            elf.word_of(&e[file_at..]),
            elf.word_of(&e[length_at..]),
        )
    };
    bytes.chunks_exact(entry_size).map(entry).collect()
}
