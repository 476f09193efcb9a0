//! The verdict: facts of an image's files, and a host.

pub mod closure;
mod entry;
mod packages;
mod plugins;
pub mod rpm;
pub mod tree;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use closure::{Closure, Directories, Known};
use tree::Tree;

use crate::catalogue::{self, Look};
use crate::facts::seccomp;
use crate::finding::{Finding, Program, Remedy, Status, Sure, Verdict};
use crate::host::Host;
use crate::scan::{File, Scan, What};
use crate::syscalls::{Analyser, Analysis};

/// Files of the same finding that are told one by one.
const SAME: usize = 20;
/// Programs that are analysed because something that they load calls the vsyscall page.
const ANALYSED: usize = 1000;
/// What an image without a command is judged by.
const SHELLS: &[&str] = &["/bin/sh", "/bin/bash"];

/// What is to be judged.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// What the user calls it.
    pub name: String,
    /// An image's id.
    pub id: Option<String>,
    /// What it starts with: entry point and command.
    pub command: Vec<String>,
    /// Where commands are.
    pub path: Option<String>,
    /// The working directory.
    pub directory: String,
    /// Programs to judge in place of the command.
    pub programs: Vec<String>,
}

/// How far to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    /// System calls of all programs, not only of what the image starts with.
    pub all_calls: bool,
    /// No system calls at all: for a quick word before a run.
    pub no_calls: bool,
}

/// A subject, its files looked up: to be judged against any number of hosts.
pub struct Case {
    subject: Subject,
    tree: Tree,
    directories: Directories,
    entry: entry::Entry,
    analyser: Analyser,
    programs: Vec<Looked>,
}

/// A program and what is known of it.
struct Looked {
    file: Rc<File>,
    closure: Closure,
    entry: bool,
    analysis: Option<Analysis>,
    /// It is no program, but what programs may load.
    plugin: bool,
}

impl Looked {
    fn findings(&self, host: &Host, profile: &seccomp::Profile) -> Vec<Finding> {
        let look = Look {
            host,
            profile,
            file: &self.file,
            closure: &self.closure,
            entry: self.entry,
            analysis: self.analysis.as_ref(),
        };
        let mut findings = catalogue::check(&look);
        if self.plugin {
            // What it shares with programs is told of them; and nobody has to load it.
            let most = if self.entry { Sure::OnSomePath } else { Sure::Unlikely };
            findings.retain(|f| f.file == self.file.path);
            findings.iter_mut().for_each(|f| f.sure = f.sure.min(most));
        }
        findings
    }
}

/// The system calls of one program.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calls {
    /// Its path.
    pub program: String,
    /// The names.
    pub calls: Vec<&'static str>,
    /// Places whose number is not known.
    pub unknown: u32,
    /// Files that could not be analysed.
    pub left_out: Vec<String>,
}

/// The files that a subject's command comes to, through links and scripts, by their own paths; nothing else of it is looked at.
pub fn started(subject: &Subject, root: OwnedFd, scans: &[Rc<Scan>]) -> Vec<String> {
    let entry = entry::entry(&Tree::new(root, scans), subject);
    entry.files.iter().map(|file| file.path.clone()).collect()
}

impl Case {
    /// Looks everything up: in a merged root, and the facts of its layers, the lowest first.
    pub fn new(subject: Subject, root: OwnedFd, scans: &[Rc<Scan>], depth: Depth) -> Case {
        let tree = Tree::new(root, scans);
        let directories = Directories::of(&tree);
        let entry = entry::entry(&tree, &subject);
        let mut case = Case {
            subject,
            tree,
            directories,
            entry,
            analyser: Analyser::default(),
            programs: Vec::new(),
        };
        case.look(depth);
        case
    }

