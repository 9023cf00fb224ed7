//! `google.api.http`: which HTTP requests call which method, and how the parts of a request make up its message.
//!
//! Rules are read from the method's options, compiled once, and refused at the push if they do not hold: a field that is
//! not there, a template that says nothing, two methods that the same request would call. Finding a route is by the most
//! particular template: at each segment a literal goes before `*`, and that before `**`; nothing depends on the order in
//! which methods are declared.
//!
//! Every service has besides these the path `POST /package.Service/Method` for each method, which needs no rule.

mod compile;
mod request;
mod template;

use crate::fault::Fault;
use prost_reflect::{FieldDescriptor, MethodDescriptor, ServiceDescriptor};
use std::cmp::Ordering;
use std::fmt;
use template::{Segment, Template};

/// Most rules of one service, additional ones included: the largest public services have a few hundred.
pub const ROUTES: usize = 1000;
/// Longest template, in bytes.
pub const TEMPLATE_BYTES: usize = 1024;
/// Most segments of a template.
pub const SEGMENTS: usize = 64;
/// Longest path and query that are looked at, in bytes.
pub const TARGET_BYTES: usize = 16 * 1024;
/// Most parameters in a query.
pub const PARAMETERS: usize = 256;

/// The HTTP requests that a service takes by its rules.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The most particular first.
    routes: Vec<Route>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Route {
    /// The HTTP method in capitals, or `*` for any.
    pub verb: String,
    /// What is called.
    pub method: MethodDescriptor,
    /// Where the message is in the request.
    pub body: Body,
    /// The field of the reply that is the answer's body, if not the whole.
    pub response: Option<FieldDescriptor>,
    template: Template,
    /// Fields that the path gives, in the order of the template.
    variables: Vec<Variable>,
}

/// What a request's body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing: what the path does not give, the query may.
    None,
    /// This field of the message; the query may give others.
    Field(FieldDescriptor),
    /// The message.
    Whole,
}

/// A field that a path gives.
#[derive(Debug, Clone)]
struct Variable {
    /// From the message to the field; never empty.
    path: Vec<FieldDescriptor>,
    /// The segments, from the first to behind the last; `**` may match any number of them.
    segments: std::ops::Range<usize>,
}

/// A route and what the path gives it.
#[derive(Debug)]
pub struct Match<'a> {
    /// The rule.
    pub route: &'a Route,
    /// The text of each variable, decoded.
    values: Vec<String>,
}

/// What there is for a request.
#[derive(Debug)]
pub enum Found<'a> {
    /// A rule.
    Route(Match<'a>),
    /// Rules for this path, but for other HTTP methods: these.
    OtherVerbs(Vec<&'a str>),
    /// None.
    Nothing,
}

impl Routes {
    /// The rules of a service.
    ///
    /// # Errors
    /// Every rule that does not hold, by its method.
    pub fn of(service: &ServiceDescriptor) -> Result<Routes, Vec<Fault>> {
        compile::routes(service)
    }

    /// Every rule, the most particular first.
    #[must_use]
    pub fn all(&self) -> &[Route] {
        &self.routes
    }

    /// The rule for a request of this HTTP method and path (without the query, as it was sent).
    #[must_use]
    pub fn find(&self, verb: &str, path: &str) -> Found<'_> {
        if path.len() > TARGET_BYTES {
            return Found::Nothing;
        }
        let mut others = Vec::new();
        for route in &self.routes {
            let Some(values) = route.matches(path) else { continue };
            if route.verb == verb || route.verb == "*" {
                return Found::Route(Match { route, values });
            }
            if !others.contains(&route.verb.as_str()) {
                others.push(route.verb.as_str());
            }
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherVerbs(others) }
    }
}

impl Route {
    /// The path as OpenAPI writes it: `/v1/{name}`; a variable of several segments is still one.
    #[must_use]
    pub fn path(&self) -> String {
        let mut text = String::new();
        let mut at = 0;
        let segments = self.template.segments();
        while let Some(segment) = segments.get(at) {
            text.push('/');
            if let Some(variable) = self.variables.iter().find(|variable| variable.segments.start == at) {
                text.extend(["{", &variable.name(), "}"]);
                at = variable.segments.end;
                continue;
            }
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::One => text.push('*'),
                Segment::Rest => text.push_str("**"),
            }
            at += 1;
        }
        if let Some(verb) = self.template.verb() {
            text.extend([":", verb]);
        }
        text
    }

    /// The fields that the path gives, each as `a.b.c`, with the last field of each.
    pub fn variables(&self) -> impl Iterator<Item = (String, &FieldDescriptor)> {
        self.variables.iter().filter_map(|variable| Some((variable.name(), variable.path.last()?)))
    }

    fn matches(&self, path: &str) -> Option<Vec<String>> {
        let segments = self.template.matches(path)?;
        let extra = segments.len().saturating_add(1).saturating_sub(self.template.segments().len());
        self.variables.iter().map(|variable| variable.text(&self.template, &segments, extra)).collect()
    }

    /// Verb, then the template from the left.
    fn order(&self, other: &Route) -> Ordering {
        let templates = self.template.order(&other.template);
        templates
            .then_with(|| (self.verb == "*").cmp(&(other.verb == "*")))
            .then_with(|| self.verb.cmp(&other.verb))
    }
}

impl Variable {
    fn name(&self) -> String {
        self.path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// The text of the segments that it stands for, of which the template's `**` is `extra`.
    fn text(&self, template: &Template, segments: &[&str], extra: usize) -> Option<String> {
        let std::ops::Range { start, end } = self.segments;
        let has_rest = matches!(template.segments().get(end.checked_sub(1)?), Some(Segment::Rest));
        let end = if has_rest { end.saturating_add(extra).saturating_sub(1) } else { end };
        let own = segments.get(start..end)?;
        match own {
            [one] if !has_rest => template::decode(one, false),
            several => {
                let decoded: Option<Vec<String>> =
                    several.iter().map(|one| template::decode(one, true)).collect();
                Some(decoded?.join("/"))
            }
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.template)
    }
}

#[cfg(test)]
mod tests;
