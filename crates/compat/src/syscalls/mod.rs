//! Which system calls a program can make: from its code and that of what it loads.
//!
//! Each file becomes a graph of functions, once. A program's calls are those of all functions that can be reached: from its
//! entry and the constructors of all its files, from function pointers in data, through calls, jumps and functions whose
//! address is taken; an imported name leads to the first file that exports it. Decoding goes straight through each
//! function and follows what the registers hold.

mod arm64;
mod frames;
pub mod graph;
mod module;
mod x86;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use object::elf as raw;

use crate::elf::Elf;
use crate::facts::syscalls::{Numbers, name};
use crate::finding::Sure;
use crate::judge::closure::Closure;
use crate::judge::tree::Tree;
use graph::{From, Graph, To, argument};

/// Largest file that is analysed, and all of one image together.
const LARGEST: u64 = 128 << 20;
const BUDGET: u64 = 1 << 30;

/// The calls of one program.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Whose numbers.
    pub numbers: Numbers,
    /// The calls, by number.
    pub calls: BTreeSet<u32>,
    /// Places whose number could not be told: the list may lack something.
    pub unknown: u32,
    /// Files that could not be analysed.
    pub left_out: Vec<String>,
    reached: HashMap<String, Vec<Reached>>,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    start: u64,
    end: u64,
    /// Up to here it is certain, if the function is.
    straight: Option<u64>,
}

impl Analysis {
    /// The names of the calls; numbers that no table has are left out.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.calls.iter().filter_map(|number| name(self.numbers, *number))
    }

    /// How sure it is that a run comes by this address; `None` if nothing leads there.
    pub fn reaches(&self, path: &str, address: u64) -> Option<Sure> {
        let inside = |r: &&Reached| (r.start..r.end).contains(&address);
        let found = self.reached.get(path)?.iter().find(inside)?;
        let certain = found.straight.is_some_and(|end| address < end);
        Some(if certain { Sure::OnStart } else { Sure::OnSomePath })
    }
}

/// Graphs that were made before.
#[derive(Default)]
pub struct Analyser {
    graphs: HashMap<String, Option<Rc<Graph>>>,
    used: u64,
}

impl Analyser {
    /// Analyses a program; `None` if its architecture is none that we decode, or it cannot be read.
    pub fn analyse(&mut self, tree: &Tree, closure: &Closure) -> Option<Analysis> {
        let program = closure.files.first()?;
        let numbers = match program.elf()?.architecture.as_str() {
            "amd64" => Numbers::X86_64,
            "386" => Numbers::X86,
            "arm64" => Numbers::Aarch64,
            _ => return None,
        };
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        for file in closure.all() {
            let graph = self.graph(tree, &file.path);
            match graph {
                Some(graph) => files.push((file.path.clone(), graph)),
                None => left_out.push(file.path.clone()),
            }
        }
        if files.first().is_none_or(|(path, _)| *path != program.path) {
            return None;
        }
        let loader = closure
            .interpreter
            .as_ref()
            .and_then(|i| files.iter().position(|(p, _)| *p == i.path));
        let mut walk = Walk::new(&files, loader);
        walk.run();
        let mut analysis = walk.finish(numbers);
        analysis.left_out = left_out;
        Some(analysis)
    }

    fn graph(&mut self, tree: &Tree, path: &str) -> Option<Rc<Graph>> {
        if let Some(known) = self.graphs.get(path) {
            return known.clone();
        }
        let made = tree
            .bytes(path, LARGEST)
            .filter(|(bytes, _)| self.used + bytes.len() as u64 <= BUDGET)
            .and_then(|(bytes, _)| {
                self.used += bytes.len() as u64;
                graph_of(&bytes).map(Rc::new)
            });
        self.graphs.insert(path.to_owned(), made.clone());
        made
    }
}

/// The graph of a file that is in memory.
pub fn graph_of(bytes: &[u8]) -> Option<Graph> {
    let elf = Elf::parse(bytes).ok()?;
    let module = module::Module::new(&elf);
    match elf.machine {
        raw::EM_X86_64 | raw::EM_386 => Some(x86::graph(&module)),
        raw::EM_AARCH64 => Some(arm64::graph(&module)),
        _ => None,
    }
}

type Node = (usize, usize);

