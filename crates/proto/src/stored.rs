//! A descriptor set as it comes back from a registry: written by a stranger, so bounded and checked before anything is
//! built of it.

use crate::fault::Fault;
use crate::limits;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use std::collections::BTreeSet;

/// Opens a serialized `FileDescriptorSet` with all imports in it, each before the files that import it, and without source
/// positions: as [`crate::compile::compile`] writes it.
///
/// # Errors
/// The first fault: not a descriptor set, larger than [`crate::limits`] allows, names that aren't identifiers, imports that
/// are missing, or anything that doesn't hold together.
pub fn open(bytes: &[u8]) -> Result<DescriptorPool, Fault> {
    if bytes.len() > limits::SET_BYTES {
        let what = format!("the descriptor set is {} bytes; the limit is {}", bytes.len(), limits::SET_BYTES);
        return Err(Fault::of_file("", what));
    }
    let set = FileDescriptorSet::decode(bytes)
        .map_err(|error| Fault::of_file("", format!("not a serialized FileDescriptorSet: {error}")))?;
    Audit::default().set(&set)?;
    // Read again from the bytes, not from what was just checked, because that has lost the options' extensions.
    let pool = DescriptorPool::decode(bytes)
        .map_err(|error| Fault::of_file(error.file().unwrap_or_default(), error.to_string()))?;
    map_entries(&pool)?;
    Ok(pool)
}

/// Counts while it walks.
#[derive(Default)]
struct Audit {
    messages: usize,
    members: usize,
}

/// What is wrong, before the file is known.
type Finding = Result<(), String>;

