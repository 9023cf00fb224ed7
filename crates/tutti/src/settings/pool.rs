//! The commands that make and remove machines of node pools: `[pool.NAME]` in `tutti.toml`, and nowhere else. They run as
//! control's own user, so that only who may write control's file says what they are; the API names pools, never commands.

use std::{collections::BTreeMap, path::Path};
use tutti_control::reconcile::{Program, pool::PoolCommands};
use tutti_model::{Millis, Problem, nearest::nearest, pool::PoolName};

/// The section's key in the file.
pub(super) const SECTION: &str = "pool";
/// How long a command may take where nobody says.
const TIMEOUT: Millis = Millis::seconds(600);
/// What can be said of a pool.
const KEYS: [&str; 3] = ["make", "remove", "timeout"];

/// Reads the section of all pools.
pub(super) fn read(
    path: &Path,
    section: &toml::Table,
    faults: &mut Vec<Problem>,
) -> BTreeMap<PoolName, PoolCommands> {
    let mut pools = BTreeMap::new();
    for (name, value) in section {
        let at = format!("{}: {SECTION}.{name}", path.display());
        let read =
            name.parse::<PoolName>().map_err(|problem| Problem::invalid(format!("{at}: {}", problem.detail)));
        match read.and_then(|name| Ok((name, commands(&at, value)?))) {
            Ok((name, commands)) => drop(pools.insert(name, commands)),
            Err(problem) => faults.push(problem),
        }
    }
    pools
}

/// The commands as `tutti config` shows them: what, value, where from. Arguments may be secret, and are left out.
pub(super) fn rows(
    pools: &BTreeMap<PoolName, PoolCommands>,
) -> impl Iterator<Item = (String, String, String)> {
    pools.iter().flat_map(|(name, commands)| {
        let rows = [
            ("make", commands.make.to_string()),
            ("remove", commands.remove.to_string()),
            ("timeout", commands.timeout.to_string()),
        ];
        rows.map(|(key, value)| (format!("{SECTION}.{name}.{key}"), value, "tutti.toml".to_owned()))
    })
}

fn commands(at: &str, value: &toml::Value) -> Result<PoolCommands, Problem> {
    let toml::Value::Table(table) = value else {
        return Err(Problem::invalid(format!("{at} must be a section"))
            .hint("write [pool.NAME] above make and remove"));
    };
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let problem = Problem::invalid(format!("{at} has no setting \"{unknown}\""));
        return Err(match nearest(unknown, KEYS) {
            Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
            None => problem.hint(format!("known: {}", KEYS.join(", "))),
        });
    }
    let timeout = match table.get("timeout") {
        None => TIMEOUT,
        Some(toml::Value::String(text)) => {
            text.parse().map_err(|why| Problem::invalid(format!("{at}.timeout = \"{text}\": {why}")))?
        }
        Some(_) => return Err(Problem::invalid(format!("{at}.timeout must be a text such as \"10m\""))),
    };
    Ok(PoolCommands { make: program(at, table, "make")?, remove: program(at, table, "remove")?, timeout })
}

/// A list is a program with its arguments; a text is a line for the shell.
fn program(at: &str, table: &toml::Table, key: &str) -> Result<Program, Problem> {
    let wrong = |why: &str| {
        Err(Problem::invalid(format!("{at}.{key} {why}")).hint(format!(
            "write {key} = [\"/path/to/program\", \"argument\"], or {key} = \"a line for the shell\""
        )))
    };
    match table.get(key) {
        None => wrong("is missing"),
        Some(toml::Value::String(line)) if !line.trim().is_empty() => Ok(Program::Shell(line.clone())),
        Some(toml::Value::Array(words)) => {
            let words: Option<Vec<String>> =
                words.iter().map(|word| Some(word.as_str()?.to_owned())).collect();
            match words.as_deref() {
                Some([program, arguments @ ..]) if !program.is_empty() => {
                    Ok(Program::Arguments { program: program.clone(), arguments: arguments.to_vec() })
                }
                _ => wrong("is no list of texts that begins with a program"),
            }
        }
        Some(_) => wrong("is no command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<PoolName, PoolCommands>, String> {
        let table: toml::Table = text.parse().unwrap();
        let mut faults = Vec::new();
        let read = read(Path::new("tutti.toml"), table[SECTION].as_table().unwrap(), &mut faults);
        match faults.first() {
            None => Ok(read),
            Some(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn a_list_is_run_as_it_is_and_a_text_by_the_shell() {
        let text =
            "[pool.burst]\nmake = [\"/bin/make\", \"--size\", \"a b\"]\nremove = \"rm it\"\ntimeout = \"2m\"";
        let pools = read_text(text).unwrap();
        let burst = &pools[&"burst".parse().unwrap()];
        let arguments = vec!["--size".to_owned(), "a b".to_owned()];
        assert_eq!(burst.make, Program::Arguments { program: "/bin/make".into(), arguments });
        assert_eq!(burst.remove, Program::Shell("rm it".into()));
        assert_eq!(burst.timeout, Millis::seconds(120));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, said) in [
            ("[pool]\nburst = 1", "tutti.toml: pool.burst must be a section"),
            ("[pool.burst]\nmake = \"x\"", "tutti.toml: pool.burst.remove is missing"),
            ("[pool.burst]\nmake = []\nremove = \"x\"", "pool.burst.make is no list"),
            ("[pool.burst]\nmake = [1]\nremove = \"x\"", "pool.burst.make is no list"),
            ("[pool.burst]\nmkae = \"x\"", "pool.burst has no setting \"mkae\""),
            ("[pool.Burst]\nmake = \"x\"\nremove = \"x\"", "pool \"Burst\" is not"),
            (
                "[pool.burst]\nmake = \"x\"\nremove = \"x\"\ntimeout = \"soon\"",
                "pool.burst.timeout = \"soon\"",
            ),
        ] {
            let fault = read_text(text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
