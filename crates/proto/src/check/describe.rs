//! A type as a user would write it, cut short where it goes deep.

use super::compare::base;
use wit_parser::{Handle, Resolve, Type, TypeDefKind, TypeId};

/// Members that are written out.
const MEMBERS: usize = 4;
/// How deep types in types are written out.
const DEPTH: usize = 2;

/// `record hello-request { name: u32 }`, `option<list<string>>`, `enum color { red, … }`.
pub(super) fn describe(resolve: &Resolve, ty: Type) -> String {
    text(resolve, ty, DEPTH)
}

fn text(resolve: &Resolve, ty: Type, depth: usize) -> String {
    let Type::Id(id) = base(resolve, ty) else { return primitive(ty, resolve) };
    let Some(def) = resolve.types.get(id) else { return "a type".to_owned() };
    let name = def.name.as_deref().unwrap_or("…");
    let inner = |ty: &Type| text(resolve, *ty, depth.saturating_sub(1));
    match &def.kind {
        TypeDefKind::Record(_) | TypeDefKind::Variant(_) if depth < DEPTH => name.to_owned(),
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| format!("{}: {}", field.name, inner(&field.ty)));
            format!("record {name} {{ {} }}", listed(fields))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, inner(ty)),
                None => case.name.clone(),
            });
            format!("variant {name} {{ {} }}", listed(cases))
        }
        TypeDefKind::Enum(_) if depth < DEPTH => name.to_owned(),
        TypeDefKind::Enum(one) => {
            format!("enum {name} {{ {} }}", listed(one.cases.iter().map(|case| case.name.clone())))
        }
        TypeDefKind::Option(of) => format!("option<{}>", text(resolve, *of, depth)),
        TypeDefKind::List(of) => format!("list<{}>", text(resolve, *of, depth)),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(inner).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Result(result) => {
            let part = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), inner);
            format!("result<{}, {}>", part(&result.ok), part(&result.err))
        }
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", resource_name(resolve, *id)),
        TypeDefKind::Handle(Handle::Own(id)) => resource_name(resolve, *id),
        other => other.as_str().to_owned(),
    }
}

/// At most [`MEMBERS`] of them.
fn listed(members: impl ExactSizeIterator<Item = String>) -> String {
    let more = members.len() > MEMBERS;
    let mut written: Vec<String> = members.take(MEMBERS).collect();
    if more {
        written.push("…".to_owned());
    }
    written.join(", ")
}

/// A resource with its interface, because resources of one name differ by it.
fn resource_name(resolve: &Resolve, id: TypeId) -> String {
    let Type::Id(id) = base(resolve, Type::Id(id)) else { return "a resource".to_owned() };
    let Some(def) = resolve.types.get(id) else { return "a resource".to_owned() };
    let interface = match def.owner {
        wit_parser::TypeOwner::Interface(interface) => resolve.id_of(interface),
        _ => None,
    };
    let name = def.name.as_deref().unwrap_or("…");
    interface.map_or_else(|| name.to_owned(), |interface| format!("{interface}.{name}"))
}

fn primitive(ty: Type, resolve: &Resolve) -> String {
    match base(resolve, ty) {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "a type",
    }
    .to_owned()
}
