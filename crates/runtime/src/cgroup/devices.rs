//! Which devices a container may use: in version 2 a program of the cgroup, which the kernel asks.

use std::os::fd::{AsFd, BorrowedFd};

use errdefs::{ErrnoStep, Result};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// character or block device, major, minor (none: all), what may be done
type Row = (LinuxDeviceType, Option<i64>, Option<i64>, &'static str);

/// What every container may use, whatever its document says (runc `AllowedDevices`).
const ALLOWED: &[Row] = &[
    // Nodes may be made: only opening them gives anything.
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    // Pseudo-terminals.
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// The document's rules, and after them those of every container; none if nothing is denied.
pub fn complete(rules: Option<&[LinuxDeviceCgroup]>) -> Vec<LinuxDeviceCgroup> {
    let rules = rules.unwrap_or_default();
    if rules.iter().all(|r| r.allow()) {
        return Vec::new();
    }
    let mut all = rules.to_vec();
    for (kind, major, minor, access) in ALLOWED {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(*kind))
            .set_major(*major)
            .set_minor(*minor)
            .set_access(Some((*access).into()));
        all.push(rule);
    }
    all
}

/// Makes the kernel ask a program of these rules, and no other, for a cgroup.
pub fn enforce(cgroup: BorrowedFd<'_>, rules: &[LinuxDeviceCgroup], is_new: bool) -> Result<()> {
    let step = "restrict the devices (bpf)";
    let program = sys::bpf::load_device_program(&program(rules)).errno_step(step)?;
    let before = match is_new {
        true => Vec::new(),
        false => sys::bpf::device_programs(cgroup).errno_step(step)?,
    };
    sys::bpf::attach_device_program(cgroup, program.as_fd()).errno_step(step)?;
    let detach = |old: &std::os::fd::OwnedFd| sys::bpf::detach_device_program(cgroup, old.as_fd());
    before.iter().try_for_each(detach).errno_step(step)
}

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const EVERY: u32 = MKNOD | READ | WRITE;

fn access(rule: &LinuxDeviceCgroup) -> u32 {
    let letters = rule.access().as_deref().filter(|a| !a.is_empty()).unwrap_or("rwm");
    let bit = |letter| match letter {
        'r' => READ,
        'w' => WRITE,
        'm' => MKNOD,
        _ => 0,
    };
    letters.chars().fold(0, |all, letter| all | bit(letter))
}

/// Registers: the answer, and what is asked.
const ANSWER: u64 = 0;
const CONTEXT: u64 = 1;
const TYPE: u64 = 2;
/// Kinds of access that no rule has decided yet.
const OPEN: u64 = 3;
const MAJOR: u64 = 4;
const MINOR: u64 = 5;
const SCRATCH: u64 = 6;

// Operations (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u64 = 0x61;
const MOVE_32: u64 = 0xb4;
const COPY_32: u64 = 0xbc;
const AND_32: u64 = 0x54;
const SHIFT_RIGHT_32: u64 = 0x74;
const JUMP_EQUAL: u64 = 0x15;
const JUMP_NOT_EQUAL: u64 = 0x55;
const EXIT: u64 = 0x95;

fn instruction(operation: u64, to: u64, from: u64, offset: i16, value: u32) -> u64 {
    operation | to << 8 | from << 12 | u64::from(offset as u16) << 16 | u64::from(value) << 32
}

/// Each kind of access is decided by the last rule that names it: the rules are tried backwards. One that allows takes
/// its kinds off those that are open, one that denies ends it if one of its kinds is still open.
fn program(rules: &[LinuxDeviceCgroup]) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
    let mut code = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(COPY_32, OPEN, TYPE, 0, 0),
        instruction(AND_32, TYPE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, OPEN, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let then = consequence(rule);
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => Some(1),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(2),
            _ => None,
        };
        let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        let conditions: Vec<(u64, u32)> = [
            (TYPE, kind),
            (MAJOR, number(rule.major())),
            (MINOR, number(rule.minor())),
        ]
        .into_iter()
        .filter_map(|(register, wanted)| Some((register, wanted?)))
        .collect();
        for (index, (register, wanted)) in conditions.iter().enumerate() {
            let skip = conditions.len() - index - 1 + then.len();
            code.push(instruction(JUMP_NOT_EQUAL, *register, 0, skip as i16, *wanted));
        }
        code.extend(then);
    }
    // What no rule names was never denied.
    code.extend([instruction(MOVE_32, ANSWER, 0, 0, 1), EXIT]);
    code
}

