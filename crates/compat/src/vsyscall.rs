//! Finding the places where old C libraries call the vsyscall page.
//!
//! glibc up to 2.13 has the page's fixed addresses in its code: `mov $0xffffffffff600X00,%reg` and `call *%reg`, mostly next
//! to each other and not always. The bytes of the address are searched, and from there instructions are decoded: a call
//! through the register that still holds the address is a call site; an address that goes elsewhere is a pointer, which
//! newer C libraries keep for kernels without a vDSO.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use object::elf::EM_X86_64;
use serde::{Deserialize, Serialize};

use crate::elf::Elf;

/// Where the page is.
pub const PAGE: u64 = 0xffff_ffff_ff60_0000;
/// Call sites that are told of one file; no C library has more than a handful.
const LIMIT: usize = 4096;
/// Bytes and instructions that are decoded after the address.
const REACH: usize = 512;
const INSTRUCTIONS: usize = 96;

/// The page's three functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// At 0.
    Gettimeofday,
    /// At 0x400.
    Time,
    /// At 0x800.
    Getcpu,
}

impl Function {
    /// By an address in the page.
    pub fn at(address: u64) -> Option<Function> {
        match address.wrapping_sub(PAGE) {
            0 => Some(Function::Gettimeofday),
            0x400 => Some(Function::Time),
            0x800 => Some(Function::Getcpu),
            _ => None,
        }
    }

    /// Its address.
    pub fn address(self) -> u64 {
        PAGE + 0x400 * self as u64
    }

    /// The system call that does the same on x86-64.
    pub fn number(self) -> u32 {
        match self {
            Function::Gettimeofday => 96,
            Function::Time => 201,
            Function::Getcpu => 309,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Function::Gettimeofday => "gettimeofday",
            Function::Time => "time",
            Function::Getcpu => "getcpu",
        }
    }
}

/// What becomes of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// `call *%reg`.
    Call,
    /// `jmp *%reg`: a call whose return is the caller's.
    Jump,
    /// It is stored, returned or compared: used where there is no vDSO, if at all.
    Pointer,
}

/// One place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Which function's address.
    pub function: Function,
    /// What is done with it.
    pub used: Use,
    /// The number of the register that holds it at the call, as in machine code (0 is rax).
    pub register: u8,
    /// File offset and length of the instruction that loads the address.
    pub mov: u64,
    /// Its length.
    pub mov_len: u8,
    /// File offset of the call; of the load, for a pointer.
    pub call: u64,
    /// Its length; 0 for a pointer.
    pub call_len: u8,
    /// The address in memory of the load.
    pub address: u64,
}

impl Site {
    /// Whether the page is called here for sure once this place is reached.
    pub fn is_call(&self) -> bool {
        self.used != Use::Pointer
    }
}

/// All places of a file; none for a machine that has no such page.
pub fn find(elf: &Elf<'_>) -> Vec<Site> {
    let mut sites = Vec::new();
    if elf.machine != EM_X86_64 {
        return sites;
    }
    for segment in elf.segments.iter().filter(|s| s.executable()) {
        let Some(code) = elf.bytes(segment.offset, segment.size) else {
            continue;
        };
        in_code(code, segment.offset, segment.address, &mut sites);
    }
    sites.sort_by_key(|s| s.mov);
    sites.dedup_by_key(|s| s.mov);
    sites
}

fn in_code(code: &[u8], offset: u64, address: u64, sites: &mut Vec<Site>) {
    // The low half of the address: sign-extended by the short load, followed by ones in the long.
    let finder = memchr::memmem::Finder::new(b"\x60\xff");
    for at in finder.find_iter(code) {
        let Some(low) = at.checked_sub(2) else { continue };
        if code[low] != 0 || !matches!(code[low + 1], 0 | 4 | 8) {
            continue;
        }
        for before in [3, 2] {
            let Some(start) = low.checked_sub(before) else { continue };
            if let Some(site) = load(code, start, before, offset, address) {
                sites.push(site);
                break;
            }
        }
        if sites.len() >= LIMIT {
            return;
        }
    }
}

/// A load of the address that starts here, and what becomes of it.
fn load(code: &[u8], start: usize, before: usize, offset: u64, address: u64) -> Option<Site> {
    let long = matches!(code[start..start + before], [0x48 | 0x49, 0xb8..=0xbf]);
    let short = matches!(code[start..start + before], [0x48 | 0x49, 0xc7, 0xc0..=0xc7]);
    if !long && !short {
        return None;
    }
    let window = &code[start..code.len().min(start + REACH)];
    let ip = address.wrapping_add(start as u64);
    let mut decoder = Decoder::with_ip(64, window, ip, DecoderOptions::NONE);
    let mov = decoder.decode();
    let function = Function::at(mov.try_immediate(1).ok()?).filter(|_| mov.mnemonic() == Mnemonic::Mov)?;
    let mut site = Site {
        function,
        used: Use::Pointer,
        register: mov.op0_register().number() as u8,
        mov: offset + start as u64,
        mov_len: mov.len() as u8,
        call: offset + start as u64,
        call_len: 0,
        address: ip,
    };
    if let Some((call, register)) = follow(&mut decoder, mov.op0_register()) {
        site.used = if call.flow_control() == FlowControl::IndirectCall {
            Use::Call
        } else {
            Use::Jump
        };
        site.call = offset + (call.ip() - address);
        site.call_len = call.len() as u8;
        site.register = register.number() as u8;
    }
    Some(site)
}

