//! Whether a component implements a service: its exported interface against the one generated from the `.proto`, and its
//! imports against what a host offers.
//!
//! The generated WIT is what is wanted: it is parsed and compared type by type, so that the check can't differ from what
//! bindings were made from.

mod compare;
mod describe;

use crate::docs::Docs;
use crate::limits;
use crate::schema::{Schema, Service};
use crate::wit::{CALL_INTERFACE, generate};
use std::collections::BTreeSet;
use std::fmt;
use tutti_model::Problem;
use wit_parser::decoding::DecodedWasm;
use wit_parser::{
    Function, Interface, InterfaceId, Resolve, TypeDefKind, TypeId, World, WorldItem, WorldKey,
};

/// One thing in which a component differs from its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where: a function, an interface, or empty for the component as a whole.
    pub place: String,
    /// What is there, and what should be.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.place, self.what)
        }
    }
}

/// What a component that fits consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The exported interface that serves, `com:example/hello-world`.
    pub serves: String,
    /// What else it exports.
    pub other_exports: Vec<String>,
    /// Everything that it imports.
    pub imports: Vec<String>,
}

/// Checks a component against a service of the schema. `offered` is what the host offers besides the service's own
/// interfaces: `wasi:cli/environment@0.2` stands for that interface in every version that starts so.
///
/// # Errors
/// Every mismatch, in the order of the service's methods.
pub fn check(
    component: &[u8],
    schema: &Schema,
    service: &Service,
    offered: &[&str],
) -> Result<Report, Vec<Mismatch>> {
    let (found, world) = decode(component).map_err(|mismatch| vec![mismatch])?;
    let (wanted, wanted_world) = wanted(schema, service).map_err(|mismatch| vec![mismatch])?;
    let (Some(world), Some(wanted_world)) = (found.worlds.get(world), wanted.worlds.get(wanted_world)) else {
        return Err(vec![whole("the component has no world")]);
    };
    let mut check = Check { found: &found, wanted: &wanted, mismatches: Vec::new() };
    let serves = format!("{}/{}", service.wit_package, service.wit_name);
    check.exports(world, wanted_world, &serves);
    check.imports(world, wanted_world, offered);
    if !check.mismatches.is_empty() {
        return Err(check.mismatches);
    }
    let exports = names(&found, world.exports.keys());
    Ok(Report {
        other_exports: exports.into_iter().filter(|name| *name != serves).collect(),
        imports: names(&found, world.imports.keys()),
        serves,
    })
}

/// Every mismatch as the one problem that crosses the crate's edge.
#[must_use]
pub fn problem(service: &Service, mismatches: &[Mismatch]) -> Problem {
    let lines: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    let detail = format!("the component does not implement {}:\n{}", service.name, lines.join("\n"));
    Problem::invalid(detail).hint("make the bindings anew with tutti bindgen and build the component again")
}

fn whole(what: impl Into<String>) -> Mismatch {
    Mismatch { place: String::new(), what: what.into() }
}

fn names<'a>(resolve: &Resolve, keys: impl Iterator<Item = &'a WorldKey>) -> Vec<String> {
    keys.map(|key| resolve.name_world_key(key)).collect()
}

/// The component's own description of itself.
fn decode(component: &[u8]) -> Result<(Resolve, wit_parser::WorldId), Mismatch> {
    if component.len() > limits::COMPONENT_BYTES {
        let what =
            format!("the component is {} bytes; the limit is {}", component.len(), limits::COMPONENT_BYTES);
        return Err(whole(what));
    }
    if wasmparser::Parser::is_core_wasm(component) {
        return Err(whole(
            "this is a core WebAssembly module, not a component (build for wasm32-wasip2, or make a component of it with \
             wasm-tools component new)",
        ));
    }
    if !wasmparser::Parser::is_component(component) {
        return Err(whole("this is not a WebAssembly component"));
    }
    match wit_parser::decoding::decode(component) {
        Ok(DecodedWasm::Component(resolve, world)) => Ok((resolve, world)),
        Ok(DecodedWasm::WitPackage(..)) => {
            Err(whole("this is a package of WIT without code, not a component"))
        }
        Err(error) => Err(whole(format!("the component is not valid: {error:#}"))),
    }
}

/// What the bindings were made from. It is generated, so that it parses.
fn wanted(schema: &Schema, service: &Service) -> Result<(Resolve, wit_parser::WorldId), Mismatch> {
    let mut resolve = Resolve::default();
    let mut package = None;
    let mut files = generate(schema, &Docs::default(), service);
    files.reverse();
    for file in &files {
        let pushed = resolve.push_source(&file.path, &file.text);
        package = Some(pushed.map_err(|error| whole(format!("the service has no valid WIT: {error:#}")))?);
    }
    let worlds = package.and_then(|package| resolve.packages.get(package)).map(|package| &package.worlds);
    let world = worlds.and_then(|worlds| worlds.get(&service.wit_world).copied());
    Ok((resolve, world.ok_or_else(|| whole("the service has no world"))?))
}

