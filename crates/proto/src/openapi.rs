//! An OpenAPI 3.1 document of one service: the path of each method and of each HTTP rule, and the schemas of its messages as
//! protobuf's JSON mapping has them.
//!
//! Methods that take a stream of requests have no JSON form, and are named in the description only.

mod schemas;

use crate::docs::Docs;
use crate::paths::{Body, Route, Routes};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use schemas::Schemas;
use serde_json::{Map, Value, json};

/// Deepest message in a message whose fields are named as parameters of a query.
const PARAMETER_DEPTH: usize = 3;
/// Most parameters of one path that are named: more can be given than anyone reads.
const NAMED_PARAMETERS: usize = 200;
/// HTTP methods that an OpenAPI document has a place for.
const VERBS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"];
/// The schema of failures; the names of messages are not in this package.
const ERROR: &str = "tutti.grpc.Error";

/// The document of a service's version. `docs` may be those of a set without comments.
#[must_use]
pub fn document(service: &ServiceDescriptor, version: &str, routes: &Routes, docs: &Docs) -> Value {
    let mut document = Document { service, docs, schemas: Schemas::new(docs), paths: Map::new() };
    let mut streams = Vec::new();
    for method in service.methods() {
        if method.is_client_streaming() {
            streams.push(method.name().to_owned());
            continue;
        }
        document.method(&method);
    }
    let mut used: Vec<String> = Vec::new();
    for route in routes.all().iter().filter(|route| !route.method.is_client_streaming()) {
        let count = used.iter().filter(|name| *name == route.method.name()).count();
        used.push(route.method.name().to_owned());
        document.route(route, count);
    }
    let mut description = docs.get(service.full_name()).unwrap_or_default().to_owned();
    if !streams.is_empty() {
        let separator = if description.is_empty() { "" } else { "\n\n" };
        let names = streams.join(", ");
        description.push_str(&format!(
            "{separator}Only over gRPC, because they take a stream of requests: {names}."
        ));
    }
    let mut schemas = document.schemas.finish();
    schemas.insert(ERROR.to_owned(), error());
    let mut info = json!({ "title": service.full_name(), "version": version });
    described(&mut info, Some(&description));
    json!({
        "openapi": "3.1.0",
        "info": info,
        "tags": [{ "name": service.full_name() }],
        "paths": document.paths,
        "components": { "schemas": schemas },
    })
}

/// Adds a description, if there is one.
fn described(value: &mut Value, description: Option<&str>) {
    if let (Some(object), Some(text)) = (value.as_object_mut(), description.filter(|text| !text.is_empty())) {
        object.insert("description".to_owned(), text.into());
    }
}

/// gRPC's failure as JSON.
fn error() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": { "type": "integer", "format": "int32", "description": "gRPC's status code" },
            "message": { "type": "string" },
            "details": { "type": "array", "items": { "type": "object", "additionalProperties": true } },
        },
    })
}

struct Document<'a> {
    service: &'a ServiceDescriptor,
    docs: &'a Docs,
    schemas: Schemas<'a>,
    paths: Map<String, Value>,
}

