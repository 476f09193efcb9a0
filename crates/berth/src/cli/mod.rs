//! The command line as tables: one row a command, one row a flag. Parsing, help, completion and refusals come from them.
//!
//! Only the command that is called is given to clap: building the whole tree would cost more than starting a container.

pub mod flag;
pub mod table;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use errdefs::{Error, Kind, Result};

use flag::{Flag, Given};

/// What stands on the command line besides flags.
#[derive(Clone, Copy, PartialEq)]
pub enum Words {
    /// Nothing.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// Any number up to that.
    AtMost(usize),
    /// So many or more, and after the first everything is the container's: flags too.
    Command(usize),
}

/// What a command's arguments come to.
pub enum Parsed {
    /// `--help`: the text.
    Help(String),
    /// To be done.
    Given(Given),
}

/// The text of `--help`: with bold titles where somebody sees them.
fn help(error: &clap::Error) -> String {
    let text = error.render();
    match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        true => text.ansi().to_string(),
        false => text.to_string(),
    }
}

/// Who does a command; the exit code.
pub type Run = fn(&Given) -> Result<u8>;

/// One command.
pub struct Command<R = Run> {
    /// As typed: `run`, `volume ls`.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// After the name in its usage.
    pub usage: &'static str,
    /// One line.
    pub about: &'static str,
    /// What stands besides flags.
    pub words: Words,
    /// Its flags, by group.
    pub flags: &'static [&'static [Flag]],
    /// Does it.
    pub run: R,
}

impl Command {
    /// Parses and does it.
    pub fn call(&self, arguments: &[OsString]) -> Result<u8> {
        match self.parse(arguments)? {
            Parsed::Help(text) => {
                crate::output::say(&text);
                Ok(0)
            }
            Parsed::Given(given) => (self.run)(&given),
        }
    }
}

impl<R> Command<R> {
    /// For clap, with all flags: help and completion.
    pub fn build(&self) -> clap::Command {
        self.build_with(|_| true)
    }

    /// For parsing these arguments: without the flags that cannot be meant. `run` has a hundred, and to build them takes
    /// as long as to set up the container's root.
    fn build_for(&self, arguments: &[OsString]) -> clap::Command {
        let texts: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        if texts.iter().any(|text| text == "--help") {
            return self.build();
        }
        self.build_with(|flag| {
            texts.iter().any(|text| match text.strip_prefix("--") {
                Some(long) => long.split('=').next() == Some(flag.long),
                None => text.starts_with('-') && flag.short.is_some_and(|letter| text.contains(letter)),
            })
        })
    }

    fn build_with(&self, wanted: impl Fn(&Flag) -> bool) -> clap::Command {
        let mut command = clap::Command::new(self.name)
            .about(self.about)
            .override_usage(format!("berth {} {}", self.name, self.usage))
            .args_override_self(true)
            .disable_help_flag(true)
            .arg(
                clap::Arg::new("help")
                    .long("help")
                    .action(clap::ArgAction::Help)
                    .help("Print usage"),
            );
        for flag in self.flags.iter().copied().flatten().filter(|f| wanted(f)) {
            command = command.arg(flag.build());
        }
        if self.words != Words::None {
            let words = clap::Arg::new("words")
                .num_args(0..)
                .hide(true)
                .allow_hyphen_values(false);
            let trailing = matches!(self.words, Words::Command(_));
            command = command.arg(if trailing {
                words.trailing_var_arg(true).allow_hyphen_values(true)
            } else {
                words
            });
        }
        command
    }

    /// What the user said.
    pub fn parse(&self, arguments: &[OsString]) -> Result<Parsed> {
        let matches = self
            .build_for(arguments)
            .no_binary_name(true)
            .try_get_matches_from(arguments);
        let matches = match matches {
            Ok(matches) => matches,
            Err(e) if e.kind() == ErrorKind::DisplayHelp => return Ok(Parsed::Help(help(&e))),
            Err(e) => return Err(self.explain(&e, arguments)),
        };
        let given = Given {
            words: self.words(&matches)?,
            matches,
        };
        self.refuse(&given)?;
        Ok(Parsed::Given(given))
    }