/// Collects what differs.
struct Check<'a> {
    found: &'a Resolve,
    wanted: &'a Resolve,
    mismatches: Vec<Mismatch>,
}

impl Check<'_> {
    fn exports(&mut self, world: &World, wanted_world: &World, serves: &str) {
        let wanted = interface(self.wanted, wanted_world.exports.iter(), serves);
        let Some(wanted) = wanted else { return };
        // An interface without functions leaves no trace in a component.
        let Some(found) = interface(self.found, world.exports.iter(), serves) else {
            if !wanted.functions.is_empty() {
                self.not_exported(world, serves);
            }
            return;
        };
        for (name, function) in &wanted.functions {
            match found.functions.get(name) {
                Some(there) => self.function(name, there, function),
                None => self.add(name, "the component does not export this function of the service"),
            }
        }
        for name in found.functions.keys().filter(|name| !wanted.functions.contains_key(*name)) {
            self.add(name, "the component exports this function, which is not a method of the service");
        }
    }

    fn not_exported(&mut self, world: &World, serves: &str) {
        let exported = names(self.found, world.exports.keys());
        let what = if exported.is_empty() {
            format!("the component does not export {serves}; it exports nothing")
        } else {
            format!("the component does not export {serves}; it exports {}", exported.join(", "))
        };
        self.mismatches.push(whole(what));
    }

    fn imports(&mut self, world: &World, wanted_world: &World, offered: &[&str]) {
        let own: BTreeSet<String> = names(self.wanted, wanted_world.imports.keys()).into_iter().collect();
        for (key, item) in &world.imports {
            let name = self.found.name_world_key(key);
            match item {
                WorldItem::Interface { id, .. } if own.contains(&name) => {
                    self.own_import(&name, *id, wanted_world)
                }
                WorldItem::Interface { .. } if is_offered(&name, offered) => {}
                WorldItem::Interface { id, .. } if self.asks_nothing(*id) => {}
                WorldItem::Interface { .. } if name.starts_with("tutti:grpc/call@") => {
                    let what =
                        format!("the component was built for this version; this host has {CALL_INTERFACE}");
                    self.add(&name, &what);
                }
                WorldItem::Interface { .. } => {
                    self.add(&name, "the component imports this; the host does not offer it")
                }
                WorldItem::Function(_) => {
                    self.add(&name, "the component imports this function; the host does not offer it")
                }
                // A type alone asks nothing of the host.
                WorldItem::Type { .. } => {}
            }
        }
    }

    /// An interface of types alone asks nothing of the host.
    fn asks_nothing(&self, id: InterfaceId) -> bool {
        self.found.interfaces.get(id).is_some_and(|interface| {
            let resource = |id: &TypeId| {
                let def = self.found.types.get(*id);
                def.is_none_or(|def| matches!(def.kind, TypeDefKind::Resource))
            };
            interface.functions.is_empty() && !interface.types.values().any(resource)
        })
    }

    /// An import of the service's own interfaces: what it calls there must be there.
    fn own_import(&mut self, name: &str, id: InterfaceId, wanted_world: &World) {
        let Some(wanted) = interface(self.wanted, wanted_world.imports.iter(), name) else { return };
        let Some(found) = self.found.interfaces.get(id) else { return };
        for (function, there) in &found.functions {
            let place = format!("{name} {function}");
            match wanted.functions.get(function) {
                Some(wanted) => self.function(&place, there, wanted),
                None => {
                    self.add(&place, "the component imports this function, which the interface does not have")
                }
            }
        }
    }

    fn function(&mut self, place: &str, found: &Function, wanted: &Function) {
        for what in compare::functions(self.found, found, self.wanted, wanted) {
            self.add(place, &what);
        }
    }

    fn add(&mut self, place: &str, what: &str) {
        self.mismatches.push(Mismatch { place: place.to_owned(), what: what.to_owned() });
    }
}

/// The interface of this name among a world's imports or exports.
fn interface<'a>(
    resolve: &'a Resolve,
    mut items: impl Iterator<Item = (&'a WorldKey, &'a WorldItem)>,
    name: &str,
) -> Option<&'a Interface> {
    items.find_map(|(key, item)| match item {
        WorldItem::Interface { id, .. } if resolve.name_world_key(key) == name => resolve.interfaces.get(*id),
        _ => None,
    })
}

/// Whether an entry of the host's list is this interface, or a prefix of it that ends where a part of the version does.
fn is_offered(name: &str, offered: &[&str]) -> bool {
    offered.iter().any(|entry| {
        name.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '@', '-']))
    })
}

#[cfg(test)]
mod tests;
