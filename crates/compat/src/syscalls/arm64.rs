//! Decoding arm64 code as far as calls, addresses and the register of system calls' numbers (x8) go.

use std::collections::HashMap;

use super::graph::{ARGUMENTS, Call, Function, Graph, To, Value, through};
use super::module::Module;

const LABELS: usize = 4096;
/// The register of the number, and of the address in stubs.
const NUMBER: usize = 8;
/// Registers that a call may change.
const CHANGED: usize = 19;

/// The graph of a file.
pub fn graph(module: &Module<'_>) -> Graph {
    let (mut functions, mut stubs) = (Vec::new(), HashMap::new());
    for (start, next, bytes) in module.functions() {
        let mut reader = Reader::new(module, start, next);
        reader.read(bytes, &mut stubs);
        functions.push(reader.function);
    }
    functions.sort_by_key(|f| f.start);
    Graph::new(module, functions, &stubs)
}

struct Reader<'a, 'm> {
    module: &'m Module<'a>,
    function: Function,
    registers: [Value; 32],
    /// Addresses that are being put together (adrp and what follows).
    addresses: [Option<u64>; 32],
    /// Where an address was loaded from.
    loaded: [Option<u64>; 32],
    labels: HashMap<u64, [Value; 32]>,
    straight: bool,
    /// Where the adrp of a stub was.
    stub: u64,
}

impl<'a, 'm> Reader<'a, 'm> {
    fn new(module: &'m Module<'a>, start: u64, end: u64) -> Self {
        let mut registers = [Value::Unknown; 32];
        for (position, register) in registers.iter_mut().enumerate().take(ARGUMENTS) {
            *register = Value::Argument(position as u8);
        }
        Reader {
            module,
            function: Function {
                start,
                end,
                straight: end,
                ..Function::default()
            },
            registers,
            addresses: [None; 32],
            loaded: [None; 32],
            labels: HashMap::new(),
            straight: true,
            stub: 0,
        }
    }

    fn read(&mut self, bytes: &[u8], stubs: &mut HashMap<u64, To>) {
        for (index, word) in bytes.chunks_exact(4).enumerate() {
            let at = self.function.start + index as u64 * 4;
            let op = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if let Some(before) = self.labels.remove(&at) {
                for (mine, theirs) in self.registers.iter_mut().zip(before) {
                    *mine = mine.or(theirs);
                }
            }
            if !self.jumps(op, at, stubs) {
                self.plain(op, at);
            }
        }
    }

    fn leads(&mut self, to: To) {
        self.function.leads.push(to);
        if self.straight {
            self.function.surely.push(to);
        }
    }

    fn not_straight(&mut self, at: u64) {
        if self.straight {
            (self.straight, self.function.straight) = (false, at);
        }
    }

    /// Branches, calls and system calls; whether it was one.
    fn jumps(&mut self, op: u32, at: u64, stubs: &mut HashMap<u64, To>) -> bool {
        let far = |bits: u32, shift: u32| {
            let value = (op >> shift) & ((1 << bits) - 1);
            at.wrapping_add_signed(i64::from(((value << (32 - bits)) as i32) >> (32 - bits)) * 4)
        };
        let register = (op >> 5 & 31) as usize;
        if op == 0xd400_0001 {
            self.system_call();
        } else if op & 0xfc00_0000 == 0x9400_0000 {
            self.called(To::Address(far(26, 0)));
        } else if op & 0xfc00_0000 == 0x1400_0000 {
            self.branch(far(26, 0), at);
            self.ends(at);
        } else if op & 0xff00_0010 == 0x5400_0000 || op & 0x7e00_0000 == 0x3400_0000 {
            self.branch(far(19, 5), at);
        } else if op & 0x7e00_0000 == 0x3600_0000 {
            self.branch(far(14, 5), at);
        } else if op & 0xffff_fc1f == 0xd65f_0000 {
            self.ends(at);
        } else if op & 0xffff_fc1f == 0xd61f_0000 {
            if let Some(to) = self.loaded[register].and_then(|place| through(self.module, place)) {
                self.leads(to);
                if register == 17 {
                    stubs.insert(self.stub, to);
                    stubs.insert(self.stub.wrapping_sub(4), to);
                }
            }
            self.ends(at);
        } else if op & 0xffff_fc1f == 0xd63f_0000 {
            match self.loaded[register].and_then(|place| through(self.module, place)) {
                Some(to) => self.called(to),
                None => self.after_call(),
            }
        } else {
            return false;
        }
        true
    }

    fn system_call(&mut self) {
        match self.registers[NUMBER] {
            Value::Unknown => self.function.unknown += 1,
            value => _ = self.function.is_told(value),
        }
        self.registers[0] = Value::Unknown;
    }