/// The call through a register that holds the address, on the straight way from its load.
fn follow(decoder: &mut Decoder<'_>, first: Register) -> Option<(Instruction, Register)> {
    let mut holders = vec![first];
    let mut info = InstructionInfoFactory::new();
    for _ in 0..INSTRUCTIONS {
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        let through = instruction.op_count() == 1 && instruction.op0_kind() == OpKind::Register;
        match instruction.flow_control() {
            FlowControl::IndirectCall | FlowControl::IndirectBranch if through => {
                let register = instruction.op0_register();
                if holders.contains(&register) {
                    return Some((instruction, register));
                }
            }
            FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::Call | FlowControl::IndirectCall => {}
            _ => return None,
        }
        if instruction.flow_control() != FlowControl::Next {
            // A call keeps rbx, rbp and r12 to r15 alone.
            if matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            ) {
                holders.retain(|r| matches!(r.number(), 3 | 5 | 12..=15));
            }
            continue;
        }
        let copies = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Register
            && holders.contains(&instruction.op1_register());
        if copies {
            if !holders.contains(&instruction.op0_register()) {
                holders.push(instruction.op0_register());
            }
            continue;
        }
        for used in info.info(&instruction).used_registers() {
            let written = matches!(
                used.access(),
                OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
            );
            if written {
                holders.retain(|r| *r != used.register().full_register());
            }
        }
        if holders.is_empty() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(code: &[u8]) -> Vec<Site> {
        let mut sites = Vec::new();
        in_code(code, 0x1000, 0x40_1000, &mut sites);
        sites
    }

    #[test]
    fn the_code_of_old_c_libraries_is_found() {
        // push %rbp; mov $0xffffffffff600400,%rax; call *%rax; pop; ret
        let found = sites(b"\x55\x48\xc7\xc0\x00\x04\x60\xff\xff\xd0\x5d\xc3");
        let expected = Site {
            function: Function::Time,
            used: Use::Call,
            register: 0,
            mov: 0x1001,
            mov_len: 7,
            call: 0x1008,
            call_len: 2,
            address: 0x40_1001,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn what_stands_between_is_decoded() {
        // mov $...600000,%rax; mov %rbx,%rdi; xor %esi,%esi; sub $8,%rsp; lea 0x10(%rsp),%rdx; call *%rax
        let code = b"\x48\xc7\xc0\x00\x00\x60\xff\x48\x89\xdf\x31\xf6\x48\x83\xec\x08\x48\x8d\x54\x24\x10\xff\xd0";
        let found = sites(code);
        assert_eq!((found[0].function, found[0].used), (Function::Gettimeofday, Use::Call));
        assert_eq!(found[0].call, 0x1000 + 21);
    }

    #[test]
    fn other_registers_copies_long_loads_and_jumps_are_followed() {
        // movabs $0xffffffffff600800,%r11; mov %r11,%rcx; call *%rcx
        let found = sites(b"\x49\xbb\x00\x08\x60\xff\xff\xff\xff\xff\x4c\x89\xd9\xff\xd1");
        assert_eq!(
            (found[0].function, found[0].used, found[0].register),
            (Function::Getcpu, Use::Call, 1)
        );
        // mov $...,%rbx; call something; jmp *%rbx
        let found = sites(b"\x48\xc7\xc3\x00\x00\x60\xff\xe8\x00\x00\x00\x00\xff\xe3");
        assert_eq!((found[0].used, found[0].register), (Use::Jump, 3));
    }

    #[test]
    fn what_is_no_call_is_a_pointer_and_what_is_no_load_is_nothing() {
        // mov $...,%rax; ret: newer C libraries' last resort
        assert_eq!(sites(b"\x48\xc7\xc0\x00\x04\x60\xff\xc3")[0].used, Use::Pointer);
        // mov $...,%rax; xor %eax,%eax; call *%rax
        assert_eq!(
            sites(b"\x48\xc7\xc0\x00\x04\x60\xff\x31\xc0\xff\xd0")[0].used,
            Use::Pointer
        );
        // mov $...,%rax; call f; call *%rax: the call in between may have changed it
        assert_eq!(
            sites(b"\x48\xc7\xc0\x00\x04\x60\xff\xe8\0\0\0\0\xff\xd0")[0].used,
            Use::Pointer
        );
        // cmp $...,%rax
        assert_eq!(sites(b"\x48\x3d\x00\x00\x60\xff\xff\xd0"), []);
        // cut off everywhere; a long load, too
        let long = b"\x48\xb8\x00\x04\x60\xff\xff\xff\xff\xff\xff\xd0";
        for end in 0..long.len() {
            sites(&long[..end]);
        }
        let whole = b"\x55\x48\xc7\xc0\x00\x04\x60\xff\xff\xd0\x5d\xc3";
        for end in 0..whole.len() {
            sites(&whole[..end]);
        }
    }
}
