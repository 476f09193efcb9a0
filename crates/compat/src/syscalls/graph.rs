//! What the code of one file comes to: for each function whom it calls, and which system calls it makes itself.

use std::collections::HashMap;

use super::module::{Module, Put};

/// What is known of a register, or of an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    #[default]
    Unknown,
    /// This number.
    Number(u32),
    /// One of two.
    Either(u32, u32),
    /// What the function's caller had in that argument.
    Argument(u8),
    /// Something from the stack: an argument that came there.
    Stack,
}

impl Value {
    /// On two ways to the same place.
    pub fn or(self, other: Value) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Value::Number(a), Value::Number(b)) => Value::Either(a, b),
            // What is known on one way is worth more than nothing.
            (Value::Number(_) | Value::Either(..), _) => self,
            (_, Value::Number(_) | Value::Either(..)) => other,
            _ => Value::Unknown,
        }
    }

    /// The numbers it may be.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        let (first, second) = match self {
            Value::Number(a) => (Some(a), None),
            Value::Either(a, b) => (Some(a), Some(b)),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// Where a function that makes the system call which it is told has the number from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// An argument in a register, by its position.
    Register(u8),
    /// The stack.
    Stack,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// A function of this file.
    Address(u64),
    /// A symbol.
    Symbol(u32),
}

/// Arguments that are kept of a call: six in registers, and the last one that was pushed.
pub const ARGUMENTS: usize = 7;

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Where to.
    pub to: To,
    /// What it is given.
    pub arguments: [Value; ARGUMENTS],
}

/// A function.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Its first byte.
    pub start: u64,
    /// The first byte that is not its own.
    pub end: u64,
    /// Calls, jumps elsewhere, and functions whose address it takes.
    pub leads: Vec<To>,
    /// Calls whose arguments may be numbers of system calls.
    pub calls: Vec<Call>,
    /// System calls that it makes.
    pub numbers: Vec<u32>,
    /// Whether one of them is told by its caller.
    pub told: Option<From>,
    /// System calls whose number is not known.
    pub unknown: u32,
    /// Whom it calls before any branch: certain once it is entered.
    pub surely: Vec<To>,
    /// What lies before any branch ends here.
    pub straight: u64,
}

/// The graph of one file.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// In order of their addresses.
    pub functions: Vec<Function>,
    /// What it exports.
    pub exports: HashMap<String, Vec<u64>>,
    /// Names of symbols.
    pub names: Vec<String>,
    /// Entry, constructors, destructors.
    pub roots: Vec<u64>,
    /// Function pointers in data.
    pub pointers: Vec<u64>,
    /// Symbols that data points to.
    pub pointed: Vec<u32>,
}

impl Graph {
    /// From the functions that a decoder found.
    pub fn new(module: &Module<'_>, mut functions: Vec<Function>, stubs: &HashMap<u64, To>) -> Graph {
        for function in &mut functions {
            let through = |to: &mut To| {
                if let To::Address(address) = to
                    && let Some(real) = stubs.get(address)
                {
                    *to = *real;
                }
            };
            function.leads.iter_mut().for_each(through);
            function.surely.iter_mut().for_each(through);
            function.calls.iter_mut().for_each(|call| through(&mut call.to));
            function.leads.sort_unstable_by_key(|to| key(*to));
            function.leads.dedup();
            function.numbers.sort_unstable();
            function.numbers.dedup();
        }
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let mut graph = Graph {
            functions,
            exports: module
                .exports
                .iter()
                .map(|(name, at)| (text(name), at.clone()))
                .collect(),
            names: module.names.iter().map(|n| text(n)).collect(),
            roots: module.roots.clone(),
            pointers: module.pointers.clone(),
            pointed: module.pointed.clone(),
        };
        graph.tell_callers();
        graph
    }

    /// The function that an address is in.
    pub fn at(&self, address: u64) -> Option<usize> {
        let after = self.functions.partition_point(|f| f.start <= address);
        let index = after.checked_sub(1)?;
        (address < self.functions[index].end).then_some(index)
    }

    /// Numbers that callers tell: from function to function inside the file.
    fn tell_callers(&mut self) {
        // A chain of such functions is short: three in glibc 2.41.
        for _ in 0..6 {
            let mut changed = false;
            for index in 0..self.functions.len() {
                let calls = std::mem::take(&mut self.functions[index].calls);
                for call in &calls {
                    let To::Address(address) = call.to else { continue };
                    let Some(told) = self.at(address).and_then(|f| self.functions[f].told) else {
                        continue;
                    };
                    changed |= self.functions[index].is_told(argument(call, told));
                }
                self.functions[index].calls = calls;
            }
            if !changed {
                break;
            }
        }
        // From here on only calls of symbols count.
        for function in &mut self.functions {
            function.calls.retain(|call| matches!(call.to, To::Symbol(_)));
        }
    }

    /// Where a symbol leads to.
    pub fn name(&self, symbol: u32) -> Option<&str> {
        self.names
            .get(symbol as usize)
            .map(String::as_str)
            .filter(|n| !n.is_empty())
    }
}

impl Function {
    /// It makes the system call of this number; whether that is news.
    pub fn is_told(&mut self, number: Value) -> bool {
        match number {
            Value::Number(_) | Value::Either(..) => {
                let before = self.numbers.len();
                for number in number
                    .numbers()
                    .filter(|n| !self.numbers.contains(n))
                    .collect::<Vec<_>>()
                {
                    self.numbers.push(number);
                }
                self.numbers.len() > before
            }
            Value::Argument(position) if self.told.is_none() => {
                self.told = Some(From::Register(position));
                true
            }
            Value::Stack if self.told.is_none() => {
                self.told = Some(From::Stack);
                true
            }
            _ => false,
        }
    }
}

/// What a call gives at a place.
pub fn argument(call: &Call, from: From) -> Value {
    match from {
        From::Register(position) => call.arguments.get(usize::from(position)).copied().unwrap_or_default(),
        From::Stack => call.arguments[ARGUMENTS - 1],
    }
}

fn key(to: To) -> (u8, u64) {
    match to {
        To::Address(address) => (0, address),
        To::Symbol(symbol) => (1, symbol.into()),
    }
}

/// Where a pointer at a place leads to.
pub fn through(module: &Module<'_>, place: u64) -> Option<To> {
    match module.relocations.get(&place)? {
        Put::Address(to) | Put::Resolved(to) => module.executable(*to).then_some(To::Address(*to)),
        Put::Symbol(symbol) => Some(To::Symbol(*symbol)),
    }
}
