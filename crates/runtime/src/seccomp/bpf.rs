//! The assembler: sections, a binary search in each, comparisons of arguments at its leaves.

use std::collections::BTreeMap;

use errdefs::{Error, Result};
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};
use sys::seccomp::Instruction;

use super::{ENOSYS, Verdict, action};

/// The filter of one architecture.
pub(super) struct Section {
    pub audit: u32,
    pub verdicts: BTreeMap<u32, Verdict>,
    /// The highest number that a rule names.
    pub newest: u32,
    /// What calls without a rule get.
    pub default: u32,
    /// The same beyond `newest`.
    pub newer: u32,
    /// Whether the numbers of x32 come in under the same `audit`.
    pub x32: bool,
}

/// The kernel takes no longer program.
pub(super) const LIMIT: usize = 4096;
const X32_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

// BPF operations (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// All sections, one after the other; a call of an architecture that has none kills its process.
pub(super) fn assemble(sections: &[Section]) -> Result<Vec<Instruction>> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for section in sections {
        let body = section.assemble();
        program.push(branch(IF_EQUAL, section.audit, 1, 0));
        program.push(plain(JUMP, body.len() as u32));
        program.extend(body);
    }
    program.push(plain(RETURN, action::KILL_PROCESS));
    match program.len() <= LIMIT {
        true => Ok(program),
        false => Err(Error::invalid(format!(
            "the seccomp profile is too long: {} of {LIMIT} instructions",
            program.len()
        ))),
    }
}

impl Section {
    fn assemble(&self) -> Vec<Instruction> {
        let mut body = vec![plain(LOAD, NUMBER)];
        body.extend(search(&self.ranges()));
        body
    }

    /// Ranges of numbers with what they get; each starts where the one before ends.
    fn ranges(&self) -> Vec<(u32, Vec<Instruction>)> {
        let mut ranges: Vec<(u32, Vec<Instruction>)> = Vec::new();
        let mut next = 0;
        let gap = vec![plain(RETURN, self.default)];
        for (number, verdict) in &self.verdicts {
            if *number > next {
                push(&mut ranges, next, gap.clone());
            }
            push(&mut ranges, *number, leaf(verdict, self.default));
            next = number + 1;
        }
        push(
            &mut ranges,
            self.newest.saturating_add(1),
            vec![plain(RETURN, self.newer)],
        );
        if self.x32 {
            push(&mut ranges, X32_BIT, vec![plain(RETURN, action::ERRNO | ENOSYS)]);
        }
        ranges
    }
}

/// Neighbours that get the same are one range.
fn push(ranges: &mut Vec<(u32, Vec<Instruction>)>, start: u32, code: Vec<Instruction>) {
    if ranges.last().is_none_or(|(_, last)| *last != code) {
        ranges.push((start, code));
    }
}

fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [(_, code)] = ranges {
        return code.clone();
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (start, (lower, upper)) = (upper[0].0, (search(lower), search(upper)));
    let mut code = match u8::try_from(lower.len()) {
        Ok(distance) => vec![branch(IF_AT_LEAST, start, distance, 0)],
        Err(_) => vec![branch(IF_AT_LEAST, start, 0, 1), plain(JUMP, lower.len() as u32)],
    };
    code.extend(lower);
    code.extend(upper);
    code
}

fn leaf(verdict: &Verdict, default: u32) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, action) in &verdict.conditional {
        code.extend(rule(conditions, *action));
    }
    code.push(plain(RETURN, verdict.otherwise.unwrap_or(default)));
    code
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum To {
    /// The instruction after this one.
    Next,
    /// This condition holds.
    Holds,
    /// It does not: the whole rule does not.
    Fails,
}

/// All conditions, then the action; past it if one fails.
fn rule(conditions: &[LinuxSeccompArg], action: u32) -> Vec<Instruction> {
    let parts: Vec<Vec<(Instruction, To, To)>> = conditions.iter().map(condition).collect();
    let total: usize = parts.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for part in parts {
        let end = code.len() + part.len();
        for (mut instruction, yes, no) in part {
            let at = code.len() + 1;
            // At most six conditions of six instructions: every distance fits.
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => (end - at) as u8,
                To::Fails => (total - at) as u8,
            };
            (instruction.jt, instruction.jf) = (distance(yes), distance(no));
            code.push(instruction);
        }
    }
    code.push(plain(RETURN, action));
    code
}

