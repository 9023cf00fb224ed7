//! `tutti audit`: who changed what, newest first. The table says which fields changed; `-o json` has all of it.

use super::{Session, now};
use crate::{args::AuditArgs, exit::Failed, table::Table, text::since};
use serde_json::Value;
use tutti_api::client::AuditRequest;
use tutti_model::{
    Resource, Timestamp,
    audit::{AuditChange, AuditSpec},
};

/// Most fields that one line names.
const FIELDS: usize = 3;

pub(super) async fn audit(session: &Session<'_>, args: &AuditArgs) -> Result<(), Failed> {
    let now = now();
    let request = AuditRequest {
        object: args.object.clone(),
        who: args.who.clone(),
        since: args.since.map(|span| Timestamp(now.0.saturating_sub(span.0))),
        most: args.limit,
    };
    let records = session.client.audit(&request).await?;
    session.ui.result(&records, || table(&records, now).show(session.ui))
}

fn table(records: &[Resource<AuditSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["AGE", "WHO", "FROM", "OPERATION", "OBJECT", "CHANGED"], "no changes");
    for record in records {
        let spec = &record.spec;
        let who = match &spec.user {
            Some(user) => user.to_string(),
            None => spec.who.clone(),
        };
        let changed = spec.changes.iter().find_map(fields).unwrap_or_default();
        table.row([
            since(spec.at, now).into(),
            who.into(),
            spec.from.clone().unwrap_or_else(|| "socket".into()).into(),
            spec.operation.as_str().into(),
            spec.object.as_str().into(),
            changed.into(),
        ]);
    }
    table.yielding("CHANGED")
}

/// Which fields of an object that was there changed, with their values where both are short.
fn fields(change: &AuditChange) -> Option<String> {
    let (Some(Value::Object(before)), Some(Value::Object(after))) = (&change.before, &change.after) else {
        return None;
    };
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut told: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| match (plain(before.get(name)), plain(after.get(name))) {
            (Some(was), Some(is)) => format!("{name}: {was} → {is}"),
            _ => name.clone(),
        })
        .collect();
    if told.len() > FIELDS {
        told.truncate(FIELDS);
        told.push("…".into());
    }
    (!told.is_empty()).then(|| told.join(", "))
}

fn plain(value: Option<&Value>) -> Option<String> {
    match value {
        None | Some(Value::Null) => Some("none".into()),
        Some(Value::Bool(_) | Value::Number(_)) => value.map(Value::to_string),
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(_) | Value::Object(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tutti_model::{Kind, audit};

    #[test]
    fn a_line_names_what_changed() {
        let told = |before: Value, after: Value| {
            fields(&audit::change(Kind::Node, "n1", Some(&before), Some(&after))).unwrap_or_default()
        };
        assert_eq!(
            told(json!({ "cordoned": false, "x": 1 }), json!({ "cordoned": true, "x": 1 })),
            "cordoned: false → true"
        );
        assert_eq!(told(json!({ "a": [1] }), json!({ "a": [2], "b": "c" })), "a, b: none → c");
        let many = |value: u8| json!({ "a": value, "b": value, "c": value, "d": value });
        assert!(told(many(1), many(2)).ends_with(", …"));
    }
}
