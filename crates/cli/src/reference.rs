//! The reference of the command line as Markdown, made from the tree itself.

use crate::exit;
use clap::{Arg, Command};

/// Every command with its arguments, and the exit codes.
#[must_use]
pub fn markdown(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let name = command.get_name().to_owned();
    let mut out = format!("# `{name}`\n\n<!-- Made from the program itself; changes here are lost. -->\n\n");
    out.push_str(&format!("{}\n\n## Exit codes\n\n| code | meaning |\n|---|---|\n", about(&command)));
    for (code, meaning) in exit::table() {
        out.push_str(&format!("| {code} | {meaning} |\n"));
    }
    let globals: Vec<&Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
    out.push_str("\n## Options of every command\n\n");
    out.push_str(&arguments(&globals));
    for sub in visible(&command) {
        section(&name, sub, &mut out);
    }
    out
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or(command.get_about());
    text.map_or_else(String::new, |text| format!("{}.", text.to_string().trim_end_matches('.')))
}

fn section(parent: &str, command: &Command, out: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    out.push_str(&format!("\n## `{name}`\n\n{}\n\n```\n{usage}\n```\n", about(command)));
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && !arg.is_hide_set())
        .filter(|arg| {
            !matches!(arg.get_id().as_str(), "help" | "version_flag" | "version") || arg.is_positional()
        })
        .collect();
    if !own.is_empty() {
        out.push('\n');
        out.push_str(&arguments(&own));
    }
    for sub in visible(command) {
        section(&name, sub, out);
    }
}

fn arguments(arguments: &[&Arg]) -> String {
    let row = |arg: &&Arg| {
        let values: Vec<&str> =
            arg.get_value_names().into_iter().flatten().map(clap::builder::Str::as_str).collect();
        let takes = arg.get_action().takes_values();
        let value =
            if takes && !values.is_empty() { format!(" {}", values.join(" ")) } else { String::new() };
        let name = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
            (None, Some(long)) => format!("--{long}{value}"),
            (Some(short), None) => format!("-{short}{value}"),
            (None, None) => value.trim().to_owned(),
        };
        let help = arg.get_help().map_or_else(String::new, ToString::to_string);
        let possible: Vec<String> = match takes {
            true => arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect(),
            false => Vec::new(),
        };
        let possible =
            if possible.is_empty() { String::new() } else { format!(" ({})", possible.join(", ")) };
        format!("| `{}` | {help}{possible} |\n", name.replace('|', "\\|"))
    };
    let rows: String = arguments.iter().map(row).collect();
    format!("| argument | meaning |\n|---|---|\n{rows}")
}

#[cfg(test)]
mod tests;
