//! The WIT package that a component for a service is written against: everything that stock tools (wit-bindgen,
//! componentize-py) need, in one folder.

mod scope;
mod types;

use crate::docs::Docs;
use crate::kebab::escape;
use crate::schema::{Method, Schema, Service};
use scope::Scope;
use std::collections::BTreeSet;

/// The interface `tutti:grpc/call`, the same for every service.
pub const GRPC_WIT: &str = include_str!("wit/grpc.wit");
/// Its name in imports.
pub const CALL_INTERFACE: &str = "tutti:grpc/call@1.0.0";
/// Where it stands in a generated folder.
const GRPC_PATH: &str = "deps/tutti-grpc/grpc.wit";

/// One file of a WIT package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitFile {
    /// Path in the package's folder, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The whole folder for one service of the schema: the same schema and comments always give the same text.
#[must_use]
pub fn generate(schema: &Schema, docs: &Docs, service: &Service) -> Vec<WitFile> {
    let used = types::reached(schema, service);
    let mut text = Text::default();
    text.line(&format!("// The interface of {} for its component, made from its .proto.", service.name));
    text.line("// Make it anew after a change there: what is changed here is lost.");
    text.line(&format!("package {};", package(&service.wit_package)));
    for interface in used.interfaces(schema) {
        types::interface(&mut text, schema, docs, &used, interface);
    }
    if service.methods.iter().any(Method::streams) {
        streams(&mut text, schema, service);
    }
    functions(&mut text, schema, docs, service);
    text.blank();
    text.open(&format!("world {}", escape(&service.wit_world)));
    text.line(&format!("export {};", escape(&service.wit_name)));
    text.close();
    vec![
        WitFile { path: "world.wit".to_owned(), text: text.done() },
        WitFile { path: GRPC_PATH.to_owned(), text: GRPC_WIT.to_owned() },
    ]
}

fn package(name: &str) -> String {
    match name.split_once(':') {
        Some((space, rest)) => format!("{}:{}", escape(space), escape(rest)),
        None => escape(name).into_owned(),
    }
}

/// The resources that streams are read from and written to.
fn streams(text: &mut Text, schema: &Schema, service: &Service) {
    let own: Vec<&str> =
        service.readers.iter().chain(&service.writers).map(|stream| stream.wit_name.as_str()).collect();
    let messages: BTreeSet<_> =
        service.readers.iter().chain(&service.writers).map(|stream| stream.message).collect();
    let mut scope = Scope::new(own.iter().copied());
    scope.call(&["status"]);
    scope.messages(schema, messages);
    text.blank();
    text.docs(Some("Where streamed requests come from and streamed replies go."));
    text.open(&format!("interface {}", escape(&service.wit_streams)));
    scope.write_uses(text);
    let status = scope.call_name("status");
    for stream in &service.readers {
        text.blank();
        text.open(&format!("resource {}", escape(&stream.wit_name)));
        text.docs(Some("Waits for the next request; none after the last."));
        let message = scope.message_name(stream.message);
        text.line(&format!("read: func() -> result<option<{message}>, {status}>;"));
        text.close();
    }
    for stream in &service.writers {
        text.blank();
        text.open(&format!("resource {}", escape(&stream.wit_name)));
        text.docs(Some("Sends one reply; waits while the client is slow to take them."));
        let message = scope.message_name(stream.message);
        text.line(&format!("write: func(message: {message}) -> result<_, {status}>;"));
        text.close();
    }
    text.close();
}

/// The exported interface: one function for each method.
fn functions(text: &mut Text, schema: &Schema, docs: &Docs, service: &Service) {
    let mut scope = Scope::new(service.methods.iter().map(|method| method.wit_name.as_str()));
    let mut messages = BTreeSet::new();
    let mut resources = BTreeSet::new();
    for method in &service.methods {
        let reader =
            service.readers.iter().find(|stream| method.client_streaming && stream.message == method.input);
        let writer =
            service.writers.iter().find(|stream| method.server_streaming && stream.message == method.output);
        resources.extend(reader.into_iter().chain(writer).map(|stream| stream.wit_name.as_str()));
        messages.extend(reader.is_none().then_some(method.input));
        messages.extend(writer.is_none().then_some(method.output));
    }
    if !service.methods.is_empty() {
        scope.call(&["context", "status"]);
    }
    scope.messages(schema, messages);
    scope.resources(&service.wit_streams, resources);
    text.blank();
    text.docs(docs.get(&service.name));
    text.open(&format!("interface {}", escape(&service.wit_name)));
    scope.write_uses(text);
    for method in &service.methods {
        text.blank();
        text.docs(docs.get(&format!("{}.{}", service.name, method.name)));
        text.line(&function(&scope, service, method));
    }
    text.close();
}

fn function(scope: &Scope, service: &Service, method: &Method) -> String {
    let reader =
        service.readers.iter().find(|stream| method.client_streaming && stream.message == method.input);
    let writer =
        service.writers.iter().find(|stream| method.server_streaming && stream.message == method.output);
    let mut parameters = vec![format!("ctx: borrow<{}>", scope.call_name("context"))];
    parameters.push(match reader {
        Some(stream) => format!("requests: borrow<{}>", scope.resource_name(&stream.wit_name)),
        None => format!("request: {}", scope.message_name(method.input)),
    });
    let answer = match writer {
        Some(stream) => {
            parameters.push(format!("replies: borrow<{}>", scope.resource_name(&stream.wit_name)));
            "_".to_owned()
        }
        None => scope.message_name(method.output),
    };
    let status = scope.call_name("status");
    format!("{}: func({}) -> result<{answer}, {status}>;", escape(&method.wit_name), parameters.join(", "))
}

/// WIT text as it grows.
#[derive(Default)]
pub(crate) struct Text {
    text: String,
    depth: usize,
}

impl Text {
    pub(crate) fn line(&mut self, line: &str) {
        if !line.is_empty() {
            (0..self.depth).for_each(|_| self.text.push_str("  "));
            self.text.push_str(line);
        }
        self.text.push('\n');
    }

    /// An empty line, but not right after an opening brace.
    pub(crate) fn blank(&mut self) {
        if !self.text.ends_with("{\n") {
            self.text.push('\n');
        }
    }

    pub(crate) fn docs(&mut self, comment: Option<&str>) {
        for line in comment.into_iter().flat_map(str::lines) {
            self.line(format!("/// {line}").trim_end());
        }
    }

    pub(crate) fn open(&mut self, head: &str) {
        self.line(&format!("{head} {{"));
        self.depth = self.depth.saturating_add(1);
    }

    pub(crate) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }

    fn done(self) -> String {
        self.text
    }
}
