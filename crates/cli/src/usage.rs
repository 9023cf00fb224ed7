//! A command line that cannot be read, in one sentence: what is wrong, where, and what was probably meant.
//!
//! The parser knows what is wrong; here it is said the way every other problem is. Help and versions are left to it.

use clap::{
    Arg, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{error::Error as _, num::ParseIntError};
use tutti_model::{Problem, nearest::nearest};

/// Most commands that a hint names; more are looked up in the help.
const NAMED: usize = 8;
/// The command that every level has.
const HELP: &str = "help";

/// What is wrong with these `words`, which `tree` was to read; `None` if help or a version was asked for.
pub(crate) fn problem(error: &clap::Error, tree: &Command, words: &[String]) -> Option<Problem> {
    let mut tree = tree.clone();
    // Until it is built its arguments cannot be shown.
    tree.build();
    let place = Place::of(&tree, words);
    Some(match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return None,
        ErrorKind::ValueValidation => version_missing(error, &place).unwrap_or_else(|| wrong_value(error)),
        ErrorKind::InvalidValue => not_among(error),
        ErrorKind::UnknownArgument => unknown(error, &place, words),
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            place.no_command(&word)
        }
        ErrorKind::MissingSubcommand => {
            let problem = Problem::invalid(format!("{}: a command is missing", place.path));
            problem.hint(place.commands())
        }
        ErrorKind::MissingRequiredArgument => missing(error, &place),
        ErrorKind::ArgumentConflict => conflict(error, &place),
        _ => {
            let all = error.render().to_string();
            let line = all.lines().next().unwrap_or_default();
            Problem::invalid(line.trim_start_matches("error: ").to_owned())
        }
    })
}

/// The command that the words lead to.
struct Place<'a> {
    command: &'a Command,
    /// As it is typed: `tutti service create`.
    path: String,
}

impl<'a> Place<'a> {
    fn of(tree: &'a Command, words: &[String]) -> Place<'a> {
        let mut place = Place { command: tree, path: tree.get_name().to_owned() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word.starts_with('-') {
                let arguments = place.command.get_arguments().chain(tree.get_arguments());
                let takes = |arg: &Arg| arg.get_action().takes_values() && is_named(arg, word);
                if arguments.into_iter().any(takes) {
                    words.next();
                }
            } else if word == HELP {
                // What follows is what help is wanted with.
            } else if let Some(command) = place.command.find_subcommand(word) {
                place = Place { command, path: format!("{} {word}", place.path) };
            } else {
                break;
            }
        }
        place
    }

    fn names(&self) -> Vec<&'a str> {
        let shown = self
            .command
            .get_subcommands()
            .filter(|command| !command.is_hide_set() && command.get_name() != HELP);
        shown.map(Command::get_name).collect()
    }

    /// Where to look for what there is.
    fn commands(&self) -> String {
        let names = self.names();
        match names.len() {
            1..=NAMED => format!("its commands are {}", names.join(", ")),
            _ => format!("{} --help lists them", self.path),
        }
    }

    fn no_command(&self, word: &str) -> Problem {
        let hint = match nearest(word, self.names()) {
            Some(near) => format!("did you mean {} {near}?", self.path),
            None => self.commands(),
        };
        Problem::invalid(format!("{} has no command \"{word}\"", self.path)).hint(hint)
    }

    /// What the help says of an argument, as part of a sentence.
    fn about(&self, shown: &str) -> Option<String> {
        let name = bare(shown);
        let argument = self.command.get_arguments().find(|arg| bare(&arg.to_string()) == name)?;
        let help = argument.get_help()?.to_string();
        let mut letters = help.chars();
        let first = letters.next()?;
        Some(first.to_lowercase().chain(letters).collect())
    }
}

/// Whether `word` is this option on its own, so that its value is the next word.
fn is_named(arg: &Arg, word: &str) -> bool {
    let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
    let short = arg
        .get_short()
        .is_some_and(|short| word.strip_prefix('-').is_some_and(|rest| rest.chars().eq([short])));
    long || short
}

