//! What of an object may leave a cloud for somebody else to look at: its shape, and none of what opens something.
//!
//! It goes by the names of fields, however deep they stand, so that it holds for audit records too, which have specs of
//! every kind in them.

use serde_json::{Value, json};

/// Stands for what was left out.
const LEFT_OUT: &str = "(left out)";

/// Fields that are left out whole: what opens, proves or seals something, and what guests wrote.
const NEVER: &[&str] =
    &["hash", "joined_by", "last_lines", "password", "proof", "sealed", "sealed_key", "secret", "token"];

/// The value without what nobody else is to see: variables keep their names, and commands their program.
pub(crate) fn redacted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let shown = fields.into_iter().map(|(name, value)| {
                let value = field(&name, value);
                (name, value)
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        value => value,
    }
}

fn field(name: &str, value: Value) -> Value {
    match (name, value) {
        (_, Value::Null) => Value::Null,
        ("env", Value::Object(variables)) => {
            variables.into_iter().map(|(name, _)| (name, Value::from(LEFT_OUT))).collect()
        }
        // What stands behind the program may be a password as well.
        ("run", Value::Array(words)) if words.len() > 1 => {
            let program = words.into_iter().next().unwrap_or_default();
            json!([program, LEFT_OUT])
        }
        ("env", _) => LEFT_OUT.into(),
        (name, _) if NEVER.contains(&name) => LEFT_OUT.into(),
        (_, value) => redacted(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_something_is_left_out_however_deep_it_stands() {
        let whole = json!({
            "spec": {
                "manifest": {
                    "env": { "PASSWORD": "MARKER" },
                    "run": ["./server", "--password", "MARKER"],
                    "secrets": { "API_KEY": "api-key" },
                },
                "hash": "MARKER",
            },
            "status": { "last_lines": ["MARKER"], "failure": { "last_lines": ["MARKER"], "reason": "exited" } },
            "changes": [{ "before": null, "after": { "env": { "A": "MARKER" }, "sealed": { "x": "MARKER" } } }],
        });
        let shown = redacted(whole);
        assert!(!shown.to_string().contains("MARKER"), "{shown}");
        assert_eq!(shown["spec"]["manifest"]["env"]["PASSWORD"], LEFT_OUT);
        assert_eq!(shown["spec"]["manifest"]["run"], json!(["./server", LEFT_OUT]));
        assert_eq!(
            shown["spec"]["manifest"]["secrets"]["API_KEY"], "api-key",
            "the name of a secret is none"
        );
        assert_eq!(shown["status"]["failure"]["reason"], "exited");
        assert_eq!(shown["changes"][0]["before"], Value::Null);
    }
}