/// A 64-bit comparison by its two halves; the machines that we run on are little-endian.
fn condition(argument: &LinuxSeccompArg) -> Vec<(Instruction, To, To)> {
    use LinuxSeccompOperator::*;
    let offset = ARGUMENTS + 8 * (argument.index().min(5) as u32);
    let (low, high) = (plain(LOAD, offset), plain(LOAD, offset + 4));
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let step = |instruction| (instruction, To::Next, To::Next);
    let test = |code, k, yes, no| (plain(code, k), yes, no);
    let (l, h) = halves(argument.value());
    let ordered = |code, holds: To, fails: To| {
        vec![
            step(high),
            test(IF_GREATER, h, holds, To::Next),
            test(IF_EQUAL, h, To::Next, fails),
            step(low),
            test(code, l, holds, fails),
        ]
    };
    match argument.op() {
        ScmpCmpEq => vec![
            step(high),
            test(IF_EQUAL, h, To::Next, To::Fails),
            step(low),
            test(IF_EQUAL, l, To::Holds, To::Fails),
        ],
        ScmpCmpNe => vec![
            step(high),
            test(IF_EQUAL, h, To::Next, To::Holds),
            step(low),
            test(IF_EQUAL, l, To::Fails, To::Holds),
        ],
        ScmpCmpGt => ordered(IF_GREATER, To::Holds, To::Fails),
        ScmpCmpGe => ordered(IF_AT_LEAST, To::Holds, To::Fails),
        ScmpCmpLt => ordered(IF_AT_LEAST, To::Fails, To::Holds),
        ScmpCmpLe => ordered(IF_GREATER, To::Fails, To::Holds),
        ScmpCmpMaskedEq => {
            let (wanted_low, wanted_high) = halves(argument.value_two().unwrap_or(0));
            vec![
                step(high),
                step(plain(AND, h)),
                test(IF_EQUAL, wanted_high, To::Next, To::Fails),
                step(low),
                step(plain(AND, l)),
                test(IF_EQUAL, wanted_low, To::Holds, To::Fails),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{compile, default_profile};
    use oci_spec::runtime::{Capability, LinuxSeccomp};

    /// Runs a filter as the kernel does.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        arguments.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut at, mut value) = (0, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            let jump = |holds| usize::from(if holds { jt } else { jf });
            at += 1;
            match code {
                LOAD => value = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                AND => value &= k,
                JUMP => at += k as usize,
                IF_EQUAL => at += jump(value == k),
                IF_GREATER => at += jump(value > k),
                IF_AT_LEAST => at += jump(value >= k),
                RETURN => return k,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    const X86_64: u32 = 0xc000_003e;
    const X86: u32 = 0x4000_0003;
    const NO: u32 = action::ERRNO | 1;
    const UNKNOWN: u32 = action::ERRNO | ENOSYS;

    #[test]
    fn every_comparison_holds_exactly_when_it_should() {
        let values = [
            0,
            1,
            5,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0005,
            0x5_0000_0000,
            u64::MAX,
        ];
        type Operator = (&'static str, fn(u64, u64) -> bool);
        let operators: [Operator; 6] = [
            ("EQ", |a, b| a == b),
            ("NE", |a, b| a != b),
            ("GT", |a, b| a > b),
            ("GE", |a, b| a >= b),
            ("LT", |a, b| a < b),
            ("LE", |a, b| a <= b),
        ];
        for (name, expected) in operators {
            for value in values {
                let json = format!(
                    r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
                    "args":[{{"index":2,"value":{value},"op":"SCMP_CMP_{name}"}}]}}]}}"#
                );
                let (program, _) = compile(&serde_json::from_str::<LinuxSeccomp>(&json).unwrap()).unwrap();
                for argument in values {
                    let got = run(&program, X86_64, 0, [9, 9, argument, 9, 9, 9]);
                    assert_eq!(
                        got == action::ALLOW,
                        expected(argument, value),
                        "{argument:#x} {name} {value:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_default_profile_decides_as_dockers() {
        let (program, _) = compile(&default_profile(&[])).unwrap();
        let call = |number, first| run(&program, X86_64, number, [first, 0, 0, 0, 0, 0]);
        let table = [
            ("read", 0, 0, action::ALLOW),
            ("mount", 165, 0, NO),
            ("unshare", 272, 0, NO),
            ("clone a thread", 56, 0x3d_0f00, action::ALLOW),
            ("clone a user namespace", 56, 0x1000_0000, NO),
            ("clone3", 435, 0, UNKNOWN),
            ("socket AF_UNIX", 41, 1, action::ALLOW),
            ("socket AF_VSOCK", 41, 40, NO),
            ("personality ADDR_NO_RANDOMIZE", 135, 0x4_0000, NO),
            ("personality 0", 135, 0, action::ALLOW),
            ("keyctl", 250, 0, NO),
            ("io_uring_setup", 425, 0, NO),
            ("a call of the future", 999, 0, UNKNOWN),
            ("a number in a gap", 400, 0, UNKNOWN),
            ("x32", X32_BIT | 1, 0, UNKNOWN),
        ];
        for (name, number, first, expected) in table {
            assert_eq!(call(number, first), expected, "{name}");
        }
        assert_eq!(run(&program, X86, 3, [0; 6]), action::ALLOW, "read of 32-bit programs");
        assert_eq!(run(&program, X86, 21, [0; 6]), NO, "mount of 32-bit programs");
        assert_eq!(run(&program, 0x1234, 0, [0; 6]), action::KILL_PROCESS);
        let (program, _) = compile(&default_profile(&[Capability::SysAdmin])).unwrap();
        assert_eq!(
            run(&program, X86_64, 165, [0; 6]),
            action::ALLOW,
            "mount with CAP_SYS_ADMIN"
        );
        assert_eq!(
            run(&program, X86_64, 435, [0; 6]),
            action::ALLOW,
            "clone3 with CAP_SYS_ADMIN"
        );
    }
}