/// An argument without its brackets: `SHARE` for `[SHARE]`, `--every` for `--every <TIME>`.
fn bare(shown: &str) -> &str {
    let first = if shown.starts_with('-') { shown.split([' ', '=', '[']).next() } else { None };
    first.unwrap_or(shown).trim_matches(['<', '>', '[', ']', '.'])
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// How the command is written, as a hint.
fn usage(error: &clap::Error) -> Option<String> {
    let usage = match error.get(ContextKind::Usage)? {
        ContextValue::StyledStr(usage) => usage.to_string(),
        _ => return None,
    };
    let lines = usage.trim_start_matches("Usage:").lines().map(|line| line.trim().replace(" [OPTIONS]", ""));
    Some(format!("write {}", lines.collect::<Vec<_>>().join(", or ")))
}

fn with_usage(problem: Problem, error: &clap::Error) -> Problem {
    match usage(error) {
        Some(usage) => problem.hint(usage),
        None => problem,
    }
}

/// A value that its type refuses. An option is named; what stands alone names itself.
fn wrong_value(error: &clap::Error) -> Problem {
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let source = error.source();
    let mut problem = match source.and_then(|source| source.downcast_ref::<Problem>()) {
        Some(problem) => problem.clone(),
        None if source.is_some_and(|source| source.is::<ParseIntError>()) => {
            Problem::invalid(format!("\"{value}\" is not a whole number from 0"))
        }
        None => Problem::invalid(match source {
            Some(source) => format!("\"{value}\": {source}"),
            None => format!("\"{value}\" is not valid"),
        }),
    };
    if argument.starts_with("--") {
        problem.detail = format!("{}: {}", bare(&argument), problem.detail);
    }
    problem
}

/// A value that is none of those there are, or missing.
fn not_among(error: &clap::Error) -> Problem {
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let valid = texts(error, ContextKind::ValidValue);
    let name = bare(&argument);
    let problem = match (value.as_str(), valid.is_empty()) {
        ("", true) => {
            let wanted = argument.split_once(' ').map_or("", |(_, wanted)| bare(wanted));
            return Problem::invalid(format!("{name} needs a value")).hint(format!("write {name} {wanted}"));
        }
        ("", false) => Problem::invalid(format!("{name} needs a value: one of {}", valid.join(", "))),
        _ => Problem::invalid(format!("{name}: \"{value}\" is not one of {}", valid.join(", "))),
    };
    match nearest(&value, valid.iter().map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean {near}?")),
        None => problem,
    }
}

fn unknown(error: &clap::Error, place: &Place<'_>, words: &[String]) -> Problem {
    let found = text(error, ContextKind::InvalidArg).unwrap_or_default();
    // Of `-5%` the parser names the first letters.
    let word = words.iter().find(|word| word.starts_with(&found)).unwrap_or(&found);
    if let Some(amount) = word.strip_prefix('-')
        && amount.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.')
    {
        return Problem::invalid(format!("{}: \"{word}\" is negative, which no amount can be", place.path))
            .hint(format!("did you mean {amount}?"));
    }
    if !found.starts_with('-') {
        if place.command.has_subcommands() {
            return place.no_command(&found);
        }
        return with_usage(Problem::invalid(format!("{} takes no \"{found}\"", place.path)), error);
    }
    let problem = Problem::invalid(format!("{} has no option {found}", place.path));
    problem.hint(match text(error, ContextKind::SuggestedArg) {
        Some(near) => format!("did you mean {}?", bare(&near)),
        None => format!("{} --help lists them", place.path),
    })
}

fn missing(error: &clap::Error, place: &Place<'_>) -> Problem {
    let missing = texts(error, ContextKind::InvalidArg);
    let names: Vec<&str> = missing.iter().map(|shown| bare(shown)).collect();
    let what = match (missing.as_slice(), names.as_slice()) {
        ([shown], [name]) => match place.about(shown) {
            Some(about) => format!("{name} is missing: {about}"),
            None => format!("{name} is missing"),
        },
        (_, [all @ .., last]) => format!("{} and {last} are missing", all.join(", ")),
        (_, []) => "something is missing".to_owned(),
    };
    with_usage(Problem::invalid(format!("{}: {what}", place.path)), error)
}

/// A push whose last word has no version: that word is a path, and the name was left out.
fn version_missing(error: &clap::Error, place: &Place<'_>) -> Option<Problem> {
    let shown = text(error, ContextKind::InvalidArg)?;
    let value = text(error, ContextKind::InvalidValue)?;
    if place.command.get_name() != "push" || bare(&shown) != "NAME@VERSION" || value.contains(['@', ':']) {
        return None;
    }
    let about = place.about(&shown).map(|about| format!(": {about}")).unwrap_or_default();
    let problem = Problem::invalid(format!("{}: NAME@VERSION is missing{about}", place.path));
    Some(problem.hint(format!("tutti push {value} NAME@VERSION")))
}

fn conflict(error: &clap::Error, place: &Place<'_>) -> Problem {
    let one = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let others = texts(error, ContextKind::PriorArg);
    let names: Vec<&str> = others.iter().map(|shown| bare(shown)).collect();
    let what = match names.as_slice() {
        [] => format!("{} is given twice", bare(&one)),
        [other] if *other == bare(&one) => format!("{other} is given twice"),
        others => format!("{} does not go together with {}", bare(&one), others.join(", ")),
    };
    let problem = Problem::invalid(format!("{}: {what}", place.path));
    problem.hint(format!("leave one of them out; {} --help says more", place.path))
}

#[cfg(test)]
mod tests;
