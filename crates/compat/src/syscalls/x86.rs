//! Decoding x86 code, 64 and 32 bit, a function at a time.

use std::collections::HashMap;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::elf as raw;

use super::graph::{ARGUMENTS, Call, Function, Graph, To, Value, through};
use super::module::Module;

/// Bytes of a function that may begin a byte later.
const SHORT: usize = 32;
/// Labels whose registers are remembered, in one function.
const LABELS: usize = 4096;
/// Numbers of the registers that arguments are in: rdi, rsi, rdx, rcx, r8, r9.
const IN: [usize; 6] = [7, 6, 2, 1, 8, 9];
/// In i386 some functions inside a library have theirs in eax, edx and ecx.
const IN_NARROW: [usize; 3] = [0, 2, 1];
const RAX: usize = 0;
const RSP: Register = Register::RSP;

type Registers = [Value; 16];

/// The graph of a file.
pub fn graph(module: &Module<'_>) -> Graph {
    let wide = module.elf.machine == raw::EM_X86_64;
    let tracks = tracks(module, wide);
    let mut stubs = HashMap::new();
    let mut functions = Vec::new();
    for (start, next, bytes) in module.functions() {
        let mut reader = Reader::new(module, wide, tracks, start, next);
        reader.read(bytes, start, &mut stubs);
        // The C library's way back from signal handlers is said to begin a byte before it does.
        if bytes.len() <= SHORT && reader.function.unknown > 0 {
            reader.function.unknown = 0;
            reader.read(&bytes[1..], start + 1, &mut stubs);
        }
        functions.push(reader.function);
    }
    functions.sort_by_key(|f| f.start);
    Graph::new(module, functions, &stubs)
}

/// Whether registers have to be followed: the file makes system calls itself, or asks the C library's `syscall` to.
fn tracks(module: &Module<'_>, wide: bool) -> bool {
    let mut code = module.elf.segments.iter().filter(|s| s.executable());
    let needles: &[&[u8]] = if wide {
        &[b"\x0f\x05"]
    } else {
        &[b"\xcd\x80", b"\x65\xff\x15\x10\0\0\0", b"\x0f\x34"]
    };
    let has = |bytes: &[u8]| needles.iter().any(|n| memchr::memmem::find(bytes, n).is_some());
    module.names.contains(&&b"syscall"[..]) || code.any(|s| module.elf.bytes(s.offset, s.size).is_some_and(has))
}

struct Reader<'a, 'm> {
    module: &'m Module<'a>,
    wide: bool,
    tracks: bool,
    function: Function,
    registers: Registers,
    pushed: Value,
    labels: HashMap<u64, Registers>,
    /// Before any branch.
    straight: bool,
    /// The place of the table of addresses (i386), for code that finds itself by it.
    base: u64,
}

impl<'a, 'm> Reader<'a, 'm> {
    fn new(module: &'m Module<'a>, wide: bool, tracks: bool, start: u64, end: u64) -> Self {
        let mut registers = [Value::Unknown; 16];
        let places = if wide { &IN[..] } else { &IN_NARROW[..] };
        for (position, register) in places.iter().enumerate() {
            registers[*register] = Value::Argument(position as u8);
        }
        Reader {
            module,
            wide,
            tracks,
            function: Function {
                start,
                end,
                straight: end,
                ..Function::default()
            },
            registers,
            pushed: Value::Unknown,
            labels: HashMap::new(),
            straight: true,
            base: module.elf.dynamic_value(raw::DT_PLTGOT.into()).unwrap_or(0),
        }
    }

