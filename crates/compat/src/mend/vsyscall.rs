//! Calls into the vsyscall page become system calls.
//!
//! ```text
//! 48 c7 c0 00 0X 60 ff    mov  $0xffffffffff600X00,%rax        mov  $NUMBER,%rax
//! ...                     what does not touch %rax             the same
//! ff d0                   call *%rax                           syscall
//! ```
//!
//! Both forms have the same lengths and boundaries, and `syscall` spoils what the kernel's emulation of the page spoils:
//! rcx and r11. A site is changed only if all from its first to its last instruction was decoded, nothing in it leaves the
//! straight line or uses rax, and nothing in the same code jumps into the middle of it.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions, OpKind, Register,
};

use super::Change;
use crate::elf::{Elf, Segment};
use crate::vsyscall::{Site, Use, find};

/// `mov $imm32,%rax`.
const LOAD: [u8; 3] = [0x48, 0xc7, 0xc0];
const LOAD_LENGTH: u8 = 7;
/// A no-op of three bytes: what `movabs $imm64,%rax` is longer.
const PADDING: [u8; 3] = [0x0f, 0x1f, 0x00];
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A place, and whether it can be changed.
pub struct Step {
    site: Site,
    refused: Option<&'static str>,
}

/// What to do about a file.
pub fn plan(elf: &Elf<'_>) -> Vec<Step> {
    let sites = find(elf).into_iter().filter(Site::is_call);
    let mut steps: Vec<Step> = sites
        .map(|site| Step {
            site,
            refused: refusal(elf, &site),
        })
        .collect();
    if steps.iter().any(|s| s.refused.is_none()) {
        elf.segments
            .iter()
            .filter(|s| s.executable())
            .for_each(|segment| refuse_targets(elf, segment, &mut steps));
    }
    steps
}

/// Does it.
pub fn apply(bytes: &mut [u8], steps: &[Step]) -> Vec<Change> {
    let good = steps.iter().filter(|s| s.refused.is_none());
    let calls = good.inspect(|step| write(bytes, &step.site)).count();
    let left: Vec<&'static str> = steps.iter().filter_map(|s| s.refused).collect();
    let mut changes = Vec::new();
    if calls > 0 {
        changes.push(Change::Vsyscall { calls });
    }
    if let Some(why) = left.first() {
        changes.push(Change::Left { calls: left.len(), why });
    }
    changes
}

fn write(bytes: &mut [u8], site: &Site) {
    let (load, call) = (site.mov as usize, site.call as usize);
    let mut new = LOAD.to_vec();
    new.extend(site.function.number().to_le_bytes());
    if site.mov_len > LOAD_LENGTH {
        new.extend(PADDING);
    }
    bytes[load..load + new.len()].copy_from_slice(&new);
    bytes[call..call + SYSCALL.len()].copy_from_slice(&SYSCALL);
}

/// Why the site itself cannot be changed.
fn refusal(elf: &Elf<'_>, site: &Site) -> Option<&'static str> {
    if site.used == Use::Jump {
        return Some("it is a jump");
    }
    if site.register != 0 || site.call_len as usize != SYSCALL.len() || ![7, 10].contains(&site.mov_len) {
        return Some("the address is not in rax");
    }
    let Some(code) = elf.bytes(site.mov, site.call.saturating_sub(site.mov)) else {
        return Some("it is not in the file");
    };
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    // The load of rax itself.
    let load = decoder.decode();
    if load.op0_register() != Register::RAX || load.len() != site.mov_len as usize {
        return Some("the address is not in rax");
    }
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return Some("what stands between load and call is no code");
        }
        if instruction.flow_control() != FlowControl::Next {
            return Some("the code branches between load and call");
        }
        let used = info.info_options(&instruction, InstructionInfoOptions::NO_MEMORY_USAGE);
        if used
            .used_registers()
            .iter()
            .any(|r| r.register().full_register() == Register::RAX)
        {
            return Some("rax is used between load and call");
        }
    }
    None
}

