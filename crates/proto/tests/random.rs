//! Whatever a descriptor set holds, its WIT parses and a component of it can be made; whatever bytes a registry gives,
//! opening them ends without a panic.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers of tests fail as tests do")]

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto, field_descriptor_proto::Label, field_descriptor_proto::Type,
};
use std::collections::BTreeSet;
use tutti_proto::docs::Docs;
use tutti_proto::schema::Schema;
use tutti_proto::{stored, wit};

/// Names that collide as labels, are reserved, or are hard to split into words.
const NAMES: [&str; 24] = [
    "a",
    "A",
    "a_b",
    "aB",
    "AB",
    "A_B",
    "_",
    "__",
    "_1",
    "x1y",
    "HTTPServer",
    "self",
    "Self",
    "type",
    "record",
    "status",
    "context",
    "list",
    "string",
    "world",
    "empty",
    "foo_n2",
    "foo",
    "Foo",
];

#[derive(Debug, Clone)]
struct Draw(Vec<u8>, usize);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        let byte = self.0[self.1 % self.0.len()];
        self.1 += 1;
        (usize::from(byte) + self.1 / self.0.len()) % below
    }

    fn name(&mut self, taken: &mut BTreeSet<String>) -> String {
        let mut name = NAMES[self.next(NAMES.len())].to_owned();
        while !taken.insert(name.clone()) {
            name.push_str(["_", "1", "X"][self.next(3)]);
        }
        name
    }
}

/// Types declared so far, with their full names.
#[derive(Default)]
struct Known {
    messages: Vec<String>,
    enums: Vec<String>,
}

fn enumeration(draw: &mut Draw, name: String, values_taken: &mut BTreeSet<String>) -> EnumDescriptorProto {
    let count = 1 + draw.next(4);
    let value = (0..count).map(|number| EnumValueDescriptorProto {
        name: Some(draw.name(values_taken)),
        number: Some(i32::try_from(number).unwrap()),
        options: None,
    });
    EnumDescriptorProto { name: Some(name), value: value.collect(), ..Default::default() }
}

fn field(draw: &mut Draw, number: i32, known: &Known, taken: &mut BTreeSet<String>) -> FieldDescriptorProto {
    let scalars =
        [Type::Double, Type::Int32, Type::Fixed64, Type::Bool, Type::String, Type::Bytes, Type::Sint64];
    let (ty, name) = match draw.next(3) {
        0 => (Type::Message, Some(known.messages[draw.next(known.messages.len())].clone())),
        1 if !known.enums.is_empty() => (Type::Enum, Some(known.enums[draw.next(known.enums.len())].clone())),
        _ => (scalars[draw.next(scalars.len())], None),
    };
    let label = [Label::Optional, Label::Required, Label::Repeated][draw.next(3)];
    FieldDescriptorProto {
        name: Some(draw.name(taken)),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(ty.into()),
        type_name: name.map(|name| format!(".{name}")),
        json_name: Some(format!("j{number}")),
        ..Default::default()
    }
}

fn message(draw: &mut Draw, name: &str, known: &Known) -> DescriptorProto {
    let mut taken = BTreeSet::new();
    let mut message = DescriptorProto { name: Some(name.to_owned()), ..Default::default() };
    let oneofs = draw.next(3);
    for _ in 0..oneofs {
        message.oneof_decl.push(OneofDescriptorProto { name: Some(draw.name(&mut taken)), options: None });
    }
    let count = draw.next(6);
    for number in 1..=i32::try_from(count).unwrap() {
        let mut field = field(draw, number, known, &mut taken);
        if oneofs > 0 && draw.next(2) == 0 {
            field.label = Some(Label::Optional.into());
            field.oneof_index = Some(i32::try_from(draw.next(oneofs)).unwrap());
        }
        message.field.push(field);
    }
    let used: BTreeSet<i32> = message.field.iter().filter_map(|field| field.oneof_index).collect();
    // A oneof has a member, or it is not there.
    if used.len() != oneofs {
        message.oneof_decl.clear();
        message.field.iter_mut().for_each(|field| field.oneof_index = None);
    }
    message
}