    fn words(&self, matches: &clap::ArgMatches) -> Result<Vec<String>> {
        if self.words == Words::None {
            return Ok(Vec::new());
        }
        let words: Vec<String> = matches
            .get_many::<String>("words")
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let wrong = |how: String| {
            let message = format!(
                "'berth {}' {how}\n\nUsage:  berth {} {}",
                self.name, self.name, self.usage
            );
            Err(Error::new(Kind::Usage, message).hint(format!("see 'berth {} --help'", self.name)))
        };
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        match self.words {
            Words::Exactly(n) if words.len() != n => wrong(format!("requires {n} argument{}", plural(n))),
            Words::AtLeast(n) | Words::Command(n) if words.len() < n => {
                wrong(format!("requires at least {n} argument{}", plural(n)))
            }
            Words::AtMost(n) if words.len() > n => wrong(format!("requires at most {n} argument{}", plural(n))),
            Words::Command(_) if words.first().is_some_and(|w| w.starts_with('-') && w != "-") => {
                let message = match words[0].strip_prefix("--") {
                    Some(_) => format!("unknown flag: {}", words[0]),
                    None => self.shorthand(&words[0]),
                };
                Err(Error::flag(message).hint(format!("see 'berth {} --help'", self.name)))
            }
            _ => Ok(words),
        }
    }

    /// The first letter of a cluster that is no flag.
    fn shorthand(&self, cluster: &str) -> String {
        let known = |letter: char| self.flags.iter().copied().flatten().any(|f| f.short == Some(letter));
        let letter = cluster.chars().skip(1).find(|c| !known(*c)).unwrap_or('-');
        format!("unknown shorthand flag: '{letter}' in {cluster}")
    }

    /// Flags that are known and do nothing yet.
    fn refuse(&self, given: &Given) -> Result<()> {
        if given.has("disable-content-trust") && !given.on("disable-content-trust") {
            let what = "--disable-content-trust=false";
            return Err(Error::not_yet(what));
        }
        for flag in self.flags.iter().copied().flatten().filter(|f| f.later) {
            if given.has(flag.long) {
                return Err(Error::not_yet(format_args!("--{}", flag.long)));
            }
        }
        Ok(())
    }

    /// clap's error in Docker's words.
    fn explain(&self, error: &clap::Error, arguments: &[OsString]) -> Error {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let argument = text(ContextKind::InvalidArg).unwrap_or_default();
        let flag = argument.split([' ', '=', '[']).next().unwrap_or_default().to_owned();
        let message = match error.kind() {
            ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
            ErrorKind::UnknownArgument if flag.starts_with('-') => self.shorthand(&flag),
            ErrorKind::UnknownArgument => {
                let message = format!("'berth {}' accepts no arguments: {flag}", self.name);
                return Error::new(Kind::Usage, message).hint(format!("see 'berth {} --help'", self.name));
            }
            ErrorKind::InvalidValue | ErrorKind::ValueValidation
                if text(ContextKind::InvalidValue).is_some_and(|v| !v.is_empty()) =>
            {
                let value = text(ContextKind::InvalidValue).unwrap_or_default();
                format!("invalid argument {value:?} for \"{flag}\" flag")
            }
            ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::TooFewValues => {
                // The one at the very end, as it was spelt.
                match arguments.last().and_then(|a| a.to_str()) {
                    Some(last) if last.starts_with('-') && !last.starts_with("--") => {
                        let letter = last.chars().last().unwrap_or('-');
                        format!("flag needs an argument: '{letter}' in {last}")
                    }
                    _ => format!("flag needs an argument: {flag}"),
                }
            }
            _ => error.to_string().trim().trim_start_matches("error: ").to_owned(),
        };
        Error::flag(message).hint(format!("see 'berth {} --help'", self.name))
    }
}