/// Reads all of a segment's code: no jump may lead into a site.
fn refuse_targets(elf: &Elf<'_>, segment: &Segment, steps: &mut [Step]) {
    let Some(code) = elf.bytes(segment.offset, segment.size) else {
        return;
    };
    let within = |step: &&mut Step| {
        let at = step.site.mov;
        step.refused.is_none() && at >= segment.offset && at - segment.offset < segment.size
    };
    let mut here: Vec<&mut Step> = steps.iter_mut().filter(within).collect();
    let sites: Vec<usize> = here.iter().map(|s| (s.site.mov - segment.offset) as usize).collect();
    if sites.is_empty() {
        return;
    }
    let targets = branch_targets(code, segment.address, &sites);
    for (step, at) in here.iter_mut().zip(sites) {
        let from = segment.address.wrapping_add(at as u64);
        let to = from.wrapping_add(step.site.call - step.site.mov + 1);
        let first = targets.partition_point(|t| *t <= from);
        if targets.get(first).is_some_and(|t| *t <= to) {
            step.refused = Some("the code jumps into the middle of it");
        }
    }
}

/// Where the branches of some code lead, in order. Headers and tables stand between the instructions, too: at the sites,
/// which are code for sure, it is begun anew.
fn branch_targets(code: &[u8], address: u64, sites: &[usize]) -> Vec<u64> {
    let mut targets = Vec::new();
    let mut instruction = Instruction::default();
    let mut start = 0;
    for end in sites.iter().copied().chain([code.len()]) {
        let ip = address.wrapping_add(start as u64);
        let part = code.get(start..end).unwrap_or_default();
        let mut decoder = Decoder::with_ip(64, part, ip, DecoderOptions::NONE);
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            let near = matches!(
                instruction.op0_kind(),
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
            );
            if near && !instruction.is_invalid() {
                targets.push(instruction.near_branch_target());
            }
        }
        start = end;
    }
    targets.sort_unstable();
    targets
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::mend::Plan;

    /// A static program of one segment.
    pub fn program(code: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let size = 0x78 + code.len() as u64;
        for half in [2u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        for word in [0x40_0078u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        file.extend(5u32.to_le_bytes());
        for word in [0u64, 0x40_0000, 0x40_0000, size, size, 0x1000] {
            file.extend(word.to_le_bytes());
        }
        file.extend(code);
        file
    }

    fn patched(code: &[u8]) -> (Vec<u8>, Vec<Change>) {
        let mut bytes = program(code);
        let changes = Plan {
            vsyscall: true,
            notes: None,
        }
        .apply(&mut bytes);
        (bytes.split_off(0x78), changes)
    }

    #[test]
    fn calls_become_system_calls_of_the_same_length() {
        // sub $8,%rsp; mov $...400,%rax; call *%rax; add $8,%rsp; ret
        let (code, changes) = patched(b"\x48\x83\xec\x08\x48\xc7\xc0\0\x04\x60\xff\xff\xd0\x48\x83\xc4\x08\xc3");
        assert_eq!(changes, [Change::Vsyscall { calls: 1 }]);
        assert_eq!(
            code,
            b"\x48\x83\xec\x08\x48\xc7\xc0\xc9\0\0\0\x0f\x05\x48\x83\xc4\x08\xc3"
        );
        // movabs $...000,%rax; xor %esi,%esi; lea 8(%rsp),%rdi; call *%rax
        let (code, _) = patched(b"\x48\xb8\0\0\x60\xff\xff\xff\xff\xff\x31\xf6\x48\x8d\x7c\x24\x08\xff\xd0\xc3");
        assert_eq!(
            code,
            b"\x48\xc7\xc0\x60\0\0\0\x0f\x1f\0\x31\xf6\x48\x8d\x7c\x24\x08\x0f\x05\xc3"
        );
    }

    #[test]
    fn what_is_not_understood_as_a_whole_stays() {
        let cases: [(&str, &[u8]); 6] = [
            // jmp to the call in front of a second load: both ways meet at one call.
            ("jumped into", b"\xeb\x07\x48\xc7\xc0\0\x04\x60\xff\xff\xd0\xc3"),
            ("branches", b"\x48\xc7\xc3\0\x04\x60\xff\x74\x00\xff\xd3\xc3"),
            ("rax is read", b"\x48\xc7\xc0\0\x04\x60\xff\x48\x89\xc3\xff\xd0\xc3"),
            ("another register", b"\x48\xc7\xc3\0\x04\x60\xff\xff\xd3\xc3"),
            ("a jump", b"\x48\xc7\xc0\0\x04\x60\xff\xff\xe0"),
            ("a pointer", b"\x48\xc7\xc0\0\x04\x60\xff\xc3"),
        ];
        for (name, code) in cases {
            let (after, changes) = patched(code);
            assert_eq!(after, code, "{name}");
            assert!(!changes.iter().any(Change::changes), "{name}: {changes:?}");
        }
    }
}