/// Two packages, the second using the first, and a service of every shape.
fn set(draw: &mut Draw) -> FileDescriptorSet {
    let mut known = Known::default();
    let mut files = Vec::new();
    for (index, package) in ["lib.a", "lib_a"].into_iter().enumerate() {
        let mut taken = BTreeSet::new();
        let names: Vec<String> = (0..1 + draw.next(5)).map(|_| draw.name(&mut taken)).collect();
        known.messages.extend(names.iter().map(|name| format!("{package}.{name}")));
        let mut file = FileDescriptorProto {
            name: Some(format!("{index}.proto")),
            package: Some(package.to_owned()),
            dependency: (0..index).map(|other| format!("{other}.proto")).collect(),
            ..Default::default()
        };
        for _ in 0..draw.next(3) {
            let name = draw.name(&mut taken);
            file.enum_type.push(enumeration(draw, name.clone(), &mut taken));
            known.enums.push(format!("{package}.{name}"));
        }
        for name in &names {
            let mut outer = message(draw, name, &known);
            if draw.next(3) == 0 {
                let mut inner_taken: BTreeSet<String> =
                    outer.field.iter().map(|one| one.name().to_owned()).collect();
                inner_taken.extend(outer.oneof_decl.iter().map(|one| one.name().to_owned()));
                let inner = draw.name(&mut inner_taken);
                outer.nested_type.push(message(draw, &inner, &known));
                known.messages.push(format!("{package}.{name}.{inner}"));
            }
            file.message_type.push(outer);
        }
        let mut methods_taken = BTreeSet::new();
        let method = (0..1 + draw.next(4)).map(|_| MethodDescriptorProto {
            name: Some(draw.name(&mut methods_taken)),
            input_type: Some(format!(".{}", known.messages[draw.next(known.messages.len())])),
            output_type: Some(format!(".{}", known.messages[draw.next(known.messages.len())])),
            client_streaming: Some(draw.next(2) == 0),
            server_streaming: Some(draw.next(2) == 0),
            options: None,
        });
        let method: Vec<MethodDescriptorProto> = method.collect();
        let name = draw.name(&mut taken);
        file.service.push(ServiceDescriptorProto { name: Some(name), method, options: None });
        files.push(file);
    }
    FileDescriptorSet { file: files }
}

fn parses(files: &[wit::WitFile]) -> Result<(), String> {
    let mut resolve = wit_parser::Resolve::default();
    let mut package = None;
    for file in files.iter().rev() {
        package =
            Some(resolve.push_source(&file.path, &file.text).map_err(|error| resolve.render_error(&error))?);
    }
    let world = *resolve.packages[package.unwrap()].worlds.values().next().ok_or("no world")?;
    let mut module = wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
    fn text(error: impl std::fmt::Display) -> String {
        format!("{error:#}")
    }
    wit_component::embed_component_metadata(&mut module, &resolve, world, Default::default())
        .map_err(text)?;
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).map_err(text)?;
    encoder.encode().map_err(text).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_set_has_wit_that_parses(bytes in prop::collection::vec(any::<u8>(), 64..256)) {
        let set = set(&mut Draw(bytes, 0));
        let pool = stored::open(&set.encode_to_vec()).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        for service in pool.services() {
            let Ok(schema) = Schema::of_service(&pool, service.full_name()) else {
                continue;
            };
            let one = schema.service(service.full_name()).expect("the service");
            let files = wit::generate(&schema, &Docs::default(), one);
            prop_assert_eq!(parses(&files), Ok(()), "{}", files[0].text);
        }
    }

    #[test]
    fn damaged_sets_end_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 64..128),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut set = set(&mut Draw(bytes, 0)).encode_to_vec();
        for (at, byte) in damage {
            let at = at.index(set.len());
            set[at] = byte;
        }
        if let Ok(pool) = stored::open(&set) {
            for service in pool.services() {
                if let Ok(schema) = Schema::of_service(&pool, service.full_name()) {
                    let one = schema.service(service.full_name()).expect("the service");
                    let files = wit::generate(&schema, &Docs::default(), one);
                    prop_assert_eq!(parses(&files), Ok(()), "{}", files[0].text);
                }
            }
        }
    }
}
