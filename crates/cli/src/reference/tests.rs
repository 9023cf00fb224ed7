use super::*;

/// Every command below `command`, with its path.
fn each(path: &str, command: &Command, with: &mut impl FnMut(&str, &Command)) {
    let path = format!("{path}{}", command.get_name());
    with(&path, command);
    for sub in visible(command) {
        each(&format!("{path} "), sub, with);
    }
}

#[test]
fn the_help_of_every_command() {
    let mut command = crate::command().term_width(80);
    command.build();
    let mut out = String::new();
    each("", &command, &mut |path, command| {
        let help = command.clone().term_width(80).render_help().to_string();
        out.push_str(&format!("$ {path} -h\n{help}\n"));
    });
    let long: Vec<&str> =
        out.lines().filter(|line| line.chars().count() > 80 && !line.starts_with("Usage:")).collect();
    assert!(long.is_empty(), "{long:#?}");
    insta::assert_snapshot!(out);
}

#[test]
fn every_command_and_argument_says_what_it_is() {
    let mut command = crate::command();
    command.build();
    each("", &command, &mut |path, command| {
        assert!(command.get_about().is_some(), "{path} does not say what it does");
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{path}: {} does not say what it is", arg.get_id());
        }
    });
    command.debug_assert();
}

#[test]
fn the_reference_has_every_command_and_exit_code() {
    let text = markdown(&crate::command());
    let mut command = crate::command();
    command.build();
    each("", &command, &mut |path, _| assert!(text.contains(&format!("`{path}`")), "{path} is missing"));
    for code in tutti_model::ErrorCode::ALL {
        assert!(text.contains(&format!("| {} | `{code}`", code.exit_code())), "{code} is missing");
    }
}

#[test]
fn a_slip_of_the_fingers_is_told_the_nearest_command() {
    let error = crate::command().try_get_matches_from(["tutti", "depoly"]).unwrap_err().to_string();
    assert!(error.contains("'deploy'"), "{error}");
}

/// The binary has more commands than these, so the page is made by it; every section of ours must stand there as is.
#[test]
fn the_page_in_the_documentation_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    let page = std::fs::read_to_string(path).unwrap();
    for section in markdown(&crate::command()).split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        assert!(
            page.contains(section.trim_end()),
            "{title}: make it anew: tutti reference > docs/reference/cli.md"
        );
    }
}