    /// Entries first, then all other programs.
    fn look(&mut self, depth: Depth) {
        let mut known = Known::default();
        let mut entries: Vec<Rc<File>> = self.subject.programs.iter().filter_map(|p| self.tree.find(p)).collect();
        if entries.is_empty() {
            entries.clone_from(&self.entry.files);
        }
        if entries.is_empty() && self.subject.command.is_empty() {
            entries.extend(SHELLS.iter().find_map(|p| self.tree.find(p)));
        }
        let all = self.subject.programs.is_empty() && entries.is_empty();
        let rest: Vec<Rc<File>> = match self.subject.programs.is_empty() {
            true => self
                .tree
                .files()
                .iter()
                .filter(|f| f.is_program() || is_broken(f))
                .cloned()
                .collect(),
            false => Vec::new(),
        };
        let count = entries.len();
        for (index, file) in entries.iter().chain(&rest).enumerate() {
            if index >= count && entries.iter().any(|e| Rc::ptr_eq(e, file) || e.path == file.path) {
                continue;
            }
            let closure = closure::closure(&self.tree, &self.directories, &mut known, file);
            let entry = index < count || all;
            // Whether old calls are reached only the code tells.
            let old = closure.facts().any(|(_, f)| f.vsyscall_calls().next().is_some()) && index < ANALYSED;
            let wanted = !depth.no_calls && (depth.all_calls || index < count || old);
            let analysis = if wanted && file.elf().is_some() {
                self.analyser.analyse(&self.tree, &closure)
            } else {
                None
            };
            self.programs.push(Looked {
                file: file.clone(),
                closure,
                entry,
                analysis,
                plugin: false,
            });
        }
        if self.subject.programs.is_empty() {
            self.look_at_plugins(&mut known);
        }
    }

    /// What programs load without naming it; of one that who starts the image usually loads, as of an entry.
    fn look_at_plugins(&mut self, known: &mut Known) {
        for file in plugins::find(&self.tree, self.programs.iter().map(|p| &p.closure)) {
            let loads = |p: &Looked| p.entry && plugins::loads(&p.file, &p.closure, &file);
            let entry = self.programs.iter().any(loads);
            let closure = closure::closure(&self.tree, &self.directories, known, &file);
            self.programs.push(Looked {
                file,
                closure,
                entry,
                analysis: None,
                plugin: true,
            });
        }
    }

    /// System calls of the programs that were analysed.
    pub fn calls(&self) -> Vec<Calls> {
        let analysed = self.programs.iter().filter_map(|p| p.analysis.as_ref().map(|a| (p, a)));
        analysed
            .map(|(program, analysis)| Calls {
                program: program.file.path.clone(),
                calls: analysis.names().collect(),
                unknown: analysis.unknown,
                left_out: analysis.left_out.clone(),
            })
            .collect()
    }

    /// The verdict for a host.
    pub fn verdict(&self, host: &Host) -> Verdict {
        let profile = seccomp::profile(&host.engine_seccomp).unwrap_or(&seccomp::PROFILES[0]);
        let mut sheet = Sheet::default();
        let (mut programs, mut outcome) = (Vec::new(), Status::Runs);
        for looked in &self.programs {
            let mut status = Status::Runs;
            let mut indices = Vec::new();
            for finding in looked.findings(host, profile) {
                // A program that nobody analysed may not be reached by what its libraries could do.
                status = status.max(finding.status());
                indices.push(sheet.add(finding));
            }
            indices.sort_unstable();
            indices.dedup();
            if looked.entry {
                outcome = outcome.max(status);
            }
            let entry = looked.entry && !looked.plugin;
            if entry || !indices.is_empty() {
                programs.push(Program {
                    path: looked.file.path.clone(),
                    status,
                    entry,
                    findings: indices,
                });
            }
        }
        let status = outcome.max(self.whole_image(host, &mut sheet));
        self.assemble(status, sheet, programs)
    }

