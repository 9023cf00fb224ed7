//! Two functions, type by type. Names of types don't matter, as they don't in a component; names of fields, cases and
//! parameters, and the order of fields and cases, do.

use super::describe::describe;
use std::collections::BTreeSet;
use wit_parser::{Function, FunctionKind, Handle, Resolve, Type, TypeDefKind, TypeId};

/// Differences that one function's answer names; the rest would say the same again.
const DIFFERENCES: usize = 20;

/// Everything in which two functions differ, in a user's words.
pub(super) fn functions(found: &Resolve, has: &Function, wanted: &Resolve, should: &Function) -> Vec<String> {
    let mut compare = Compare { found, wanted, seen: BTreeSet::new(), differences: Vec::new() };
    if is_async(&has.kind) && !is_async(&should.kind) {
        compare.differences.push("is an async function, should be a plain one".to_owned());
    }
    if has.params.len() != should.params.len() {
        let what = format!("has {} parameters, should have {}", has.params.len(), should.params.len());
        compare.differences.push(what);
    }
    for ((has, should), number) in has.params.iter().zip(&should.params).zip(1..) {
        if has.name != should.name {
            compare
                .differences
                .push(format!("parameter {number} is named {}, should be {}", has.name, should.name));
        }
        let root = Root { label: format!("parameter {number}"), found: has.ty, wanted: should.ty };
        compare.root(&root);
    }
    match (has.result, should.result) {
        (Some(has), Some(should)) => {
            compare.root(&Root { label: "the result".to_owned(), found: has, wanted: should });
        }
        (None, Some(should)) => {
            let what = format!("has no result, should have {}", describe(wanted, should));
            compare.differences.push(what);
        }
        (Some(has), None) => {
            compare.differences.push(format!("has the result {}, should have none", describe(found, has)));
        }
        (None, None) => {}
    }
    compare.differences.truncate(DIFFERENCES);
    compare.differences
}

fn is_async(kind: &FunctionKind) -> bool {
    matches!(
        kind,
        FunctionKind::AsyncFreestanding | FunctionKind::AsyncMethod(_) | FunctionKind::AsyncStatic(_)
    )
}

/// What is being compared, for the messages.
struct Root {
    label: String,
    found: Type,
    wanted: Type,
}

struct Compare<'a> {
    found: &'a Resolve,
    wanted: &'a Resolve,
    /// Pairs that were compared: what differs in them is said once.
    seen: BTreeSet<(usize, usize)>,
    differences: Vec<String>,
}

impl<'a> Compare<'a> {
    fn root(&mut self, root: &Root) {
        let before = self.differences.len();
        self.types(root.found, root.wanted, "");
        let has = describe(self.found, root.found);
        for difference in self.differences.iter_mut().skip(before) {
            *difference = format!("{} is {has}, {difference}", root.label);
        }
    }

    /// Compares two types; `path` says where in the root they stand, `field name` for one.
    fn types(&mut self, has: Type, should: Type, path: &str) {
        if self.differences.len() >= DIFFERENCES {
            return;
        }
        let (Type::Id(has_id), Type::Id(should_id)) = (base(self.found, has), base(self.wanted, should))
        else {
            if base(self.found, has) != base(self.wanted, should) {
                self.differ(path, has, should);
            }
            return;
        };
        if !self.seen.insert((has_id.index(), should_id.index())) {
            return;
        }
        let (Some(has_def), Some(should_def)) =
            (self.found.types.get(has_id), self.wanted.types.get(should_id))
        else {
            return;
        };
        match (&has_def.kind, &should_def.kind) {
            (TypeDefKind::Record(has), TypeDefKind::Record(should)) => {
                let has: Vec<Member<'_>> =
                    has.fields.iter().map(|one| (one.name.as_str(), Some(one.ty))).collect();
                let should: Vec<Member<'_>> =
                    should.fields.iter().map(|one| (one.name.as_str(), Some(one.ty))).collect();
                self.members("field", &has, &should, path);
            }
            (TypeDefKind::Variant(has), TypeDefKind::Variant(should)) => {
                let has: Vec<Member<'_>> = has.cases.iter().map(|one| (one.name.as_str(), one.ty)).collect();
                let should: Vec<Member<'_>> =
                    should.cases.iter().map(|one| (one.name.as_str(), one.ty)).collect();
                self.members("case", &has, &should, path);
            }
            (TypeDefKind::Enum(has), TypeDefKind::Enum(should)) => {
                let has: Vec<Member<'_>> = has.cases.iter().map(|one| (one.name.as_str(), None)).collect();
                let should: Vec<Member<'_>> =
                    should.cases.iter().map(|one| (one.name.as_str(), None)).collect();
                self.members("case", &has, &should, path);
            }
            (TypeDefKind::Option(has), TypeDefKind::Option(should))
            | (TypeDefKind::List(has), TypeDefKind::List(should)) => {
                self.types(*has, *should, path);
            }
            (TypeDefKind::Tuple(has), TypeDefKind::Tuple(should))
                if has.types.len() == should.types.len() =>
            {
                for (has, should) in has.types.iter().zip(&should.types) {
                    self.types(*has, *should, path);
                }
            }
            (TypeDefKind::Result(has), TypeDefKind::Result(should)) => {
                self.payload("success", (has.ok, should.ok), path);
                self.payload("failure", (has.err, should.err), path);
            }
            (TypeDefKind::Handle(Handle::Borrow(has)), TypeDefKind::Handle(Handle::Borrow(should)))
            | (TypeDefKind::Handle(Handle::Own(has)), TypeDefKind::Handle(Handle::Own(should))) => {
                if resource(self.found, *has) != resource(self.wanted, *should) {
                    self.differ(path, Type::Id(has_id), Type::Id(should_id));
                }
            }
            (TypeDefKind::Resource, TypeDefKind::Resource)
                if resource(self.found, has_id) == resource(self.wanted, should_id) => {}
            _ => self.differ(path, Type::Id(has_id), Type::Id(should_id)),
        }
    }