/// Through the graphs of a program's files.
struct Walk<'a> {
    files: &'a [(String, Rc<Graph>)],
    exports: HashMap<&'a str, Vec<Node>>,
    reached: HashSet<Node>,
    todo: Vec<Node>,
    certain: HashSet<Node>,
    calls: BTreeSet<u32>,
}

impl<'a> Walk<'a> {
    fn new(files: &'a [(String, Rc<Graph>)], loader: Option<usize>) -> Self {
        let mut walk = Walk {
            files,
            exports: HashMap::new(),
            reached: HashSet::new(),
            todo: Vec::new(),
            certain: HashSet::new(),
            calls: BTreeSet::new(),
        };
        for (file, (_, graph)) in files.iter().enumerate() {
            for (name, addresses) in &graph.exports {
                // The first file that has a name is who gives it.
                if walk.exports.contains_key(name.as_str()) {
                    continue;
                }
                let nodes = addresses
                    .iter()
                    .filter_map(|a| graph.at(*a).map(|f| (file, f)))
                    .collect();
                walk.exports.insert(name, nodes);
            }
        }
        for (file, (_, graph)) in files.iter().enumerate() {
            // A library's own entry is nobody's; the loader's is the first of all.
            let skip = usize::from(file != 0 && Some(file) != loader);
            for root in graph.roots.iter().skip(skip).chain(&graph.pointers) {
                walk.add(graph.at(*root).map(|f| (file, f)));
            }
            for symbol in &graph.pointed {
                walk.lead(file, To::Symbol(*symbol));
            }
        }
        walk.certainly();
        walk
    }

    fn add(&mut self, node: Option<Node>) {
        if let Some(node) = node
            && self.reached.insert(node)
        {
            self.todo.push(node);
        }
    }

    /// The functions that something leads to.
    fn nodes(&self, file: usize, to: To) -> Vec<Node> {
        let graph = &self.files[file].1;
        match to {
            To::Address(address) => graph.at(address).map(|f| (file, f)).into_iter().collect(),
            To::Symbol(symbol) => graph
                .name(symbol)
                .and_then(|n| self.exports.get(n))
                .cloned()
                .unwrap_or_default(),
        }
    }

    fn lead(&mut self, file: usize, to: To) {
        for node in self.nodes(file, to) {
            self.add(Some(node));
        }
    }

    fn run(&mut self) {
        while let Some((file, index)) = self.todo.pop() {
            let graph = self.files[file].1.clone();
            let function = &graph.functions[index];
            self.calls.extend(&function.numbers);
            for to in &function.leads {
                self.lead(file, *to);
            }
            for call in &function.calls {
                for (other, told) in self.nodes(file, call.to) {
                    let told: Option<From> = self.files[other].1.functions[told].told;
                    if let Some(from) = told {
                        self.calls.extend(argument(call, from).numbers());
                    }
                }
            }
        }
    }

    /// From the program's entry, along what lies before any branch.
    fn certainly(&mut self) {
        let Some((_, graph)) = self.files.first() else { return };
        let mut todo: Vec<Node> = graph
            .roots
            .iter()
            .filter_map(|r| graph.at(*r).map(|f| (0, f)))
            .collect();
        while let Some((file, index)) = todo.pop() {
            if self.certain.insert((file, index)) {
                let graph = self.files[file].1.clone();
                for to in &graph.functions[index].surely {
                    todo.extend(self.nodes(file, *to));
                }
            }
        }
    }

    fn finish(self, numbers: Numbers) -> Analysis {
        let (mut reached, mut unknown): (HashMap<String, Vec<Reached>>, u32) = (HashMap::new(), 0);
        for (file, index) in &self.reached {
            let (path, graph) = &self.files[*file];
            let function = &graph.functions[*index];
            unknown += function.unknown;
            reached.entry(path.clone()).or_default().push(Reached {
                start: function.start,
                end: function.end,
                straight: self.certain.contains(&(*file, *index)).then_some(function.straight),
            });
        }
        let mut calls: BTreeSet<u32> = self.calls.into_iter().filter(|n| *n < 1024).collect();
        // The way back from a handler is the kernel's own code there, in the vDSO (arm64: rt_sigaction, rt_sigreturn).
        if numbers == Numbers::Aarch64 && calls.contains(&134) {
            calls.insert(139);
        }
        Analysis {
            numbers,
            calls,
            unknown,
            left_out: Vec::new(),
            reached,
        }
    }
}