    /// What belongs to no program: the outcome of it.
    fn whole_image(&self, host: &Host, sheet: &mut Sheet) -> Status {
        let mut found = Vec::new();
        for (wanted, by) in &self.entry.missing {
            found.push(missing(wanted, by));
        }
        let java = self.programs.iter().any(|p| p.entry && p.file.name() == "java");
        for file in self.tree.files() {
            found.extend(catalogue::modules(file, host));
            found.extend(catalogue::java(file, host, java));
        }
        for complaint in &self.tree.complaints {
            let (file, why) = complaint.split_once(": ").unwrap_or(("/", complaint));
            let mut finding = catalogue::finding(crate::finding::Cause::NotAnalysed, Sure::Unlikely, file);
            finding.asks = format!("could not analyse {file}: {why}");
            finding.lacks = "nothing is known of what it asks for".into();
            found.push(finding);
        }
        let status = found.iter().map(Finding::status).max().unwrap_or_default();
        found.into_iter().for_each(|f| _ = sheet.add(f));
        status
    }

    fn assemble(&self, status: Status, sheet: Sheet, mut programs: Vec<Program>) -> Verdict {
        // The most certain first, and what makes it fail before what is mended.
        let mut order: Vec<usize> = (0..sheet.findings.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse((sheet.findings[*i].status(), sheet.findings[*i].sure)));
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        for program in &mut programs {
            program.findings.iter_mut().for_each(|i| *i = place[*i]);
            program.findings.sort_unstable();
        }
        let mut findings: Vec<Finding> = order.iter().map(|i| sheet.findings[*i].clone()).collect();
        let wanted: Vec<String> = findings
            .iter()
            .map(|f| f.file.clone())
            .filter(|f| !f.is_empty())
            .collect();
        let packages = packages::packages(&self.tree, &wanted);
        for finding in &mut findings {
            finding.package = packages.get(&finding.file).cloned();
        }
        programs.sort_by(|a, b| (b.entry, b.status, &a.path).cmp(&(a.entry, a.status, &b.path)));
        Verdict {
            name: self.subject.name.clone(),
            id: self.subject.id.clone(),
            status,
            entry: programs.iter().filter(|p| p.entry).map(|p| p.path.clone()).collect(),
            findings,
            programs,
            looked_at: self.programs.iter().filter(|p| !p.plugin).count(),
        }
    }
}

/// Files that are told of though they are no programs that could be looked at.
fn is_broken(file: &File) -> bool {
    matches!(file.what, What::NotAnalysed(_) | What::Old(_))
}

/// The image's command, or a script's interpreter, is not there.
fn missing(wanted: &str, by: &str) -> Finding {
    let mut finding = catalogue::finding(crate::finding::Cause::InterpreterMissing, Sure::OnStart, by);
    finding.file = if by.starts_with('/') {
        by.to_owned()
    } else {
        String::new()
    };
    finding.asks = format!("{by} asks for {wanted}");
    finding.lacks = "that is not in the image".into();
    finding.symptom = catalogue::symptom(format!("exec: \"{wanted}\": no such file or directory"), Some(127));
    finding.remedy = Remedy::None;
    finding.advice = "add it to the image, or give another command".into();
    finding
}

/// Findings, each once.
#[derive(Default)]
struct Sheet {
    findings: Vec<Finding>,
    known: HashMap<(String, String, String), usize>,
    same: HashMap<(String, String), (usize, usize)>,
}

impl Sheet {
    /// Its place; the surer of two that are the same otherwise stays.
    fn add(&mut self, finding: Finding) -> usize {
        let cause = finding.cause.name();
        let key = (cause.clone(), finding.file.clone(), finding.asks.clone());
        if let Some(index) = self.known.get(&key) {
            let known = &mut self.findings[*index];
            known.sure = known.sure.max(finding.sure);
            return *index;
        }
        // The same of very many files is told once, with their number.
        let group = self.same.entry((cause, finding.lacks.clone())).or_insert((0, 0));
        group.0 += 1;
        if group.0 > SAME {
            let last = group.1;
            self.findings[last].more += 1;
            self.findings[last].sure = self.findings[last].sure.max(finding.sure);
            self.known.insert(key, last);
            return last;
        }
        let index = self.findings.len();
        group.1 = index;
        self.known.insert(key, index);
        self.findings.push(finding);
        index
    }
}
