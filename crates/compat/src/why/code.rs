//! Where in a program an address is, and what the instruction there is.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Mnemonic};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol};

use super::log::Place;
use crate::elf::Elf;

/// More symbols are not searched.
const SYMBOLS: usize = 1 << 20;

/// Where the kernel says that an instruction is, as an offset in the file.
pub fn offset(elf: &Elf<'_>, place: &Place) -> Option<u64> {
    place.offset.or_else(|| {
        // Only one segment of usual programs is code; its mapping begins with the page that it begins in.
        let segment = elf.segments.iter().find(|s| s.executable())?;
        place.within.checked_add(segment.offset & !0xfff)
    })
}

/// The function at a place of the file, and how far into it: `main+0x12`.
pub fn symbol(data: &[u8], elf: &Elf<'_>, offset: u64) -> Option<String> {
    let address = elf.address_of(offset)?;
    let file = ElfFile64::<Endianness>::parse(data).ok()?;
    let near = file
        .symbols()
        .chain(file.dynamic_symbols())
        .take(SYMBOLS)
        .filter(|s| s.kind() == object::SymbolKind::Text && s.address() != 0 && s.address() <= address)
        .filter(|s| s.size() == 0 || address - s.address() < s.size())
        .max_by_key(|s| (s.address(), s.size()))?;
    let name = near.name().ok().filter(|n| !n.is_empty())?;
    match address - near.address() {
        0 => Some(name.to_owned()),
        far => Some(format!("{name}+{far:#x}")),
    }
}

/// The instruction at a place of the file, and the sets that it belongs to.
pub struct Found {
    /// Its name: `vpaddd`.
    pub name: String,
    /// What a processor has to have for it, as `/proc/cpuinfo` writes it.
    pub needs: Vec<String>,
    /// The level that has it, if there is one: `x86-64-v3`.
    pub level: Option<&'static str>,
    /// What programs use to end themselves.
    pub deliberate: bool,
}

/// `None` if it is no instruction.
pub fn instruction(elf: &Elf<'_>, offset: u64) -> Option<Found> {
    let bytes = elf.bytes(offset, 15).or_else(|| elf.bytes(offset, 1))?;
    let bits = if elf.wide { 64 } else { 32 };
    let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NONE);
    let found = decoder.decode();
    if found.is_invalid() {
        return None;
    }
    let features = found.cpuid_features();
    Some(Found {
        name: format!("{:?}", found.mnemonic()).to_lowercase(),
        needs: features.iter().map(|f| format!("{f:?}").to_lowercase()).collect(),
        level: features.iter().filter_map(|f| level(*f)).max(),
        deliberate: matches!(found.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2),
    })
}

/// The first level of the x86-64 psABI that has it.
fn level(feature: CpuidFeature) -> Option<&'static str> {
    use CpuidFeature::*;
    match feature {
        SSE3 | SSSE3 | SSE4_1 | SSE4_2 | POPCNT | CMPXCHG16B => Some("x86-64-v2"),
        AVX | AVX2 | BMI1 | BMI2 | F16C | FMA | LZCNT | MOVBE => Some("x86-64-v3"),
        AVX512F | AVX512BW | AVX512CD | AVX512DQ | AVX512VL => Some("x86-64-v4"),
        _ => None,
    }
}

/// A system call's name, by `AUDIT_ARCH_*` and number.
pub fn call_name(architecture: u32, call: u32) -> String {
    let number = call as usize;
    let name = match architecture {
        0xc000_003e => syscalls::x86_64::Sysno::new(number).map(|s| s.name()),
        0x4000_0003 => syscalls::x86::Sysno::new(number).map(|s| s.name()),
        0xc000_00b7 => syscalls::aarch64::Sysno::new(number).map(|s| s.name()),
        _ => None,
    };
    name.map_or_else(|| format!("system call {call} of another architecture"), String::from)
}