    fn called(&mut self, to: To) {
        self.leads(to);
        self.note_call(to);
        self.after_call();
    }

    fn note_call(&mut self, to: To) {
        let mut arguments = [Value::Unknown; ARGUMENTS];
        arguments.copy_from_slice(&self.registers[..ARGUMENTS]);
        if arguments.iter().any(|a| *a != Value::Unknown) {
            self.function.calls.push(Call { to, arguments });
        }
    }

    fn after_call(&mut self) {
        for number in 0..CHANGED {
            self.set(number, Value::Unknown);
        }
    }

    fn set(&mut self, number: usize, value: Value) {
        (self.registers[number], self.addresses[number], self.loaded[number]) = (value, None, None);
    }

    fn branch(&mut self, target: u64, at: u64) {
        if !(self.function.start..self.function.end).contains(&target) {
            self.leads(To::Address(target));
            self.note_call(To::Address(target));
        } else if target > at && self.labels.len() < LABELS {
            let now = self.registers;
            let before = self.labels.entry(target).or_insert(now);
            for (theirs, mine) in before.iter_mut().zip(now) {
                *theirs = theirs.or(mine);
            }
        }
        self.not_straight(at);
    }

    fn ends(&mut self, at: u64) {
        self.not_straight(at);
        self.registers = [Value::Unknown; 32];
        (self.addresses, self.loaded) = ([None; 32], [None; 32]);
    }

    fn plain(&mut self, op: u32, at: u64) {
        let (target, source) = ((op & 31) as usize, (op >> 5 & 31) as usize);
        if op & 0x9f00_0000 == 0x9000_0000 || op & 0x9f00_0000 == 0x1000_0000 {
            let value = (op >> 5 & 0x7_ffff) << 2 | op >> 29 & 3;
            let value = i64::from((value << 11) as i32 >> 11);
            let page = op & 0x8000_0000 != 0;
            let address = if page {
                (at & !0xfff).wrapping_add_signed(value << 12)
            } else {
                at.wrapping_add_signed(value)
            };
            self.set(target, Value::Unknown);
            self.addresses[target] = Some(address);
            if target == 16 {
                self.stub = at;
            }
            if !page {
                self.taken(address);
            }
        } else if op & 0xff80_0000 == 0x9100_0000 {
            let amount = u64::from(op >> 10 & 0xfff) << if op & 0x40_0000 != 0 { 12 } else { 0 };
            let address = self.addresses[source].map(|a| a.wrapping_add(amount));
            let loaded = self.loaded[source].filter(|_| source == target);
            self.set(target, Value::Unknown);
            (self.addresses[target], self.loaded[target]) = (address, loaded);
            address.into_iter().for_each(|a| self.taken(a));
        } else if op & 0xffc0_0000 == 0xf940_0000 {
            let place = self.addresses[source].map(|a| a.wrapping_add(u64::from(op >> 10 & 0xfff) * 8));
            let from_stack = source == 31 || source == 29;
            self.set(target, if from_stack { Value::Stack } else { Value::Unknown });
            self.loaded[target] = place;
            let to = place.filter(|_| target != 17).and_then(|p| through(self.module, p));
            to.into_iter().for_each(|to| self.leads(to));
        } else if op & 0x7f80_0000 == 0x5280_0000 {
            let shift = (op >> 21 & 3) * 16;
            let value = if shift < 32 { (op >> 5 & 0xffff) << shift } else { 0 };
            self.set(target, Value::Number(value));
        } else if op & 0x7fe0_ffe0 == 0x2a00_03e0 {
            let from = (op >> 16 & 31) as usize;
            let value = if from == 31 {
                Value::Number(0)
            } else {
                self.registers[from]
            };
            let (address, loaded) = (self.addresses[from], self.loaded[from]);
            self.set(target, value);
            (self.addresses[target], self.loaded[target]) = (address, loaded);
        } else if op & 0x7fe0_0c00 == 0x1a80_0000 {
            // csel: one or the other.
            let other = (op >> 16 & 31) as usize;
            let value = self.registers[source].or(self.registers[other]);
            self.set(target, value);
        } else if writes(op) {
            self.set(target, Value::Unknown);
        }
    }

    fn taken(&mut self, address: u64) {
        if self.module.executable(address) {
            self.leads(To::Address(address));
        }
    }
}

/// Whether the lowest five bits name a register that is written: not so for stores and the like.
fn writes(op: u32) -> bool {
    let group = op >> 25 & 15;
    let memory = group & 0b0101 == 0b0100;
    if !memory {
        return group & 0b1000 != 0 || group & 0b0111 == 0b0101;
    }
    // Loads have a bit, in each form another; a load is taken for one.
    op & 0x0040_0000 != 0 || op & 0x3b00_0000 == 0x1800_0000
}
