//! The API as an OpenAPI document, made from the table of operations, and the query parameters, bodies and answers
//! that the table does not hold.

use crate::{
    members,
    operations::{OPERATIONS, Operation, Right, is_replayed},
    pools, wire,
};
use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;

/// One query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
}

const fn parameter(name: &'static str, summary: &'static str) -> Parameter {
    Parameter { name, summary }
}

const CURSOR: Parameter = parameter("cursor", "The cursor of the page before.");
const LIMIT: Parameter = parameter("limit", "Most objects on the page, from 1 to 500.");
const WATCH: Parameter = parameter(
    "watch",
    "Streams changes as newline-delimited JSON: after this revision, or empty for all there is and then changes.",
);
const DOMAIN: Parameter = parameter("domain", "Only those of this domain.");
const SERVICE: Parameter = parameter("service", "Only those of this service.");
const OF_SERVICES: &[Parameter] = &[CURSOR, LIMIT, WATCH, DOMAIN, SERVICE];
const OF_DOMAINS: &[Parameter] = &[CURSOR, LIMIT, WATCH, DOMAIN];
const OF_PLATFORM: &[Parameter] = &[CURSOR, LIMIT, WATCH];

const OF_ZONE: &[Parameter] =
    &[parameter("after", "Only changes after this revision; without it, all there is and then changes.")];

const OF_LOGS: &[Parameter] = &[
    parameter("service", "Lines of this service's instances."),
    parameter("version", "Lines of this version's instances."),
    parameter("instance", "Lines of this instance."),
    parameter("tail", "Only the last so many lines of what is there."),
    parameter("since", "Only lines from then on, in milliseconds since 1970 (UTC)."),
    parameter("previous", "Only lines of instances that have ended."),
    parameter("follow", "Goes on with new lines as they come, and with instances that start later."),
];

const OF_PAGES: &[Parameter] = &[CURSOR, LIMIT];
const OF_AUDIT: &[Parameter] = &[
    CURSOR,
    LIMIT,
    parameter("object", "Only changes of this object, as KIND/NAME or its name."),
    parameter("who", "Only those that this token, user or member asked for."),
    parameter("since", "Only those from then on, in milliseconds since 1970 (UTC)."),
];

const OF_EVENTS: &[Parameter] = &[
    CURSOR,
    LIMIT,
    parameter(
        "watch",
        "Streams what happens after this revision, or from now on if empty, as newline-delimited JSON.",
    ),
    DOMAIN,
    SERVICE,
    parameter("node", "Only those on this node; not with watch."),
    parameter("since", "Only those from then on, in milliseconds since 1970 (UTC); not with watch."),
];

/// The query parameters of an operation; others are refused.
#[must_use]
pub fn parameters(operation: &str) -> &'static [Parameter] {
    match operation {
        "list_services" | "list_versions" | "list_deployments" | "list_instances" | "list_routes"
        | "list_tables" => OF_SERVICES,
        "list_secrets" => OF_DOMAINS,
        "list_domains" | "list_nodes" | "list_zones" | "list_tokens" | "list_users" | "list_claims"
        | "list_members" | "list_pools" => OF_PLATFORM,
        "logs" => OF_LOGS,
        "list_audit" => OF_AUDIT,
        "list_events" => OF_EVENTS,
        "list_machines" => OF_PAGES,
        "watch_zone_members"
        | "watch_zone_tables"
        | "watch_zone_nodes"
        | "watch_zone_hosts"
        | "watch_zone_ingresses"
        | "watch_zone_node"
        | "watch_node_instances" => OF_ZONE,
        _ => &[],
    }
}

/// The schema that an operation's body has.
fn request(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "create_domain" => "CreateDomain",
        "add_alias" => "AddAlias",
        "invite_member" => "Invite",
        "set_member" => "SetMember",
        "change_quota" => "QuotaChange",
        "create_user" => "CreateUser",
        "create_service" => "CreateService",
        "scale_service" => "Scale",
        "create_version" => "CreateVersion",
        "create_deployment" => "CreateDeployment",
        "promote_deployment" => "Promote",
        "create_route" => "CreateRoute",
        "create_token" => "CreateToken",
        "create_join_token" => "CreateJoinToken",
        "join" => "Join",
        "renew_certificate" => "Renew",
        "cordon_node" => "Cordon",
        "change_node" => "NodeChange",
        "set_pool" => "SetPool",
        "set_secret" => "SetSecret",
        "preload_version" => "Preload",
        "register_node" | "heartbeat_node" | "report_instances" | "report_ingress" | "report_dns"
        | "tell_figures" => "Anything",
        _ => return None,
    })
}