impl Audit {
    fn set(&mut self, set: &FileDescriptorSet) -> Result<(), Fault> {
        if set.file.is_empty() {
            return Err(Fault::of_file("", "the descriptor set is empty"));
        }
        if set.file.len() > limits::FILES {
            let what =
                format!("the descriptor set has {} files; the limit is {}", set.file.len(), limits::FILES);
            return Err(Fault::of_file("", what));
        }
        let mut before: BTreeSet<&str> = BTreeSet::new();
        for file in &set.file {
            self.file(file, &before).map_err(|what| Fault::of_file(printable(file.name()), what))?;
            if !before.insert(file.name()) {
                return Err(Fault::of_file(printable(file.name()), "the file is there twice"));
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &FileDescriptorProto, before: &BTreeSet<&str>) -> Finding {
        bounded(file.name(), "the file's name")?;
        match file.syntax() {
            "" | "proto2" | "proto3" => {}
            "editions" => return Err("editions are not supported".to_owned()),
            other => return Err(format!("unknown syntax \"{}\"", printable(other))),
        }
        if !file.package().is_empty() {
            bounded(file.package(), "the package")?;
            file.package().split('.').try_for_each(identifier)?;
        }
        if file.source_code_info.is_some() {
            return Err("the descriptors carry source positions, which are not stored".to_owned());
        }
        for import in &file.dependency {
            if !before.contains(import.as_str()) {
                return Err(format!("its import {} does not come before it", printable(import)));
            }
        }
        let options = file.options.as_ref().map(|options| options.uninterpreted_option.len());
        interpreted(options)?;
        file.message_type.iter().try_for_each(|message| self.message(message, 1))?;
        file.enum_type.iter().try_for_each(|one| self.enumeration(one))?;
        file.service.iter().try_for_each(|service| self.service(service))?;
        file.extension.iter().try_for_each(|field| self.field(field, 0))
    }

    fn message(&mut self, message: &DescriptorProto, depth: usize) -> Finding {
        identifier(message.name())?;
        self.messages = self.messages.saturating_add(1);
        if self.messages > limits::MESSAGES {
            return Err(format!("more than {} messages", limits::MESSAGES));
        }
        if depth > limits::DECLARED_DEPTH {
            return Err(format!(
                "messages are declared more than {} deep in one another",
                limits::DECLARED_DEPTH
            ));
        }
        interpreted(message.options.as_ref().map(|options| options.uninterpreted_option.len()))?;
        let ranges = message.extension_range.iter().filter_map(|range| range.options.as_ref());
        ranges.map(|options| options.uninterpreted_option.len()).map(Some).try_for_each(interpreted)?;
        self.count(message.extension_range.len().saturating_add(message.reserved_range.len()))?;
        self.count(message.reserved_name.len())?;
        for oneof in &message.oneof_decl {
            identifier(oneof.name())?;
            self.count(1)?;
            interpreted(oneof.options.as_ref().map(|options| options.uninterpreted_option.len()))?;
        }
        message.field.iter().try_for_each(|field| self.field(field, message.oneof_decl.len()))?;
        message.extension.iter().try_for_each(|field| self.field(field, 0))?;
        message.enum_type.iter().try_for_each(|one| self.enumeration(one))?;
        message.nested_type.iter().try_for_each(|inner| self.message(inner, depth.saturating_add(1)))
    }

    fn field(&mut self, field: &FieldDescriptorProto, oneofs: usize) -> Finding {
        identifier(field.name())?;
        self.count(1)?;
        bounded_or_empty(field.json_name(), "a JSON name")?;
        bounded_or_empty(field.default_value(), "a default value")?;
        for name in [field.type_name(), field.extendee()].into_iter().filter(|name| !name.is_empty()) {
            bounded(name, "a type's name")?;
            name.strip_prefix('.').unwrap_or(name).split('.').try_for_each(identifier)?;
        }
        if let Some(index) = field.oneof_index
            && usize::try_from(index).map_or(true, |index| index >= oneofs)
        {
            return Err(format!("field {} is in a oneof that is not there", field.name()));
        }
        interpreted(field.options.as_ref().map(|options| options.uninterpreted_option.len()))
    }

    fn enumeration(&mut self, one: &EnumDescriptorProto) -> Finding {
        identifier(one.name())?;
        self.count(one.reserved_range.len().saturating_add(one.reserved_name.len()).saturating_add(1))?;
        interpreted(one.options.as_ref().map(|options| options.uninterpreted_option.len()))?;
        for value in &one.value {
            identifier(value.name())?;
            self.count(1)?;
            interpreted(value.options.as_ref().map(|options| options.uninterpreted_option.len()))?;
        }
        Ok(())
    }

    fn service(&mut self, service: &ServiceDescriptorProto) -> Finding {
        identifier(service.name())?;
        interpreted(service.options.as_ref().map(|options| options.uninterpreted_option.len()))?;
        for method in &service.method {
            identifier(method.name())?;
            self.count(1)?;
            interpreted(method.options.as_ref().map(|options| options.uninterpreted_option.len()))?;
            for name in [method.input_type(), method.output_type()] {
                bounded(name, "a type's name")?;
                name.strip_prefix('.').unwrap_or(name).split('.').try_for_each(identifier)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Finding {
        self.members = self.members.saturating_add(more);
        if self.members > limits::MEMBERS {
            return Err(format!("more than {} fields, values, methods and ranges", limits::MEMBERS));
        }
        Ok(())
    }
}

fn identifier(name: &str) -> Finding {
    bounded(name, "a name")?;
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    if valid { Ok(()) } else { Err(format!("\"{}\" is not an identifier", printable(name))) }
}

fn bounded(name: &str, what: &str) -> Finding {
    if name.is_empty() {
        return Err(format!("{what} is missing"));
    }
    bounded_or_empty(name, what)
}

fn bounded_or_empty(name: &str, what: &str) -> Finding {
    if name.len() > limits::NAME_BYTES {
        return Err(format!("{what} is {} bytes long; the limit is {}", name.len(), limits::NAME_BYTES));
    }
    Ok(())
}

/// A compiler turns every option into its field; what it left as text would be parsed here once more.
fn interpreted(uninterpreted: Option<usize>) -> Finding {
    match uninterpreted {
        None | Some(0) => Ok(()),
        Some(_) => Err("an option is left as text: the set was not written by a compiler".to_owned()),
    }
}

/// A name of a stranger in a message of ours.
fn printable(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

/// Map entries have a key and a value, and a key is of a type that a map's may be.
fn map_entries(pool: &DescriptorPool) -> Result<(), Fault> {
    use prost_reflect::Kind;
    for entry in pool.all_messages().filter(prost_reflect::MessageDescriptor::is_map_entry) {
        let key = entry.get_field(1).map(|key| key.kind());
        let key_is_good = !matches!(
            key,
            None | Some(Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_))
        );
        let value = entry.get_field(2);
        let plain = |number| {
            entry
                .get_field(number)
                .is_some_and(|field| !field.is_list() && !field.is_group() && !field.is_map())
        };
        if !key_is_good || value.is_none() || entry.fields().len() != 2 || !plain(1) || !plain(2) {
            let what = format!("{} is not a map's entry", entry.full_name());
            return Err(Fault::of_file(entry.parent_file().name(), what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
