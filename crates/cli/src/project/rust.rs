//! A project in Rust: cargo and wit-bindgen.
//!
//! `src/lib.rs` is the component: it takes calls apart and leads to `src/service.rs`, which knows nothing of them and is
//! tested on any machine.

use super::{File, names};
use std::{collections::BTreeSet, fmt::Write as _};
use tutti_proto::schema::{Field, Kind, Message, MessageIndex, Method, Presence, Schema, Service, Slot};

/// What one component with little code needs at most for a call.
const MEMORY: &str = "32Mi";
const NEEDS: &str = "It needs Rust with its target: `rustup target add wasm32-wasip2`.";

/// The files of the language; WIT and protos are the same for all.
pub(super) fn files(schema: &Schema, service: &Service) -> Vec<File> {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let readme = include_str!("README.md.in").replace("@SOURCE@", "src/service.rs").replace("@NEEDS@", NEEDS);
    vec![
        file("Cargo.toml", include_str!("rust/Cargo.toml.in")),
        file("Makefile", include_str!("rust/Makefile.in")),
        file("README.md", &readme),
        file("tutti.toml", &include_str!("tutti.toml.in").replace("@MEMORY@", MEMORY)),
        file(".gitignore", include_str!("rust/gitignore.in")),
        file("src/lib.rs", &Rust { schema, service }.component()),
        file("src/service.rs", &Rust { schema, service }.answers()),
    ]
}

struct Rust<'a> {
    schema: &'a Schema,
    service: &'a Service,
}