/// An operation's good answer.
enum Good {
    Json(&'static str, u16),
    List,
    Text,
    Lines,
    Events,
    Bytes,
    Nothing,
}

fn answer(operation: &Operation) -> Good {
    match operation.id {
        "health" | "metrics" | "debug_log" => Good::Text,
        "release" => Good::Json("Release", 200),
        "openapi" | "registry" | "read_cluster_key" | "read_instance_secrets" | "heartbeat_node" => {
            Good::Json("Anything", 200)
        }
        "whoami" => Good::Json("WhoAmI", 200),
        "get_quota" | "change_quota" => Good::Json("DomainQuota", 200),
        "status" => Good::Json("ClusterStatus", 200),
        "service_summary" => Good::Json("ServiceSummary", 200),
        "explain" => Good::Json("Explanation", 200),
        "logs" => Good::Lines,
        "read_blob" => Good::Bytes,
        "register_node" | "report_instances" | "report_ingress" | "leave_ingress" | "report_dns"
        | "tell_figures" => Good::Nothing,
        id if id.starts_with("watch_") => Good::Events,
        "create_token" | "create_user" => Good::Json("CreatedToken", 201),
        "create_join_token" => Good::Json("CreatedJoinToken", 201),
        "join" | "renew_certificate" => Good::Json("Joined", 201),
        "create_domain" | "add_alias" => Good::Json("Resource", 201),
        "list_invitations" => Good::Json("Invitations", 200),
        "leave_domain" | "decline_invitation" => Good::Nothing,
        "preload_version" => Good::Json("Preloaded", 200),
        "delete_service" => Good::Json("Resource", 202),
        "list_machines" | "get_machine" | "debug_reconcilers" => Good::Json("Anything", 200),
        "list_audit" => Good::Json("Page", 200),
        id if id.starts_with("list_") => Good::List,
        id if id.starts_with("create_") => Good::Json("Resource", 201),
        id if id.starts_with("delete_") => Good::Nothing,
        _ => Good::Json("Resource", 200),
    }
}

/// The document.
#[must_use]
pub fn document(release: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(operation.method.as_str().to_ascii_lowercase(), described(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tutti",
            "version": release,
            "description": "Every failure is application/problem+json (Problem). Lists are in pages, and stream changes with ?watch.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": right(operation.right),
        "responses": responses(operation),
    });
    let Some(fields) = described.as_object_mut() else { return described };
    let in_path =
        operation.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = parameters(operation.id).iter().map(|parameter| {
        json!({ "name": parameter.name, "in": "query", "description": parameter.summary, "schema": { "type": "string" } })
    });
    let mut all: Vec<Value> = in_path.chain(in_query).collect();
    if is_replayed(operation) {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 128 },
            "description": "Names the request: sent again within an hour it gets the same answer.",
        }));
    }
    if !all.is_empty() {
        fields.insert("parameters".into(), Value::Array(all));
    }
    if let Some(schema) = request(operation.id) {
        let required = operation.id != "promote_deployment";
        fields.insert(
            "requestBody".into(),
            json!({ "required": required, "content": content("application/json", schema) }),
        );
    }
    if !matches!(operation.right, Right::Public | Right::Node) {
        fields.insert("security".into(), json!([{ "token": [] }]));
    }
    described
}

const fn right(right: Right) -> &'static str {
    match right {
        Right::Public => "Needs no token.",
        Right::Anyone => "Needs a token; what is answered depends on it.",
        Right::View => "Needs the role viewer, deployer or owner in the object's domain, or admin.",
        Right::Deploy => "Needs the role deployer or owner in the object's domain, or admin.",
        Right::Own => "Needs the role owner in the object's domain, or admin.",
        Right::Admin => "Needs the role admin.",
        Right::Join => "Needs a join token as bearer, or the machine's control socket.",
        Right::Node => {
            "For agents, ingresses and DNS servers, over the machine's control socket; no token may."
        }
    }
}

