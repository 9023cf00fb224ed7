//! How the bindings of each language call what a WIT name stands for.
//!
//! WIT names here are kebab-case words of lower-case letters and digits, as `tutti-proto` makes them.

/// Words that Rust keeps to itself, as wit-bindgen 0.62 knows them.
const RUST: [&str; 50] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct",
    "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where",
    "while", "yield",
];
/// Words that Python keeps to itself.
const PYTHON: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Whether a word is a keyword in either language.
pub(super) fn is_keyword(word: &str) -> bool {
    RUST.contains(&word) || PYTHON.contains(&word)
}

/// A field, function, module or parameter in Rust.
pub(super) fn rust(wit: &str) -> String {
    let snake = wit.replace('-', "_");
    if RUST.contains(&wit) { format!("{snake}_") } else { snake }
}

/// A type or case in Rust.
pub(super) fn rust_type(wit: &str) -> String {
    match wit {
        // wit-bindgen's trait of an exported interface has this name.
        "guest" => "Guest_".to_owned(),
        _ => camel(wit),
    }
}

/// A field, function, module or parameter in Python.
pub(super) fn python(wit: &str) -> String {
    let snake = wit.replace('-', "_");
    if PYTHON.contains(&snake.as_str()) { format!("{snake}_") } else { snake }
}

/// A class in Python.
pub(super) fn python_type(wit: &str) -> String {
    let camel = camel(wit);
    if PYTHON.contains(&camel.as_str()) { format!("{camel}_") } else { camel }
}

/// A case of an enum in Python.
pub(super) fn python_case(wit: &str) -> String {
    wit.replace('-', "_").to_ascii_uppercase()
}

fn camel(wit: &str) -> String {
    let upper = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    wit.split('-').map(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_bindings() {
        assert_eq!(rust("say-hello"), "say_hello");
        assert_eq!(rust("type"), "type_");
        assert_eq!(rust("union"), "union");
        assert_eq!(rust_type("string-n2"), "StringN2");
        assert_eq!(rust_type("guest"), "Guest_");
        assert_eq!(python("from"), "from_");
        assert_eq!(python("type"), "type");
        assert_eq!(python_type("none"), "None_");
        assert_eq!(python_case("color-red"), "COLOR_RED");
        assert!(is_keyword("fn") && is_keyword("lambda") && !is_keyword("hello"));
    }
}
