//! The comments of `.proto` files, by full name, and where each thing stands in its file.
//!
//! Kept apart from the schema: the driver that serves calls has no use for them, and stored descriptors have none.

use prost_reflect::prost_types::source_code_info::Location;
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use std::collections::BTreeMap;

/// Comments by full name: `com.example.HelloRequest`, `com.example.HelloRequest.name`, `com.example.HelloWorld.SayHello`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Docs {
    comments: BTreeMap<String, String>,
}

impl Docs {
    /// Every comment of a pool whose files have source positions; none of one whose files have not.
    #[must_use]
    pub fn of(pool: &DescriptorPool) -> Docs {
        let mut docs = Docs::default();
        for file in pool.files() {
            docs.add_file(&file);
        }
        docs
    }

    /// The comment of what has this full name, without the comment marks.
    #[must_use]
    pub fn get(&self, full_name: &str) -> Option<&str> {
        self.comments.get(full_name).map(String::as_str)
    }

    fn add_file(&mut self, file: &FileDescriptor) {
        let places = Places::of(file);
        if places.by_path.is_empty() {
            return;
        }
        for service in file.services() {
            self.add(service.full_name(), &places, service.path());
            for method in service.methods() {
                self.add(method.full_name(), &places, method.path());
            }
        }
        let mut messages: Vec<MessageDescriptor> = file.messages().collect();
        let mut enums: Vec<_> = file.enums().collect();
        while let Some(message) = messages.pop() {
            self.add(message.full_name(), &places, message.path());
            for field in message.fields() {
                self.add(field.full_name(), &places, field.path());
            }
            for oneof in message.oneofs() {
                self.add(oneof.full_name(), &places, oneof.path());
            }
            messages.extend(message.child_messages());
            enums.extend(message.child_enums());
        }
        for one in enums {
            self.add(one.full_name(), &places, one.path());
            for value in one.values() {
                self.add(value.full_name(), &places, value.path());
            }
        }
    }

    fn add(&mut self, full_name: &str, places: &Places<'_>, path: &[i32]) {
        let Some(location) = places.by_path.get(path) else { return };
        let comment = location.leading_comments.as_deref().or(location.trailing_comments.as_deref());
        let text = comment.map(tidy).unwrap_or_default();
        if !text.is_empty() {
            self.comments.insert(full_name.to_owned(), text);
        }
    }
}

/// Where each thing of one file stands, by its path in the descriptor.
pub(crate) struct Places<'a> {
    by_path: BTreeMap<&'a [i32], &'a Location>,
}

impl<'a> Places<'a> {
    pub(crate) fn of(file: &'a FileDescriptor) -> Places<'a> {
        let info = file.file_descriptor_proto().source_code_info.as_ref();
        let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
        Places { by_path: locations.iter().map(|one| (one.path.as_slice(), one)).collect() }
    }

    /// Line and column, from 1, of what has this path.
    pub(crate) fn position(&self, path: &[i32]) -> Option<(u32, u32)> {
        let span = &self.by_path.get(path)?.span;
        let line = u32::try_from(*span.first()?).ok()?;
        let column = u32::try_from(*span.get(1)?).ok()?;
        Some((line.saturating_add(1), column.saturating_add(1)))
    }
}

/// A comment's lines without the space that follows the mark and without blank lines at its ends; what would end or
/// garble a comment elsewhere is taken out.
fn tidy(comment: &str) -> String {
    let lines: Vec<String> = comment
        .lines()
        .map(|line| {
            line.chars().filter(|char| !char.is_control() && !is_direction(*char)).collect::<String>()
        })
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Characters that change the direction of text, which WIT refuses as a way to hide code in comments.
fn is_direction(char: char) -> bool {
    matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{0149}' | '\u{0673}' | '\u{0f77}' | '\u{0f79}'
        | '\u{17a3}' | '\u{17a4}' | '\u{17b4}' | '\u{17b5}')
}
