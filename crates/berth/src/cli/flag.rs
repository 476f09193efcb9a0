//! One flag, and what was given for it.

use clap::{Arg, ArgAction, ArgMatches};
use errdefs::{Error, Result};

/// What a flag takes.
#[derive(Clone, Copy, PartialEq)]
pub enum Takes {
    /// Nothing, or `=true`, `=false`.
    Nothing,
    /// One value; the last one counts.
    One,
    /// One value each time.
    Many,
}

/// One row of a table.
pub struct Flag {
    /// Without dashes.
    pub long: &'static str,
    /// One letter.
    pub short: Option<char>,
    /// What it takes.
    pub takes: Takes,
    /// One line.
    pub help: &'static str,
    /// Known, and refused by name: it does nothing yet.
    pub later: bool,
}

/// A flag that takes nothing.
pub const fn on(long: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short: None,
        takes: Takes::Nothing,
        help,
        later: false,
    }
}

/// A flag that takes one value.
pub const fn one(long: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short: None,
        takes: Takes::One,
        help,
        later: false,
    }
}

/// A flag that can be given several times.
pub const fn many(long: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short: None,
        takes: Takes::Many,
        help,
        later: false,
    }
}

impl Flag {
    /// With a letter.
    pub const fn short(self, letter: char) -> Flag {
        Flag {
            short: Some(letter),
            ..self
        }
    }

    /// Refused by name.
    pub const fn later(self) -> Flag {
        Flag { later: true, ..self }
    }

    /// For clap.
    pub fn build(&self) -> Arg {
        let arg = Arg::new(self.long).long(self.long).help(self.help).hide(self.later);
        let arg = if let Some(letter) = self.short {
            arg.short(letter)
        } else {
            arg
        };
        match self.takes {
            Takes::Nothing => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(truth)
                .hide_possible_values(true)
                .action(ArgAction::Set),
            Takes::One => arg.action(ArgAction::Set).allow_hyphen_values(true),
            Takes::Many => arg.action(ArgAction::Append).allow_hyphen_values(true),
        }
    }
}

/// `true`, `1`, `F`: what Go's strconv.ParseBool takes.
pub fn truth(text: &str) -> std::result::Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// What the user gave.
pub struct Given {
    /// Besides flags.
    pub words: Vec<String>,
    pub(super) matches: ArgMatches,
}

impl Given {
    /// Whether a flag was given at all.
    pub fn has(&self, long: &str) -> bool {
        self.matches.try_contains_id(long).unwrap_or(false) && self.matches.value_source(long).is_some()
    }

    /// A flag without a value.
    pub fn on(&self, long: &str) -> bool {
        self.matches
            .try_get_one::<bool>(long)
            .ok()
            .flatten()
            .copied()
            .unwrap_or(false)
    }

    /// A flag's value.
    pub fn one(&self, long: &str) -> Option<&str> {
        self.matches
            .try_get_one::<String>(long)
            .ok()
            .flatten()
            .map(String::as_str)
    }

    /// All values of a flag.
    pub fn many(&self, long: &str) -> Vec<String> {
        self.matches
            .try_get_many::<String>(long)
            .ok()
            .flatten()
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// A number.
    pub fn number(&self, long: &str) -> Result<Option<i64>> {
        let bad = |value: &str| {
            Error::flag(format!(
                "invalid argument {value:?} for \"--{long}\" flag: it is no number"
            ))
        };
        self.one(long)
            .map(|value| value.parse().map_err(|_| bad(value)))
            .transpose()
    }

    /// `--filter`.
    pub fn filters(&self) -> Result<Vec<(String, String)>> {
        let pair = |filter: &String| {
            let pair = filter
                .split_once('=')
                .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()));
            pair.ok_or_else(|| Error::invalid(format!("invalid filter: {filter}: it has no '='")))
        };
        self.many("filter").iter().map(pair).collect()
    }
}
