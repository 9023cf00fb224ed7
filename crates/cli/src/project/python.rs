//! A project in Python: componentize-py.
//!
//! `src/app.py` is the component: it takes calls apart and leads to `src/service.py`, which knows nothing of them and is
//! tested on any machine.

use super::{File, names};
use std::{collections::BTreeSet, fmt::Write as _};
use tutti_proto::schema::{Field, Kind, MessageIndex, Method, Presence, Schema, Service, Slot};

/// What a component needs that has Python's interpreter in it: 20 MiB before its first line, and room for a call.
const MEMORY: &str = "128Mi";
const NEEDS: &str = "It needs Python 3.11 or newer with `venv`.";

/// Longest value that is written in one line.
const LINE: usize = 80;

/// The files of the language; WIT and protos are the same for all.
pub(super) fn files(schema: &Schema, service: &Service) -> Vec<File> {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let readme = include_str!("README.md.in").replace("@SOURCE@", "src/service.py").replace("@NEEDS@", NEEDS);
    let python = Python { schema, service };
    vec![
        file("requirements.txt", include_str!("python/requirements.txt.in")),
        file("Makefile", include_str!("python/Makefile.in")),
        file("README.md", &readme),
        file("tutti.toml", &include_str!("tutti.toml.in").replace("@MEMORY@", MEMORY)),
        file(".gitignore", include_str!("python/gitignore.in")),
        file("src/app.py", &python.component()),
        file("src/service.py", &python.answers()),
        file("tests/test_service.py", &python.tests()),
    ]
}

struct Python<'a> {
    schema: &'a Schema,
    service: &'a Service,
}