impl Rust<'_> {
    /// `com::example`, the module of the service's WIT package.
    fn package(&self) -> String {
        let (space, name) =
            self.service.wit_package.split_once(':').unwrap_or(("", &self.service.wit_package));
        format!("{}::{}", names::rust(space), names::rust(name))
    }

    /// A message's or enum's type, as `types` or another module of `lib.rs` has it.
    fn type_name(&self, package: &str, wit_name: &str) -> String {
        format!("{}::{}", self.module(package), names::rust_type(wit_name))
    }

    fn module(&self, package: &str) -> String {
        self.module_of(self.schema.interface(package))
    }

    /// The types of the service's own package are `types`, others have the names of their packages.
    fn module_of(&self, interface: &str) -> String {
        if interface == super::own_interface(self.schema, self.service) {
            "types".to_owned()
        } else {
            names::rust(interface)
        }
    }

    fn message(&self, index: MessageIndex) -> String {
        self.schema
            .message(index)
            .map_or_else(String::new, |message| self.type_name(&message.package, &message.wit_name))
    }

    /// The interfaces whose types are written out in this project.
    fn interfaces(&self) -> BTreeSet<&str> {
        let mut named = BTreeSet::new();
        for method in &self.service.methods {
            self.named(method.input, &mut named, false);
            self.named(method.output, &mut named, true);
        }
        named
    }

    /// Those of a message, and, if a value of it is written out, of what stands in that.
    fn named<'s>(&'s self, index: MessageIndex, found: &mut BTreeSet<&'s str>, value: bool) {
        let Some(message) = self.schema.message(index) else { return };
        found.insert(self.schema.interface(&message.package));
        for field in message.fields().filter(|_| value) {
            match (field.presence, field.kind) {
                (Presence::Required, Kind::Message(inner)) => self.named(inner, found, true),
                (Presence::Required | Presence::Implicit, Kind::Enum(index)) => {
                    found.extend(
                        self.schema.enumeration(index).map(|one| self.schema.interface(&one.package)),
                    );
                }
                _ => {}
            }
        }
    }

    fn uses(&self) -> String {
        let package = self.package();
        let of = |interface: &&str| {
            let (name, module) = (names::rust(interface), self.module_of(interface));
            let alias = if name == module { String::new() } else { format!(" as {module}") };
            format!("pub(crate) use bindings::{package}::{name}{alias};\n")
        };
        self.interfaces().iter().map(of).collect()
    }

    /// `src/lib.rs`
    fn component(&self) -> String {
        let (package, interface) = (self.package(), names::rust(&self.service.wit_name));
        let mut streams: Vec<String> = self
            .service
            .readers
            .iter()
            .chain(&self.service.writers)
            .map(|stream| names::rust_type(&stream.wit_name))
            .collect();
        streams.sort();
        let mut out = String::new();
        let _ = write!(
            out,
            "//! {}: the component. What it answers is in `service.rs`.\n\nmod service;\n\n\
             mod bindings {{\n    wit_bindgen::generate!({{ path: \"wit\", world: \"{}\", generate_all }});\n}}\n\n\
             {}#[allow(unused_imports)]\npub(crate) use bindings::tutti::grpc::call::{{Code, Context, Status}};\n",
            self.service.name,
            self.service.wit_world,
            self.uses(),
        );
        if !streams.is_empty() {
            let _ = writeln!(
                out,
                "use bindings::{package}::{}::{{{}}};",
                names::rust(&self.service.wit_streams),
                streams.join(", ")
            );
        }
        let _ = write!(
            out,
            "\nstruct Component;\n\nbindings::export!(Component with_types_in bindings);\n\nimpl bindings::exports::{package}::{interface}::Guest for Component {{\n"
        );
        for (at, method) in self.service.methods.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            out.push_str(&self.call(method));
        }
        out.push_str("}\n");
        if self.service.methods.iter().any(|method| method.client_streaming) {
            out.push_str(
                "\n/// Requests as they come, until the client has sent its last.\n\
                 fn requests<T>(\n    read: impl Fn() -> Result<Option<T>, Status>,\n\
                 ) -> impl Iterator<Item = Result<T, Status>> {\n    std::iter::from_fn(move || read().transpose())\n}\n",
            );
        }
        out
    }

    /// One method of the component: what is left is to be told of the call, and where its replies go.
    fn call(&self, method: &Method) -> String {
        let name = names::rust(&method.wit_name);
        let reader = self.service.readers.iter().find(|stream| stream.message == method.input);
        let writer = self.service.writers.iter().find(|stream| stream.message == method.output);
        let mut parameters = vec!["_ctx: &Context".to_owned()];
        let mut arguments = Vec::new();
        if let Some(reader) = reader.filter(|_| method.client_streaming) {
            parameters.push(format!("incoming: &{}", names::rust_type(&reader.wit_name)));
            arguments.push("requests(|| incoming.read())".to_owned());
        } else {
            parameters.push(format!("request: {}", self.message(method.input)));
            arguments.push("request".to_owned());
        }
        let mut answer = self.message(method.output);
        if let Some(writer) = writer.filter(|_| method.server_streaming) {
            parameters.push(format!("replies: &{}", names::rust_type(&writer.wit_name)));
            let borrowed = if self.schema.message(method.output).is_some_and(|one| self.has_list(one)) {
                "&"
            } else {
                ""
            };
            arguments.push(format!("|reply| replies.write({borrowed}reply)"));
            answer = "()".to_owned();
        }
        format!(
            "    fn {name}({}) -> Result<{answer}, Status> {{\n        service::{name}({})\n    }}\n",
            parameters.join(", "),
            arguments.join(", ")
        )
    }

    /// Whether a value has a string or list in it, which wit-bindgen then takes by reference.
    fn has_list(&self, message: &Message) -> bool {
        message.fields().any(|field| match field.presence {
            Presence::Repeated { .. } | Presence::Map { .. } => true,
            _ => match field.kind {
                Kind::String | Kind::Bytes | Kind::Encoded(_) => true,
                Kind::Message(inner) => self.schema.message(inner).is_some_and(|inner| self.has_list(inner)),
                _ => false,
            },
        })
    }

    /// `src/service.rs`
    fn answers(&self) -> String {
        let mut modules: Vec<String> =
            self.interfaces().into_iter().map(|interface| self.module_of(interface)).collect();
        modules.sort();
        let mut out = format!(
            "//! What {} answers.\n//!\n\
             //! Write your service here: nothing in it knows whether it runs in a component or in a test.\n\
             //! What goes wrong is answered with a status:\n\
             //! `Err(Status {{ code: Code::NotFound, message: \"no such name\".into(), details: vec![] }})`\n\n\
             #[allow(unused_imports)]\nuse crate::{{Code, Status, {}}};\n",
            self.service.name,
            modules.join(", ")
        );
        for method in &self.service.methods {
            out.push('\n');
            out.push_str(&self.answer(method));
        }
        out.push_str("\n#[cfg(test)]\nmod tests {\n    use super::*;\n");
        for method in &self.service.methods {
            out.push('\n');
            out.push_str(&self.test(method));
        }
        out.push_str("}\n");
        out
    }

    fn answer(&self, method: &Method) -> String {
        let (name, input, output) =
            (names::rust(&method.wit_name), self.message(method.input), self.message(method.output));
        let value = self.value(method.output, 2);
        let requests = format!("requests: impl Iterator<Item = Result<{input}, Status>>");
        let reply = format!("mut reply: impl FnMut({output}) -> Result<(), Status>");
        match (method.client_streaming, method.server_streaming) {
            (false, false) => format!(
                "/// {}: one request, one reply.\npub fn {name}(request: {input}) -> Result<{output}, Status> {{\n    \
                 let _ = request;\n    Ok({})\n}}\n",
                method.name,
                self.value(method.output, 1)
            ),
            (false, true) => format!(
                "/// {}: one request, any number of replies. `reply` waits while the client is slow to take them.\n\
                 pub fn {name}(\n    request: {input},\n    {reply},\n) -> Result<(), Status> {{\n    \
                 let _ = request;\n    for _ in 0..3 {{\n        reply({value})?;\n    }}\n    Ok(())\n}}\n",
                method.name
            ),
            (true, false) => format!(
                "/// {}: any number of requests, one reply.\npub fn {name}(\n    {requests},\n) -> Result<{output}, Status> {{\n    \
                 for request in requests {{\n        let _ = request?;\n    }}\n    Ok({})\n}}\n",
                method.name,
                self.value(method.output, 1)
            ),
            (true, true) => format!(
                "/// {}: any number of requests and of replies, in any order.\npub fn {name}(\n    {requests},\n    {reply},\n\
                 ) -> Result<(), Status> {{\n    for request in requests {{\n        let _ = request?;\n        \
                 reply({value})?;\n    }}\n    Ok(())\n}}\n",
                method.name
            ),
        }
    }

    fn test(&self, method: &Method) -> String {
        let name = names::rust(&method.wit_name);
        let title = method.wit_name.replace('-', "_");
        let request = self.value(method.input, 2);
        let body = match (method.client_streaming, method.server_streaming) {
            (false, false) => format!("        {name}({request}).expect(\"an answer\");\n"),
            (false, true) => format!(
                "        let mut replies = Vec::new();\n        {name}({request}, |reply| {{\n            replies.push(reply);\n            \
                 Ok(())\n        }})\n        .expect(\"an answer\");\n        assert_eq!(replies.len(), 3);\n"
            ),
            (true, false) => format!(
                "        let requests = vec![Ok({request})];\n        {name}(requests.into_iter()).expect(\"an answer\");\n"
            ),
            (true, true) => format!(
                "        let requests = vec![Ok({request})];\n        let mut replies = Vec::new();\n        \
                 {name}(requests.into_iter(), |reply| {{\n            replies.push(reply);\n            Ok(())\n        }})\n        \
                 .expect(\"an answer\");\n        assert_eq!(replies.len(), 1);\n"
            ),
        };
        format!("    #[test]\n    fn {title}_answers() {{\n{body}    }}\n")
    }

    /// A message with nothing in it, written out; `depth` is how far its line is indented.
    fn value(&self, index: MessageIndex, depth: usize) -> String {
        let Some(message) = self.schema.message(index) else { return String::new() };
        let name = self.message(index);
        if message.slots.is_empty() {
            return format!("{name}::{}", names::rust_type("empty"));
        }
        let mut out = format!("{name} {{\n");
        for slot in &message.slots {
            let (wit_name, value) = match slot {
                Slot::Oneof { wit_name, .. } => (wit_name, "None".to_owned()),
                Slot::Field(field) => (&field.wit_name, self.field(field, depth.saturating_add(1))),
            };
            let _ = writeln!(
                out,
                "{}{}: {value},",
                "    ".repeat(depth.saturating_add(1)),
                names::rust(wit_name)
            );
        }
        out.push_str(&"    ".repeat(depth));
        out.push('}');
        out
    }

    fn field(&self, field: &Field, depth: usize) -> String {
        match field.presence {
            Presence::Explicit | Presence::Oneof => return "None".to_owned(),
            Presence::Repeated { .. } | Presence::Map { .. } => return "Vec::new()".to_owned(),
            Presence::Implicit | Presence::Required => {}
        }
        match field.kind {
            Kind::Double | Kind::Float => "0.0".to_owned(),
            Kind::Bool => "false".to_owned(),
            Kind::String => "String::new()".to_owned(),
            Kind::Bytes | Kind::Encoded(_) => "Vec::new()".to_owned(),
            Kind::Message(inner) => self.value(inner, depth),
            Kind::Enum(index) => {
                let Some(one) = self.schema.enumeration(index) else { return String::new() };
                let case = usize::try_from(one.default).ok().and_then(|at| one.cases.get(at));
                let case = case.map(|case| names::rust_type(&case.wit_name)).unwrap_or_default();
                format!("{}::{case}", self.type_name(&one.package, &one.wit_name))
            }
            _ => "0".to_owned(),
        }
    }
}