fn content(kind: &str, schema: &str) -> Value {
    json!({ kind: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

fn responses(operation: &Operation) -> Value {
    let (status, good) = match answer(operation) {
        Good::Json(schema, status) => {
            (status, json!({ "description": "Done.", "content": content("application/json", schema) }))
        }
        Good::List => {
            let mut kinds = content("application/json", "Page");
            if let (Some(kinds), Some(watch)) =
                (kinds.as_object_mut(), content("application/x-ndjson", "WatchEvent").as_object())
            {
                kinds.extend(watch.clone());
            }
            (200, json!({ "description": "A page, or with ?watch a stream.", "content": kinds }))
        }
        Good::Text => (
            200,
            json!({ "description": "Done.", "content": { "text/plain": { "schema": { "type": "string" } } } }),
        ),
        Good::Lines => (
            200,
            json!({ "description": "A line each.", "content": content("application/x-ndjson", "LogLine") }),
        ),
        Good::Events => (
            200,
            json!({ "description": "An event a line.", "content": content("application/x-ndjson", "WatchEvent") }),
        ),
        Good::Bytes => {
            (200, json!({ "description": "The bytes.", "content": { "application/octet-stream": {} } }))
        }
        Good::Nothing => (204, json!({ "description": "Done." })),
    };
    json!({
        status.to_string(): good,
        "default": { "description": "It was not done.", "content": content("application/problem+json", "Problem") },
    })
}

/// Every schema by name: those of [`wire`] as they are derived, and the envelopes.
fn schemas() -> Value {
    let derived = [
        ("Problem", wire::ProblemBody::schema()),
        ("CreateDomain", wire::CreateDomain::schema()),
        ("AddAlias", wire::AddAlias::schema()),
        ("Invite", wire::Invite::schema()),
        ("SetMember", wire::SetMember::schema()),
        ("Invitation", wire::Invitation::schema()),
        ("Invitations", wire::Invitations::schema()),
        ("QuotaChange", wire::QuotaChange::schema()),
        ("DomainQuota", wire::DomainQuota::schema()),
        ("CreateUser", wire::CreateUser::schema()),
        ("CreateService", wire::CreateService::schema()),
        ("Scale", wire::Scale::schema()),
        ("CreateVersion", wire::CreateVersion::schema()),
        ("CreateDeployment", wire::CreateDeployment::schema()),
        ("Promote", wire::Promote::schema()),
        ("CreateRoute", wire::CreateRoute::schema()),
        ("CreateToken", wire::CreateToken::schema()),
        ("CreatedToken", wire::CreatedToken::schema()),
        ("CreateJoinToken", members::CreateJoinToken::schema()),
        ("CreatedJoinToken", members::CreatedJoinToken::schema()),
        ("Join", members::Join::schema()),
        ("Joined", members::Joined::schema()),
        ("Renew", members::Renew::schema()),
        ("Cordon", wire::Cordon::schema()),
        ("NodeChange", wire::NodeChange::schema()),
        ("SetPool", pools::SetPool::schema()),
        ("SetSecret", wire::SetSecret::schema()),
        ("Preload", wire::Preload::schema()),
        ("Preloaded", wire::Preloaded::schema()),
        ("NodePreload", wire::NodePreload::schema()),
        ("Explanation", wire::Explanation::schema()),
        ("Reason", wire::Reason::schema()),
        ("ClusterStatus", wire::ClusterStatus::schema()),
        ("ZoneSummary", wire::ZoneSummary::schema()),
        ("ServiceSummary", wire::ServiceSummary::schema()),
        ("Release", wire::Release::schema()),
        ("WhoAmI", wire::WhoAmI::schema()),
    ];
    let derived =
        derived.map(|(name, schema)| (name.to_owned(), serde_json::to_value(schema).unwrap_or_default()));
    let mut schemas: Map<String, Value> = derived.into_iter().collect();
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer", "minimum": 0 });
    let resource = json!({ "$ref": "#/components/schemas/Resource" });
    schemas.insert("Anything".into(), json!({}));
    schemas.insert(
        "Resource".into(),
        json!({
            "type": "object",
            "description": "An object: what was asked (spec) and what is (status).",
            "required": ["kind", "name", "uid", "generation", "revision", "created_at", "spec", "status"],
            "properties": {
                "kind": text(), "name": text(), "uid": text(), "generation": number(), "revision": number(),
                "created_at": number(), "deleted_at": number(),
                "finalizers": { "type": "array", "items": text() },
                "spec": { "type": "object" }, "status": { "type": "object" },
                "conditions": { "type": "array", "items": { "type": "object" } },
            },
        }),
    );
    schemas.insert(
        "Page".into(),
        json!({
            "type": "object",
            "required": ["items", "revision"],
            "properties": {
                "items": { "type": "array", "items": resource },
                "cursor": text(), "revision": number(),
            },
        }),
    );
    schemas.insert(
        "WatchEvent".into(),
        json!({
            "description": "One of \"init\", {\"init_item\": Resource}, {\"init_done\": {revision}} and {\"changes\": {revision, changes: [{\"put\": Resource} or {\"delete\": {name}}]}}.",
        }),
    );
    schemas.insert(
        "LogLine".into(),
        json!({
            "type": "object",
            "required": ["at", "instance", "output", "line"],
            "properties": { "at": number(), "instance": text(), "output": text(), "line": text() },
        }),
    );
    Value::Object(schemas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if key == "$ref" => {
                            found.insert(text.clone());
                        }
                        value => references(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_stands_there() {
        let document = document("0.0.0");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let count: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(count, OPERATIONS.len());
    }

    #[test]
    fn the_document_is_as_it_was() {
        insta::assert_json_snapshot!(document("0.0.0"));
    }
}