    fn read(&mut self, bytes: &[u8], from: u64, stubs: &mut HashMap<u64, To>) {
        let bits = if self.wide { 64 } else { 32 };
        let mut decoder = Decoder::with_ip(bits, bytes, from, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut marker = None;
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            let at = instruction.ip();
            if self.tracks
                && let Some(before) = self.labels.remove(&at)
            {
                for (mine, theirs) in self.registers.iter_mut().zip(before) {
                    *mine = mine.or(theirs);
                }
            }
            if instruction.is_invalid() {
                continue;
            }
            self.one(&instruction);
            // Stubs: a jump through a slot, with or without a landing mark before it.
            if instruction.flow_control() == FlowControl::IndirectBranch
                && let Some(to) = self.place(&instruction).and_then(|p| through(self.module, p))
            {
                stubs.insert(at, to);
                stubs.extend(marker.map(|m| (m, to)));
            }
            marker = matches!(instruction.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Endbr32).then_some(at);
        }
    }

    fn one(&mut self, instruction: &Instruction) {
        // To the decoder these are calls, too.
        if matches!(instruction.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter) {
            return self.system_call();
        }
        match instruction.flow_control() {
            FlowControl::Next => self.plain(instruction),
            FlowControl::Call => self.call(instruction),
            FlowControl::IndirectCall => self.indirect_call(instruction),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                self.branch(instruction)
            }
            FlowControl::IndirectBranch => {
                let place = self.place(instruction).and_then(|p| through(self.module, p));
                self.leads(place);
                self.ends();
            }
            FlowControl::Return => self.ends(),
            FlowControl::Interrupt => {
                if instruction.mnemonic() == Mnemonic::Int && instruction.immediate8() == 0x80 {
                    self.system_call();
                }
            }
            FlowControl::Exception => self.ends(),
        }
    }

    /// What comes next is reached from elsewhere alone.
    fn ends(&mut self) {
        self.not_straight(None);
        self.registers = [Value::Unknown; 16];
        self.pushed = Value::Unknown;
    }

    fn not_straight(&mut self, at: Option<u64>) {
        if self.straight {
            self.straight = false;
            self.function.straight = at.unwrap_or(self.function.straight);
        }
    }

    fn leads(&mut self, to: Option<To>) {
        if let Some(to) = to {
            self.function.leads.push(to);
            if self.straight {
                self.function.surely.push(to);
            }
        }
    }

    fn system_call(&mut self) {
        if !self.tracks {
            return;
        }
        match self.registers[RAX] {
            Value::Unknown => self.function.unknown += 1,
            value => _ = self.function.is_told(value),
        }
        self.registers[RAX] = Value::Unknown;
        if self.wide {
            self.registers[1] = Value::Unknown;
            self.registers[11] = Value::Unknown;
        }
    }

    fn call(&mut self, instruction: &Instruction) {
        let target = instruction.near_branch_target();
        // `mov (%esp),%reg; ret`: how i386 code asks where it is.
        if !self.wide
            && let Some([0x8b, register, 0x24, 0xc3]) = self.module.elf.at(target).and_then(|code| code.get(..4))
        {
            self.registers[usize::from(register >> 3 & 7)] = Value::Unknown;
            return;
        }
        // `call next; pop`: how i386 code finds itself.
        if target != instruction.next_ip() {
            self.leads(Some(To::Address(target)));
            self.note_call(To::Address(target));
        }
        self.after_call();
    }

    fn indirect_call(&mut self, instruction: &Instruction) {
        if !self.wide && instruction.memory_segment() == Register::GS && instruction.memory_displacement32() == 0x10 {
            self.system_call();
            return;
        }
        if let Some(to) = self.place(instruction).and_then(|p| through(self.module, p)) {
            self.leads(Some(to));
            self.note_call(to);
        }
        self.after_call();
    }

    fn note_call(&mut self, to: To) {
        if !self.tracks {
            return;
        }
        let mut arguments = [Value::Unknown; ARGUMENTS];
        let places = if self.wide { &IN[..] } else { &IN_NARROW[..] };
        for (argument, register) in arguments.iter_mut().zip(places) {
            *argument = self.registers[*register];
        }
        arguments[ARGUMENTS - 1] = self.pushed;
        if arguments.iter().any(|a| *a != Value::Unknown) {
            self.function.calls.push(Call { to, arguments });
        }
    }

    /// What a call may change.
    fn after_call(&mut self) {
        let kept: &[usize] = if self.wide {
            &[3, 5, 12, 13, 14, 15]
        } else {
            &[3, 5, 6, 7]
        };
        for (number, register) in self.registers.iter_mut().enumerate() {
            if !kept.contains(&number) {
                *register = Value::Unknown;
            }
        }
        self.pushed = Value::Unknown;
    }

    fn branch(&mut self, instruction: &Instruction) {
        let target = instruction.near_branch_target();
        let inside = (self.function.start..self.function.end).contains(&target);
        let conditional = instruction.flow_control() != FlowControl::UnconditionalBranch;
        if !inside {
            if conditional {
                self.not_straight(Some(instruction.ip()));
            }
            self.leads(Some(To::Address(target)));
            // A jump to a function that is told a number passes it on.
            self.note_call(To::Address(target));
        } else if self.tracks && target > instruction.ip() && self.labels.len() < LABELS {
            let now = self.registers;
            let before = self.labels.entry(target).or_insert(now);
            for (theirs, mine) in before.iter_mut().zip(now) {
                *theirs = theirs.or(mine);
            }
        }
        self.not_straight(Some(instruction.ip()));
        if !conditional {
            self.ends();
        }
    }

    /// The address of an operand in memory, where that is fixed.
    fn place(&self, instruction: &Instruction) -> Option<u64> {
        let memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
        if !memory {
            return None;
        }
        if instruction.is_ip_rel_memory_operand() {
            return Some(instruction.ip_rel_memory_address());
        }
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        match (base, index) {
            (Register::None, Register::None) => Some(instruction.memory_displacement64()),
            // i386: from the table of addresses on, whose place is in a register, most often ebx.
            (_, Register::None) if !self.wide && base != Register::ESP && base != Register::EBP && self.base != 0 => {
                Some(u64::from(
                    (self.base as u32).wrapping_add(instruction.memory_displacement32()),
                ))
            }
            _ => None,
        }
    }

    fn plain(&mut self, instruction: &Instruction) {
        self.addresses(instruction);
        if self.tracks {
            self.follow(instruction);
        }
    }

    /// Functions whose address is taken.
    fn addresses(&mut self, instruction: &Instruction) {
        let module = self.module;
        if let Some(place) = self.place(instruction) {
            if instruction.mnemonic() == Mnemonic::Lea {
                let known = module.executable(place);
                self.leads(known.then_some(To::Address(place)));
            } else if instruction.mnemonic() == Mnemonic::Mov
                || instruction.mnemonic() == Mnemonic::Push
                || instruction.mnemonic() == Mnemonic::Cmp
            {
                self.leads(through(module, place));
            }
        }
        // In a file that is loaded where it says, an address is a number like others.
        if module.elf.kind == raw::ET_EXEC {
            for index in 0..instruction.op_count() {
                if matches!(
                    instruction.op_kind(index),
                    OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
                ) {
                    let value = number_in(instruction, index).unwrap_or_default();
                    let known = module.starts.binary_search(&value).is_ok();
                    self.leads(known.then_some(To::Address(value)));
                }
            }
        }
    }

    /// What becomes of registers.
    fn follow(&mut self, instruction: &Instruction) {
        use Mnemonic as M;
        let register = |index: u32| {
            (instruction.op_kind(index) == OpKind::Register)
                .then(|| instruction.op_register(index))
                .filter(|r| r.is_gpr())
        };
        let number = |r: Register| r.full_register().number();
        match instruction.mnemonic() {
            M::Cmp | M::Test | M::Nop | M::Endbr64 | M::Endbr32 => return,
            M::Push => {
                self.pushed = match instruction.op0_kind() {
                    OpKind::Register => register(0).map_or(Value::Unknown, |r| self.registers[number(r)]),
                    OpKind::Memory => self.loaded(instruction),
                    _ => immediate(instruction, 0),
                };
                return;
            }
            M::Mov if instruction.op0_kind() == OpKind::Memory => {
                // An argument that is put on the stack: at its top in i386, for the seventh in x86-64.
                if instruction.memory_base().full_register() == RSP && instruction.memory_displacement64() == 0 {
                    self.pushed = match register(1) {
                        Some(r) => self.registers[number(r)],
                        None => immediate(instruction, 1),
                    };
                }
                return;
            }
            M::Cpuid | M::Rdtsc | M::Rdtscp | M::Mul | M::Div | M::Idiv | M::Cdq | M::Cqo | M::Cmpxchg | M::Cdqe => {
                for number in [0, 1, 2, 3] {
                    self.registers[number] = Value::Unknown;
                }
            }
            M::Xchg | M::Xadd => {
                for index in 0..2 {
                    if let Some(r) = register(index) {
                        self.registers[number(r)] = Value::Unknown;
                    }
                }
                return;
            }
            _ => {}
        }
        let Some(target) = register(0) else { return };
        let old = self.registers[number(target)];
        let value = match instruction.mnemonic() {
            _ if target.size() < 4 => Value::Unknown,
            M::Mov => match (instruction.op1_kind(), register(1)) {
                (OpKind::Register, Some(r)) => self.registers[number(r)],
                (OpKind::Memory, _) => self.loaded(instruction),
                (OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64, _) => immediate(instruction, 1),
                _ => Value::Unknown,
            },
            M::Movsxd => register(1).map_or(Value::Unknown, |r| self.registers[number(r)]),
            M::Xor | M::Sub if register(1) == Some(target) => Value::Number(0),
            M::Or if is_minus_one(instruction) => Value::Number(u32::MAX),
            M::Add => match (old, instruction.op1_kind()) {
                (Value::Number(n), OpKind::Immediate8to32 | OpKind::Immediate8to64 | OpKind::Immediate32) => {
                    Value::Number(n.wrapping_add(number_in(instruction, 1).unwrap_or_default() as u32))
                }
                _ => Value::Unknown,
            },
            M::Lea => match (instruction.memory_base(), instruction.memory_index()) {
                (base, Register::None) if base.is_gpr() && base != RSP => match self.registers[number(base)] {
                    Value::Number(n) => Value::Number(n.wrapping_add(instruction.memory_displacement32())),
                    _ => Value::Unknown,
                },
                _ => Value::Unknown,
            },
            M::Pop if instruction.code() == Code::Pop_r64 || instruction.code() == Code::Pop_r32 => {
                // `push $N; pop %rax` is how small code says it.
                std::mem::take(&mut self.pushed)
            }
            _ if is_conditional_move(instruction.mnemonic()) => {
                register(1).map_or(old, |r| old.or(self.registers[number(r)]))
            }
            _ => Value::Unknown,
        };
        self.registers[number(target)] = value;
    }

    /// A value from memory: from the stack it may be an argument.
    fn loaded(&self, instruction: &Instruction) -> Value {
        let base = instruction.memory_base().full_register();
        let stack = base == RSP || base == Register::RBP;
        if stack && instruction.memory_index() == Register::None {
            Value::Stack
        } else {
            Value::Unknown
        }
    }
}

/// The number that is an operand, if it is one. (The decoder's own way to ask panics where it is none.)
fn number_in(instruction: &Instruction, operand: u32) -> Option<u64> {
    instruction.try_immediate(operand).ok()
}

fn immediate(instruction: &Instruction, operand: u32) -> Value {
    number_in(instruction, operand).map_or(Value::Unknown, |number| Value::Number(number as u32))
}

fn is_minus_one(instruction: &Instruction) -> bool {
    number_in(instruction, 1).is_some_and(|number| number as u32 == u32::MAX)
}

fn is_conditional_move(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmove
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovne
            | M::Cmovs
            | M::Cmovns
    )
}
