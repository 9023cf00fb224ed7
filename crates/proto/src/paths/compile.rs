//! From the options of methods to routes, with everything that can be wrong said at the push.

use super::template::Template;
use super::{Body, ROUTES, Route, Routes, Variable};
use crate::docs::Places;
use crate::fault::Fault;
use crate::json::FromText;
use prost::Message as _;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};

/// `google.protobuf.MethodOptions` with nothing but the rule. Read by number, not by the set's own declaration of the
/// extension: that was written by whoever wrote the set.
#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(message, optional, tag = "72295728")]
    http: Option<Rule>,
}

/// `google.api.HttpRule`.
#[derive(Clone, PartialEq, prost::Message)]
struct Rule {
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6, 8")]
    pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    body: String,
    #[prost(string, tag = "12")]
    response_body: String,
    #[prost(message, repeated, tag = "11")]
    additional_bindings: Vec<Rule>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
    #[prost(message, tag = "8")]
    Custom(Custom),
}

/// `google.api.CustomHttpPattern`.
#[derive(Clone, PartialEq, prost::Message)]
struct Custom {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    path: String,
}

pub(super) fn routes(service: &ServiceDescriptor) -> Result<Routes, Vec<Fault>> {
    let (mut routes, mut faults) = (Vec::new(), Vec::new());
    for method in service.methods() {
        let options = Options::decode(method.options().encode_to_vec().as_slice());
        let rule = match options {
            Ok(options) => options.http,
            Err(error) => {
                faults.push(fault(&method, &format!("its google.api.http option is malformed: {error}")));
                continue;
            }
        };
        let Some(rule) = rule else { continue };
        for rule in std::iter::once(&rule).chain(&rule.additional_bindings) {
            match route(&method, rule) {
                Ok(route) => routes.push(route),
                Err(what) => faults.push(fault(&method, &what)),
            }
            if routes.len() > ROUTES {
                return Err(vec![fault(&method, &format!("the service has more than {ROUTES} HTTP rules"))]);
            }
        }
        if rule.additional_bindings.iter().any(|rule| !rule.additional_bindings.is_empty()) {
            faults.push(fault(&method, "an additional binding has additional bindings of its own"));
        }
    }
    routes.sort_by(Route::order);
    faults.extend(routes.iter().zip(routes.iter().skip(1)).filter_map(|(one, other)| conflict(one, other)));
    faults.extend(routes.iter().filter_map(|route| shadowed(service, route)));
    if faults.is_empty() { Ok(Routes { routes }) } else { Err(faults) }
}

fn fault(method: &MethodDescriptor, what: &str) -> Fault {
    let file = method.parent_file();
    Fault {
        position: Places::of(&file).position(method.path()),
        ..Fault::of_file(file.name(), format!("{}: {what}", method.full_name()))
    }
}

/// Sorted routes that one request would match alike stand next to each other.
fn conflict(one: &Route, other: &Route) -> Option<Fault> {
    let alike = one.template == other.template && one.verb == other.verb;
    let other_name = other.method.full_name();
    alike.then(|| {
        fault(&one.method, &format!("a request for {one} would call {other_name} as well"))
            .hint("give one of them another path or HTTP method")
    })
}

/// A rule whose path is that of a method itself would never be looked at.
fn shadowed(service: &ServiceDescriptor, route: &Route) -> Option<Fault> {
    let path = route.template.to_string();
    let name = path.strip_prefix('/')?.strip_prefix(service.full_name())?.strip_prefix('/')?;
    service.methods().any(|method| method.name() == name).then(|| {
        fault(&route.method, &format!("{route} is the path of a method itself")).hint("give it another path")
    })
}

fn route(method: &MethodDescriptor, rule: &Rule) -> Result<Route, String> {
    let (verb, path) = match &rule.pattern {
        Some(Pattern::Get(path)) => ("GET", path),
        Some(Pattern::Put(path)) => ("PUT", path),
        Some(Pattern::Post(path)) => ("POST", path),
        Some(Pattern::Delete(path)) => ("DELETE", path),
        Some(Pattern::Patch(path)) => ("PATCH", path),
        Some(Pattern::Custom(custom)) => (custom.kind.as_str(), &custom.path),
        None => return Err("its HTTP rule names no path".to_owned()),
    };
    if verb != "*"
        && (verb.is_empty() || verb.len() > 32 || !verb.bytes().all(|byte| byte.is_ascii_uppercase()))
    {
        return Err(format!("\"{}\" is not an HTTP method in capitals, or *", verb.escape_debug()));
    }
    let (template, named) =
        Template::parse(path).map_err(|what| format!("{what}: \"{}\"", path.escape_debug()))?;
    let input = method.input();
    let mut variables: Vec<Variable> = Vec::new();
    for (name, segments) in named {
        let path = field_path(&input, &name)?;
        if path.last().is_none_or(|last| FromText::of(last) != FromText::One) {
            return Err(format!("the path gives {name}, which is not a plain value"));
        }
        if variables.iter().any(|known| known.path == path) {
            return Err(format!("the path gives {name} twice"));
        }
        variables.push(Variable { path, segments });
    }
    let body = match rule.body.as_str() {
        "" => Body::None,
        "*" => Body::Whole,
        name => {
            let field = top_field(&input, name)?;
            if variables.iter().any(|variable| variable.path.first() == Some(&field)) {
                return Err(format!("both the path and the body give {name}"));
            }
            Body::Field(field)
        }
    };
    let response = match rule.response_body.as_str() {
        "" => None,
        name => Some(top_field(&method.output(), name)?),
    };
    Ok(Route { verb: verb.to_owned(), method: method.clone(), body, response, template, variables })
}

fn top_field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    let found = message.get_field_by_name(name).filter(|field| !field.is_group());
    found.ok_or_else(|| format!("{} has no field \"{}\"", message.full_name(), name.escape_debug()))
}

/// The fields of `a.b.c`, each but the last a single message.
pub(super) fn field_path(message: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut path: Vec<FieldDescriptor> = Vec::new();
    let mut message = Some(message.clone());
    for part in name.split('.') {
        let within = message.take().ok_or_else(|| format!("{} is not in a message", name.escape_debug()))?;
        let field = within.get_field_by_name(part).or_else(|| within.get_field_by_json_name(part));
        let field = field.filter(|field| !field.is_group()).ok_or_else(|| {
            let part: String = part.chars().take(80).flat_map(char::escape_debug).collect();
            format!("{} has no field \"{part}\"", within.full_name())
        })?;
        if let Kind::Message(inner) = field.kind()
            && !field.is_list()
            && !field.is_map()
        {
            message = Some(inner);
        }
        path.push(field);
    }
    Ok(path)
}
