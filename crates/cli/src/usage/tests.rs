use super::*;
use crate::args::command;

/// The sentence and the hint for a line.
fn said(line: &str) -> (String, String) {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let tree = command();
    let error = tree
        .clone()
        .try_get_matches_from([&["tutti".to_owned()], words.as_slice()].concat())
        .expect_err("it cannot be read");
    let problem = problem(&error, &tree, &words).expect("a problem");
    assert!(!problem.detail.contains('\n'), "{}", problem.detail);
    (problem.detail, problem.hint.unwrap_or_default())
}

#[test]
fn each_mistake_is_one_sentence_with_what_helps() {
    for (line, detail, hint) in [
        (
            "deploy example.com:web@1.0 -5%",
            "tutti deploy: \"-5%\" is negative, which no amount can be",
            "did you mean 5%?",
        ),
        (
            "scale example.com:web -3",
            "tutti scale: \"-3\" is negative, which no amount can be",
            "did you mean 3?",
        ),
        ("logs x:y --tail -5", "tutti logs: \"-5\" is negative, which no amount can be", "did you mean 5?"),
        ("logs x:y --tail abc", "--tail: \"abc\" is not a whole number from 0", ""),
        (
            "deploy example.com:web@1.0",
            "tutti deploy: SHARE is missing: its share of the traffic, such as 100%, 10% or 0.1%",
            "write tutti deploy <NAME@VERSION> <SHARE>, or tutti deploy <NAME@VERSION> --steps <SHARE,…> --every <TIME>",
        ),
        (
            "-o json deploy example.com:web@1.0 --steps 1%",
            "tutti deploy: --every is missing: how long each step is observed before the next, such as 30s",
            "write tutti deploy <NAME@VERSION> <SHARE>, or tutti deploy <NAME@VERSION> --steps <SHARE,…> --every <TIME>",
        ),
        (
            "push",
            "tutti push: PATH and NAME@VERSION are missing",
            "write tutti push <PATH> <NAME@VERSION>, or tutti push <API.proto> <COMPONENT.wasm> <NAME@VERSION>",
        ),
        ("rollback", "tutti rollback: SERVICE is missing: which service", "write tutti rollback <SERVICE>"),
        ("deplyo x", "tutti has no command \"deplyo\"", "did you mean tutti deploy?"),
        ("help deplyo", "tutti has no command \"deplyo\"", "did you mean tutti deploy?"),
        ("frobnicate", "tutti has no command \"frobnicate\"", "tutti --help lists them"),
        ("--context deploy serivce", "tutti has no command \"serivce\"", "did you mean tutti service?"),
        ("service crate", "tutti service has no command \"crate\"", "did you mean tutti service create?"),
        (
            "service frobnicate",
            "tutti service has no command \"frobnicate\"",
            "its commands are create, list, show, delete",
        ),
        ("-o json", "tutti: a command is missing", "tutti --help lists them"),
        ("push . x:y@1 --manifst z", "tutti push has no option --manifst", "did you mean --manifest?"),
        ("--foo", "tutti has no option --foo", "tutti --help lists them"),
        ("status extra", "tutti status takes no \"extra\"", "write tutti status"),
        ("ps -o xml", "--output: \"xml\" is not one of table, json, yaml", ""),
        (
            "completions fsh",
            "SHELL: \"fsh\" is not one of bash, elvish, fish, powershell, zsh",
            "did you mean fish?",
        ),
        ("ps --context", "--context needs a value", "write --context NAME"),
        (
            "deploy example.com:web@1.0 10% --steps 1% --every 1s",
            "tutti deploy: SHARE does not go together with --steps",
            "leave one of them out; tutti deploy --help says more",
        ),
        (
            "--context a --context b ps",
            "tutti ps: --context is given twice",
            "leave one of them out; tutti ps --help says more",
        ),
    ] {
        let (said, hinted) = said(line);
        assert_eq!((said.as_str(), hinted.as_str()), (detail, hint), "tutti {line}");
    }
}

#[test]
fn help_and_versions_are_not_mistakes() {
    for line in ["--help", "--version", "deploy --help", "service"] {
        let tree = command();
        let error =
            tree.clone().try_get_matches_from(["tutti"].into_iter().chain(line.split(' '))).unwrap_err();
        assert!(problem(&error, &tree, &[]).is_none(), "tutti {line}");
    }
}

#[test]
fn no_command_leaves_a_mistake_to_several_lines() {
    fn walk(tree: &Command, path: &[String]) {
        for command in tree.get_subcommands() {
            let path = [path, &[command.get_name().to_owned()]].concat();
            walk(command, &path);
            for wrong in ["--no-such-option", "-5%"] {
                let words = [path.as_slice(), &[wrong.to_owned()]].concat();
                let root = super::super::args::command();
                let error =
                    root.clone().try_get_matches_from([&["tutti".to_owned()], words.as_slice()].concat());
                // Some need more words first, which is a mistake as well.
                let Some(problem) = problem(&error.unwrap_err(), &root, &words) else { continue };
                assert!(!problem.detail.contains('\n') && !problem.detail.is_empty(), "{words:?}");
            }
        }
    }
    walk(&command(), &[]);
}