    /// Fields or cases: those that are missing, those too many, those that differ, and their order.
    fn members(&mut self, what: &str, has: &[Member<'_>], should: &[Member<'_>], path: &str) {
        let before = self.differences.len();
        for (name, ty) in should {
            let at = join(path, what, name);
            match has.iter().find(|(other, _)| other == name) {
                Some((_, there)) => self.payload("", (*there, *ty), &at),
                None => self.differences.push(format!("{at} is missing")),
            }
        }
        for (name, _) in has.iter().filter(|(name, _)| !should.iter().any(|(other, _)| other == name)) {
            self.differences.push(format!("{} should not be there", join(path, what, name)));
        }
        let in_order = has.iter().map(|(name, _)| name).eq(should.iter().map(|(name, _)| name));
        if !in_order && before == self.differences.len() {
            let order: Vec<&str> = should.iter().map(|(name, _)| *name).collect();
            let at = if path.is_empty() { String::new() } else { format!(" of {path}") };
            self.differences.push(format!("the order of the {what}s{at} should be {}", order.join(", ")));
        }
    }

    fn payload(&mut self, what: &str, (has, should): (Option<Type>, Option<Type>), path: &str) {
        let at = match (path.is_empty(), what.is_empty()) {
            (_, true) => path.to_owned(),
            (true, false) => what.to_owned(),
            (false, false) => format!("{path}, {what}"),
        };
        match (has, should) {
            (Some(has), Some(should)) => self.types(has, should, &at),
            (None, Some(should)) => {
                let what = format!("{at} holds nothing, should be {}", describe(self.wanted, should));
                self.differences.push(what);
            }
            (Some(has), None) => {
                self.differences
                    .push(format!("{at} holds {}, should hold nothing", describe(self.found, has)));
            }
            (None, None) => {}
        }
    }

    fn differ(&mut self, path: &str, has: Type, should: Type) {
        let should_text = describe(self.wanted, should);
        let difference = if path.is_empty() {
            format!("should be {should_text}")
        } else {
            format!("{path} is {}, should be {should_text}", describe(self.found, has))
        };
        self.differences.push(difference);
    }
}

/// A field or case with what it holds.
type Member<'a> = (&'a str, Option<Type>);

fn join(path: &str, what: &str, name: &str) -> String {
    if path.is_empty() { format!("{what} {name}") } else { format!("{path}, {what} {name}") }
}

/// The type behind every alias.
pub(super) fn base(resolve: &Resolve, mut ty: Type) -> Type {
    while let Type::Id(id) = ty {
        match resolve.types.get(id).map(|def| &def.kind) {
            Some(TypeDefKind::Type(inner)) => ty = *inner,
            _ => break,
        }
    }
    ty
}

/// A resource by the interface that declares it and its name there.
fn resource(resolve: &Resolve, id: TypeId) -> Option<(String, String)> {
    let Type::Id(id) = base(resolve, Type::Id(id)) else { return None };
    let def = resolve.types.get(id)?;
    let wit_parser::TypeOwner::Interface(interface) = def.owner else { return None };
    Some((resolve.id_of(interface)?, def.name.clone()?))
}
