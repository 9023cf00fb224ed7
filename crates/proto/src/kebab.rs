//! Names of protobuf as labels of WIT, and how several that would be one are told apart.
//!
//! A WIT label is words of lower-case letters and digits between single dashes, each starting with a letter. (Newer
//! parsers let later words start with a digit; those that guests are built with today don't.)

use std::{borrow::Cow, collections::BTreeSet};

/// Every reserved word of WIT; such a name is written with a `%` before it. `from`, `as` and their like are reserved only
/// in places, but the `%` is right everywhere.
const KEYWORDS: [&str; 42] = [
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "f32",
    "f64",
    "flags",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "with",
];

/// What no binding generator can turn into a name: neither Rust nor Python has a way to escape it.
const UNSPEAKABLE: &str = "self";

/// A protobuf name as a WIT label: `HTTPServer` is `http-server`, `talk_to_me` is `talk-to-me`, `line_2` is `line2`,
/// `com.example` is `com-example`.
///
/// Always a valid label, whatever the name; several names may have the same, which [`Names`] settles.
#[must_use]
pub fn kebab(name: &str) -> String {
    let mut label = String::with_capacity(name.len().saturating_add(4));
    let mut before: Option<char> = None;
    let mut boundary = true;
    let mut chars = name.chars().peekable();
    while let Some(char) = chars.next() {
        if !char.is_ascii_alphanumeric() {
            boundary = true;
            before = None;
            continue;
        }
        let next_is_lower = chars.peek().is_some_and(char::is_ascii_lowercase);
        let starts_word = char.is_ascii_uppercase()
            && before.is_some_and(|before| !before.is_ascii_uppercase() || next_is_lower);
        if boundary || starts_word {
            push_boundary(&mut label, char);
        }
        label.push(char.to_ascii_lowercase());
        boundary = false;
        before = Some(char);
    }
    match label.as_str() {
        "" => "x".to_owned(),
        UNSPEAKABLE => format!("{UNSPEAKABLE}-value"),
        _ => label,
    }
}

/// A word that starts with a digit joins the one before it; the first gets a letter.
fn push_boundary(label: &mut String, next: char) {
    match (label.is_empty(), next.is_ascii_digit()) {
        (true, true) => label.push('n'),
        (false, false) => label.push('-'),
        _ => {}
    }
}

/// A label as it is written in WIT text: reserved words get their `%`.
#[must_use]
pub fn escape(label: &str) -> Cow<'_, str> {
    let reserved = label == "world" || KEYWORDS.binary_search(&label).is_ok();
    if reserved { Cow::Owned(format!("%{label}")) } else { Cow::Borrowed(label) }
}

/// The names of one scope, each once.
#[derive(Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// Takes a name that nothing else in this scope may have.
    pub fn reserve(&mut self, label: impl Into<String>) {
        self.taken.insert(label.into());
    }

    /// Names for all these labels, in their order. The first of several that are the same keeps it; the others get `-n2`,
    /// `-n3` and so on, which never takes a name that another label has for its own.
    pub fn assign<'a>(&mut self, labels: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut named: Vec<(String, bool)> = Vec::new();
        for label in labels {
            named.push((label.to_owned(), self.taken.insert(label.to_owned())));
        }
        named.into_iter().map(|(label, first)| if first { label } else { self.suffixed(&label) }).collect()
    }

    fn suffixed(&mut self, label: &str) -> String {
        let mut number: u32 = 2;
        loop {
            let candidate = format!("{label}-n{number}");
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
            number = number.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYWORDS, Names, escape, kebab};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_become_labels() {
        for (name, label) in [
            ("HTTPServer", "http-server"),
            ("talk_to_me", "talk-to-me"),
            ("HelloWorld", "hello-world"),
            ("COLOR_RED", "color-red"),
            ("line_2", "line2"),
            ("line_2_end", "line2-end"),
            ("line2End", "line2-end"),
            ("_1", "n1"),
            ("__", "x"),
            ("foo__bar_", "foo-bar"),
            ("A", "a"),
            ("aB", "a-b"),
            ("getURL", "get-url"),
            ("com.example.v1", "com-example-v1"),
            ("Outer.Inner", "outer-inner"),
            ("größe", "gr-e"),
            ("", "x"),
            ("Self", "self-value"),
        ] {
            assert_eq!(kebab(name), label, "{name}");
        }
    }

    #[test]
    fn keywords_are_sorted_and_escaped() {
        assert!(KEYWORDS.is_sorted());
        assert_eq!(escape("type"), "%type");
        assert_eq!(escape("world"), "%world");
        assert_eq!(escape("types"), "types");
    }

    #[test]
    fn the_first_keeps_its_name_and_no_suffix_takes_another() {
        let mut names = Names::default();
        assert_eq!(names.assign(["a", "a", "a-n2", "a"]), ["a", "a-n3", "a-n2", "a-n4"]);
    }

    proptest! {
        #[test]
        fn always_a_valid_label(name in "\\PC{0,40}") {
            let label = kebab(&name);
            prop_assert!(wit_parser::validate_id(&label).is_ok(), "{label}");
            for word in label.split('-') {
                prop_assert!(word.starts_with(|first: char| first.is_ascii_lowercase()), "{label}");
            }
        }

        #[test]
        fn assigned_names_are_unique_and_valid(labels in prop::collection::vec("[ab](-n[23])?", 0..12)) {
            let assigned = Names::default().assign(labels.iter().map(String::as_str));
            let unique: BTreeSet<&String> = assigned.iter().collect();
            prop_assert_eq!(unique.len(), labels.len());
            for label in &assigned {
                prop_assert!(wit_parser::validate_id(label).is_ok());
            }
        }
    }
}