impl Python<'_> {
    /// The modules whose types are named in this project, as they are imported.
    fn imports(&self) -> String {
        let of = |interface: &str| {
            let (name, module) = (names::python(interface), self.module_of(interface));
            let alias = if name == module { String::new() } else { format!(" as {module}") };
            format!("from wit_world.imports import {name}{alias}\n")
        };
        self.interfaces().into_iter().map(of).collect()
    }

    /// The types of the service's own package are `types`, others have the names of their packages. A method of that name
    /// would stand in its way.
    fn module_of(&self, interface: &str) -> String {
        let free = self.service.methods.iter().all(|method| method.wit_name != "types");
        let own = free && interface == super::own_interface(self.schema, self.service);
        if own { "types".to_owned() } else { names::python(interface) }
    }

    fn interfaces(&self) -> BTreeSet<&str> {
        let mut named = BTreeSet::new();
        for method in &self.service.methods {
            // Tests write requests out, and answers replies.
            self.named(method.input, &mut named);
            self.named(method.output, &mut named);
        }
        named
    }

    fn named<'s>(&'s self, index: MessageIndex, found: &mut BTreeSet<&'s str>) {
        let Some(message) = self.schema.message(index) else { return };
        found.insert(self.schema.interface(&message.package));
        for field in message.fields() {
            match (field.presence, field.kind) {
                (Presence::Required, Kind::Message(inner)) => self.named(inner, found),
                (Presence::Required | Presence::Implicit, Kind::Enum(index)) => {
                    found.extend(
                        self.schema.enumeration(index).map(|one| self.schema.interface(&one.package)),
                    );
                }
                _ => {}
            }
        }
    }

    fn type_name(&self, package: &str, wit_name: &str) -> String {
        format!("{}.{}", self.module_of(self.schema.interface(package)), names::python_type(wit_name))
    }

    fn message(&self, index: MessageIndex) -> String {
        self.schema
            .message(index)
            .map_or_else(String::new, |message| self.type_name(&message.package, &message.wit_name))
    }

    /// `src/app.py`
    fn component(&self) -> String {
        let class = names::python_type(&self.service.wit_name);
        let mut out = format!(
            "\"\"\"{}: the component. What it answers is in service.py.\"\"\"\n\n\
             import service\nfrom wit_world import exports\n\n\n",
            self.service.name
        );
        if self.service.methods.iter().any(|method| method.client_streaming) {
            out.push_str(
                "def received(requests):\n    \"\"\"Requests as they come, until the client has sent its last.\"\"\"\n    \
                 while (request := requests.read()) is not None:\n        yield request\n\n\n",
            );
        }
        let _ = writeln!(out, "class {class}(exports.{class}):");
        for (at, method) in self.service.methods.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            out.push_str(&call(method));
        }
        out
    }

    /// `src/service.py`
    fn answers(&self) -> String {
        let iterator = match self.service.methods.iter().any(Method::streams) {
            true => "from collections.abc import Iterator\n\n",
            false => "",
        };
        let mut out = format!(
            "\"\"\"What {} answers.\n\nWrite your service here: nothing in it knows whether it runs in a component or in a \
             test. What goes wrong is answered\nwith a status, where `Err` is from componentize_py_types, `Code` and `Status` \
             from wit_world.imports.call:\n\n    raise Err(Status(Code.NOT_FOUND, \"no such name\", b\"\"))\n\"\"\"\n\n{iterator}{}",
            self.service.name,
            self.imports()
        );
        for method in &self.service.methods {
            out.push_str("\n\n");
            out.push_str(&self.answer(method));
        }
        out
    }

    fn answer(&self, method: &Method) -> String {
        let (input, output) = (self.message(method.input), self.message(method.output));
        let value = self.value(method.output, if method.server_streaming { 2 } else { 1 });
        let name = names::python(&method.wit_name);
        let parameter = match method.client_streaming {
            true => format!("requests: Iterator[{input}]"),
            false => format!("request: {input}"),
        };
        let answer = if method.server_streaming { format!("Iterator[{output}]") } else { output };
        let (says, body) = match (method.client_streaming, method.server_streaming) {
            (false, false) => ("one request, one reply", format!("    return {value}\n")),
            (false, true) => (
                "one request, any number of replies",
                format!("    for _ in range(3):\n        yield {value}\n"),
            ),
            (true, false) => (
                "any number of requests, one reply",
                format!("    for _ in requests:\n        pass\n    return {value}\n"),
            ),
            (true, true) => (
                "any number of requests and of replies, in any order",
                format!("    for _ in requests:\n        yield {value}\n"),
            ),
        };
        format!("def {name}({parameter}) -> {answer}:\n    \"\"\"{}: {says}.\"\"\"\n{body}", method.name)
    }

    /// `tests/test_service.py`
    fn tests(&self) -> String {
        let mut out = format!(
            "\"\"\"Tests of what {} answers, on this machine.\"\"\"\n\nimport unittest\n\nimport service\n{}\n\n\
             class Service(unittest.TestCase):\n",
            self.service.name,
            self.imports()
        );
        for (at, method) in self.service.methods.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            let request = self.value(method.input, 2);
            let argument = if method.client_streaming { "iter([request])" } else { "request" };
            let call = format!("service.{}({argument})", names::python(&method.wit_name));
            let line = match (method.client_streaming, method.server_streaming) {
                (_, false) => format!("self.assertIsInstance({call}, {})", self.message(method.output)),
                (false, true) => format!("self.assertEqual(len(list({call})), 3)"),
                (true, true) => format!("self.assertEqual(len(list({call})), 1)"),
            };
            let title = method.wit_name.replace('-', "_");
            let _ = write!(out, "    def test_{title}(self):\n        request = {request}\n        {line}\n");
        }
        out.push_str("\n\nif __name__ == \"__main__\":\n    unittest.main()\n");
        out
    }

    /// A message with nothing in it, written out; `depth` is how far its line is indented.
    fn value(&self, index: MessageIndex, depth: usize) -> String {
        let Some(message) = self.schema.message(index) else { return String::new() };
        let name = self.message(index);
        if message.slots.is_empty() {
            return format!("{name}.{}", names::python_case("empty"));
        }
        let fields: Vec<String> = message
            .slots
            .iter()
            .map(|slot| match slot {
                Slot::Oneof { wit_name, .. } => format!("{}=None", names::python(wit_name)),
                Slot::Field(field) => format!(
                    "{}={}",
                    names::python(&field.wit_name),
                    self.field(field, depth.saturating_add(1))
                ),
            })
            .collect();
        let line = format!("{name}({})", fields.join(", "));
        if line.len() <= LINE {
            return line;
        }
        let indent = "    ".repeat(depth);
        let lines: String = fields.iter().map(|field| format!("{indent}    {field},\n")).collect();
        format!("{name}(\n{lines}{indent})")
    }

    fn field(&self, field: &Field, depth: usize) -> String {
        match field.presence {
            Presence::Explicit | Presence::Oneof => return "None".to_owned(),
            Presence::Repeated { .. } | Presence::Map { .. } => return "[]".to_owned(),
            Presence::Implicit | Presence::Required => {}
        }
        match field.kind {
            Kind::Double | Kind::Float => "0.0".to_owned(),
            Kind::Bool => "False".to_owned(),
            Kind::String => "\"\"".to_owned(),
            Kind::Bytes | Kind::Encoded(_) => "b\"\"".to_owned(),
            Kind::Message(inner) => self.value(inner, depth),
            Kind::Enum(index) => {
                let Some(one) = self.schema.enumeration(index) else { return String::new() };
                let case = usize::try_from(one.default).ok().and_then(|at| one.cases.get(at));
                let case = case.map(|case| names::python_case(&case.wit_name)).unwrap_or_default();
                format!("{}.{case}", self.type_name(&one.package, &one.wit_name))
            }
            _ => "0".to_owned(),
        }
    }
}

/// One method of the component: what is left is to be told of the call, and where its replies go.
fn call(method: &Method) -> String {
    let name = names::python(&method.wit_name);
    let (parameter, argument) = match method.client_streaming {
        true => ("requests", "received(requests)"),
        false => ("request", "request"),
    };
    if method.server_streaming {
        return format!(
            "    def {name}(self, ctx, {parameter}, replies):\n        for reply in service.{name}({argument}):\n            \
             replies.write(reply)\n"
        );
    }
    format!("    def {name}(self, ctx, {parameter}):\n        return service.{name}({argument})\n")
}
