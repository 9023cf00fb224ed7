//! The message of a request, put together from its path, query and body. Protobuf merges what stands one after the
//! other, so each part is appended, the path last: it says which object is meant, whatever else the body claims.

use super::compile::field_path;
use super::{Body, Match, PARAMETERS, TARGET_BYTES, template};
use crate::json::{self, FromText, JsonFault, Unknown};
use prost_reflect::FieldDescriptor;
use std::collections::BTreeSet;

impl Match<'_> {
    /// The encoded message of this request.
    ///
    /// # Errors
    /// The first fault of the body, of the query (its parameter stands as the path), or of the path.
    pub fn message(&self, query: Option<&str>, body: &[u8]) -> Result<Vec<u8>, JsonFault> {
        let input = self.route.method.input();
        let mut out = Vec::new();
        let empty = body.iter().all(u8::is_ascii_whitespace);
        match &self.route.body {
            _ if empty => {}
            Body::Whole => out = json::to_protobuf(&input, body, Unknown::Refuse)?,
            Body::Field(field) => json::append_json(field, body, Unknown::Refuse, &mut out)?,
            Body::None => {
                return Err(fault("", "the request has a body, and this path takes none".to_owned()));
            }
        }
        self.query(query.unwrap_or_default(), &mut out)?;
        for (variable, value) in self.route.variables.iter().zip(&self.values) {
            append(&variable.path, value, &mut out).map_err(|what| fault(&variable.name(), what))?;
        }
        Ok(out)
    }

    fn query(&self, query: &str, out: &mut Vec<u8>) -> Result<(), JsonFault> {
        if query.len() > TARGET_BYTES {
            return Err(fault("", format!("the query is longer than {TARGET_BYTES} bytes")));
        }
        let mut seen: BTreeSet<Vec<u32>> = BTreeSet::new();
        for (count, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
            if count >= PARAMETERS {
                return Err(fault("", format!("the query has more than {PARAMETERS} parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| template::decode(&text.replace('+', " "), false);
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(fault("", "the query is not well percent-encoded".to_owned()));
            };
            let path = self.parameter(&name)?;
            let single = path.last().is_some_and(|last| FromText::of(last) == FromText::One);
            if !seen.insert(path.iter().map(FieldDescriptor::number).collect()) && single {
                return Err(fault(&name, "is given twice".to_owned()));
            }
            append(&path, &value, out).map_err(|what| fault(&name, what))?;
        }
        Ok(())
    }

    /// The field of a query's parameter: one that neither path nor body gives.
    fn parameter(&self, name: &str) -> Result<Vec<FieldDescriptor>, JsonFault> {
        let path = field_path(&self.route.method.input(), name).map_err(|what| fault("", what))?;
        let given = match &self.route.body {
            Body::Whole => true,
            Body::Field(field) => path.first() == Some(field),
            Body::None => false,
        };
        if given {
            return Err(fault(name, "is given in the body, not in the query".to_owned()));
        }
        if self.route.variables.iter().any(|variable| variable.path == path) {
            return Err(fault(name, "is given by the path, not by the query".to_owned()));
        }
        if path.last().is_none_or(|last| FromText::of(last) == FromText::No) {
            return Err(fault(name, "is a message, which a query can't give".to_owned()));
        }
        Ok(path)
    }
}

/// Appends the field at the end of this path, within the messages that lead to it.
fn append(path: &[FieldDescriptor], value: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let Some((last, outer)) = path.split_last() else { return Ok(()) };
    let mut bytes = Vec::new();
    json::append_text(last, value, &mut bytes).map_err(|fault| fault.what)?;
    for field in outer.iter().rev() {
        let mut wrapped = Vec::new();
        json::delimited(field.number(), &bytes, &mut wrapped);
        bytes = wrapped;
    }
    out.extend(bytes);
    Ok(())
}

fn fault(path: &str, what: String) -> JsonFault {
    let path: String = path.chars().take(80).flat_map(char::escape_debug).collect();
    JsonFault { line: 0, column: 0, path, what, hint: None }
}