impl Document<'_> {
    /// `POST /package.Service/Method`.
    fn method(&mut self, method: &MethodDescriptor) {
        let body = self.schemas.reference(&method.input());
        let mut operation = self.operation(method, method.name().to_owned(), None);
        self.set(&mut operation, "requestBody", content("application/json", body));
        self.insert(format!("/{}/{}", self.service.full_name(), method.name()), "post", operation);
    }

    fn route(&mut self, route: &Route, count: usize) {
        let verb = match route.verb.as_str() {
            // Any method will do; one has to be named.
            "*" => "post".to_owned(),
            verb if VERBS.contains(&verb) => verb.to_ascii_lowercase(),
            _ => return,
        };
        let name = format!("{}.http{}", route.method.name(), count.saturating_add(1));
        let mut operation = self.operation(&route.method, name, route.response.as_ref());
        let mut parameters: Vec<Value> = Vec::new();
        for (name, field) in route.variables() {
            parameters.push(self.parameter(&name, field, "path"));
        }
        match &route.body {
            Body::Whole => {
                let body = self.schemas.reference(&route.method.input());
                self.set(&mut operation, "requestBody", content("application/json", body));
            }
            Body::Field(field) => {
                let body = self.schemas.field(field);
                self.set(&mut operation, "requestBody", content("application/json", body));
            }
            Body::None => {}
        }
        if route.body != Body::Whole {
            let mut given: Vec<String> = route.variables().map(|(name, _)| name).collect();
            given.extend(match &route.body {
                Body::Field(field) => Some(field.name().to_owned()),
                _ => None,
            });
            self.query(&route.method.input(), "", &given, PARAMETER_DEPTH, &mut parameters);
        }
        if !parameters.is_empty() {
            self.set(&mut operation, "parameters", parameters.into());
        }
        self.insert(route.path(), &verb, operation);
    }

    /// The fields that the query may give.
    fn query(
        &mut self,
        message: &MessageDescriptor,
        before: &str,
        given: &[String],
        depth: usize,
        parameters: &mut Vec<Value>,
    ) {
        use crate::json::FromText;
        for field in message.fields() {
            let name = format!("{before}{}", field.name());
            if parameters.len() >= NAMED_PARAMETERS || given.contains(&name) {
                continue;
            }
            match (FromText::of(&field), field.kind()) {
                (FromText::No, Kind::Message(inner)) if !field.is_list() && !field.is_map() => {
                    if let Some(depth) = depth.checked_sub(1) {
                        self.query(&inner, &format!("{name}."), given, depth, parameters);
                    }
                }
                (FromText::No, _) => {}
                (FromText::One | FromText::Many, _) => {
                    parameters.push(self.parameter(&name, &field, "query"))
                }
            }
        }
    }

    fn parameter(&mut self, name: &str, field: &FieldDescriptor, place: &str) -> Value {
        let schema = self.schemas.field(field);
        let mut parameter = json!({ "name": name, "in": place, "schema": schema });
        if place == "path" {
            self.set(&mut parameter, "required", true.into());
        }
        described(&mut parameter, self.docs.get(field.full_name()));
        parameter
    }

    fn operation(
        &mut self,
        method: &MethodDescriptor,
        id: String,
        response: Option<&FieldDescriptor>,
    ) -> Value {
        let schema = match response {
            Some(field) => self.schemas.field(field),
            None => self.schemas.reference(&method.output()),
        };
        let (media, text) = if method.is_server_streaming() {
            (
                "application/x-ndjson",
                "The replies, each on a line of its own; a failure is a last line {\"error\": …}.",
            )
        } else {
            ("application/json", "The reply.")
        };
        let mut answer = content(media, schema);
        described(&mut answer, Some(text));
        let mut failure =
            content("application/json", json!({ "$ref": format!("#/components/schemas/{ERROR}") }));
        described(&mut failure, Some("A failure, with gRPC's status."));
        let mut operation = json!({
            "operationId": id,
            "tags": [self.service.full_name()],
            "responses": { "200": answer, "default": failure },
        });
        described(&mut operation, self.docs.get(method.full_name()));
        operation
    }

    fn set(&self, value: &mut Value, name: &str, member: Value) {
        if let Some(object) = value.as_object_mut() {
            object.insert(name.to_owned(), member);
        }
    }

    fn insert(&mut self, path: String, verb: &str, operation: Value) {
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.entry(verb).or_insert(operation);
        }
    }
}

fn content(media: &str, schema: Value) -> Value {
    json!({ "content": { media: { "schema": schema } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;
    use std::collections::BTreeSet;

    fn of(file: &str, service: &str) -> Value {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/json");
        let compiled = compile(&[format!("{folder}/{file}")], &[folder.to_owned()]).unwrap();
        let service = compiled.pool.get_service_by_name(service).unwrap();
        document(&service, "1.0", &Routes::of(&service).unwrap(), &Docs::of(&compiled.pool))
    }

    /// Every `$ref` of a document.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for (file, service) in
            [("vectors.proto", "test.json.Echo"), ("library.proto", "test.library.Library")]
        {
            let document = of(file, service);
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            assert!(found.len() >= 3, "{found:?}");
            for reference in found {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn a_service_with_rules_is_described() {
        insta::assert_json_snapshot!(of("library.proto", "test.library.Library"));
    }

    #[test]
    fn fields_are_described_as_they_stand_in_json() {
        let document = of("vectors.proto", "test.json.Echo");
        insta::assert_json_snapshot!(document["components"]["schemas"]["test.json.Everything"]);
    }
}
