//! What the command line itself goes by: effective settings, contexts, completions.

use crate::{
    Globals, Program,
    args::ContextCommand,
    contexts::{self, Contexts},
    effective::{Effective, Token},
    exit::Failed,
    table::Table,
    ui::Ui,
};
use serde::Serialize;
use tutti_model::Problem;

#[derive(Serialize)]
struct Setting {
    setting: String,
    value: String,
    from: String,
}

/// `tutti config`
pub(super) fn config(globals: &Globals, program: &Program, ui: &Ui) -> Result<(), Failed> {
    let effective = Effective::of_process(globals)?;
    let mut settings = Vec::new();
    let mut add = |setting: &str, value: String, from: &str| {
        settings.push(Setting { setting: setting.to_owned(), value, from: from.to_owned() });
    };
    add("api", effective.api.value.clone(), &effective.api.by);
    match &effective.token {
        Some(token) => match &token.value {
            Token::Secret(_) => add("token", "[secret]".to_owned(), &token.by),
            Token::File(path) => add("token_file", path.display().to_string(), &token.by),
        },
        None => add("token", "none".to_owned(), "default"),
    }
    if let Some(ca) = &effective.ca {
        add("ca", ca.value.lines().next().unwrap_or_default().to_owned(), &ca.by);
    }
    match &effective.context {
        Some(context) => add("context", context.value.clone(), &context.by),
        None => add("context", "none".to_owned(), "default"),
    }
    add("contexts_file", effective.file.display().to_string(), "default");
    for (setting, value, from) in &program.settings {
        add(setting, value.clone(), from);
    }
    ui.result(&settings, || {
        let mut table = Table::new(&["SETTING", "FROM", "VALUE"], "no settings").whole();
        for row in &settings {
            table.row([row.setting.as_str().into(), row.from.as_str().into(), row.value.as_str().into()]);
        }
        table.show(ui)
    })
}

/// `tutti context`
pub(super) fn context(globals: &Globals, command: &ContextCommand, ui: &Ui) -> Result<(), Failed> {
    let path = contexts::path()?;
    match command {
        ContextCommand::Use { name } => {
            contexts::use_in(&path, name)?;
            Ok(ui.print(&format!("commands speak to {name} from now on"))?)
        }
        ContextCommand::List => {
            let known = Contexts::read(&path)?;
            // Not the whole of what counts: an unknown one must not keep the list from being shown.
            let current = globals
                .context
                .clone()
                .or_else(|| std::env::var("TUTTI_CONTEXT").ok())
                .or(known.current.clone());
            ui.result(&known, || {
                let mut table = Table::new(
                    &["CURRENT", "NAME", "API", "TOKEN FILE"],
                    "no cloud is known yet: tutti dev notes its own",
                )
                .whole();
                for (name, context) in &known.contexts {
                    let mark = if current.as_ref() == Some(name) { "*" } else { "" };
                    let token = context
                        .token_file
                        .as_ref()
                        .map_or_else(String::new, |path| path.display().to_string());
                    table.row([mark.into(), name.as_str().into(), context.api.as_str().into(), token.into()]);
                }
                table.show(ui)
            })
        }
    }
}

/// `tutti completions`
pub(super) fn completions(shell: clap_complete::Shell, program: &Program, ui: &Ui) -> Result<(), Failed> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program.command.clone(), "tutti", &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| Problem::internal(format!("the script for {shell} cannot be written: {error}")))?;
    Ok(ui.print(&script)?)
}