/// What follows when a rule is about the device.
fn consequence(rule: &LinuxDeviceCgroup) -> Vec<u64> {
    let mask = access(rule);
    let decide = |allow| [instruction(MOVE_32, ANSWER, 0, 0, allow), EXIT];
    // A register that differs from path to path makes the kernel check the rest of the program once for each of them.
    let mut code = match rule.allow() {
        true if mask == EVERY => Vec::new(),
        true => vec![
            instruction(AND_32, OPEN, 0, 0, !mask),
            instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0),
        ],
        false => vec![
            instruction(COPY_32, SCRATCH, OPEN, 0, 0),
            instruction(AND_32, SCRATCH, 0, 0, mask),
            instruction(JUMP_EQUAL, SCRATCH, 0, 2, 0),
        ],
    };
    code.extend(decide(rule.allow().into()));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    fn run(code: &[u64], kind: u32, number: (u32, u32), access: u32) -> bool {
        let context = [access << 16 | kind, number.0, number.1];
        let (mut registers, mut at) = ([0u64; 11], 0);
        loop {
            let (op, to, from) = (
                code[at] & 0xff,
                (code[at] >> 8 & 15) as usize,
                (code[at] >> 12 & 15) as usize,
            );
            let (offset, value) = ((code[at] >> 16) as i16, code[at] >> 32);
            at += 1;
            let jump = match op {
                JUMP_EQUAL => registers[to] == value,
                JUMP_NOT_EQUAL => registers[to] != value,
                _ => false,
            };
            match op {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOVE_32 => registers[to] = value,
                COPY_32 => registers[to] = registers[from],
                AND_32 => registers[to] &= value,
                SHIFT_RIGHT_32 => registers[to] >>= value,
                EXIT => return registers[0] == 1,
                _ => at += if jump { offset as usize } else { 0 },
            }
        }
    }

    #[test]
    fn the_last_rule_that_names_a_kind_of_access_decides_it() {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
                {"allow": true, "type": "b", "major": 8, "access": "r"},
                {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "r"},
                {"allow": true, "type": "c", "major": 7, "access": "r"},
                {"allow": true, "type": "c", "major": 7, "access": "w"}]"#,
        )
        .unwrap();
        let code = program(&complete(Some(&rules)));
        let (block, character) = (1, 2);
        for (kind, number, access, expected) in [
            (character, (1, 3), READ | WRITE | MKNOD, true),
            (character, (10, 229), READ | WRITE, true),
            (character, (10, 229), READ | WRITE | MKNOD, true),
            (character, (10, 230), READ, false),
            (character, (10, 230), MKNOD, true),
            (block, (8, 0), READ, true),
            (block, (8, 0), WRITE, false),
            (block, (8, 0), READ | WRITE, false),
            (block, (8, 1), READ, false),
            (character, (7, 5), READ | WRITE, true),
            (character, (136, 77), READ | WRITE, true),
        ] {
            assert_eq!(run(&code, kind, number, access), expected, "{kind} {number:?} {access}");
        }
    }

    #[test]
    fn nothing_is_enforced_where_nothing_is_denied() {
        assert!(complete(None).is_empty());
        let all: Vec<LinuxDeviceCgroup> = serde_json::from_str(r#"[{"allow": true, "access": "rwm"}]"#).unwrap();
        assert!(complete(Some(&all)).is_empty());
    }
}
