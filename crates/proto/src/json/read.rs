//! JSON to a message's bytes. What is written is valid whatever its order: fields stand in the order of the JSON, and two
//! occurrences of one message are merged by whoever reads them, which is how the parts of an HTTP request are put together.

use super::reader::{Found, Next, Read, Reader, Step, place};
use super::text::text;
use super::{ANY_DEPTH, DEPTH, JsonFault, NULL_VALUE, Unknown, WellKnown, time};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::BTreeSet;

pub(super) fn message(
    message: &MessageDescriptor,
    json: &[u8],
    unknown: Unknown,
) -> Result<Vec<u8>, JsonFault> {
    let mut out = Vec::with_capacity(json.len());
    whole(json, unknown, |reading| reading.message(message, &mut out))?;
    Ok(out)
}

/// Reads one field's value from JSON text and appends the field to an encoded message. `null` appends nothing.
///
/// # Errors
/// As [`super::to_protobuf`].
pub fn append_json(
    field: &FieldDescriptor,
    json: &[u8],
    unknown: Unknown,
    out: &mut Vec<u8>,
) -> Result<(), JsonFault> {
    whole(json, unknown, |reading| match reading.reader.peek()? {
        Next::Null if !takes_null(&field.kind()) => reading.reader.word().map(drop),
        _ => {
            reading.field(field, out).map_err(|found| found.inside(Step::Field(field.json_name().to_owned())))
        }
    })
}

fn whole(
    json: &[u8],
    unknown: Unknown,
    read: impl FnOnce(&mut Reading<'_>) -> Read<()>,
) -> Result<(), JsonFault> {
    let text = std::str::from_utf8(json).map_err(|error| {
        let valid = json.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok());
        fault(valid.unwrap_or_default(), *Found::at(error.valid_up_to(), "not UTF-8"))
    })?;
    let mut reading = Reading { reader: Reader::new(text), unknown, depth: DEPTH, any: ANY_DEPTH };
    let done = read(&mut reading).and_then(|()| reading.reader.end());
    done.map_err(|found| fault(text, *found))
}

fn fault(text: &str, found: Found) -> JsonFault {
    let (line, column) = place(text, found.at);
    let mut path = String::new();
    for step in found.path.iter().rev() {
        match step {
            Step::Field(name) if path.is_empty() => path.push_str(name),
            Step::Field(name) => path.extend([".", name]),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => path.push_str(&format!("[\"{}\"]", shown(key))),
        }
    }
    JsonFault { line, column, path, what: found.what, hint: found.hint }
}

/// What a stranger wrote, short and on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

struct Reading<'a> {
    reader: Reader<'a>,
    unknown: Unknown,
    /// Levels of nesting that are left.
    depth: u32,
    /// The same of `Any`.
    any: u32,
}

/// Whether a value was written; one that is left out leaves no trace.
type Written = bool;

impl Reading<'_> {
    fn message(&mut self, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        match WellKnown::of(message.full_name()) {
            Some(WellKnown::Any) => self.any(message, out),
            Some(WellKnown::Timestamp) => {
                self.seconds(out, "a time such as \"2026-01-31T12:00:00Z\"", time::parse_timestamp)
            }
            Some(WellKnown::Duration) => {
                self.seconds(out, "a duration such as \"1.5s\"", time::parse_duration)
            }
            Some(WellKnown::FieldMask) => self.field_mask(out),
            Some(WellKnown::Struct) => self.structure(out),
            Some(WellKnown::Value) => self.any_value(out),
            Some(WellKnown::List) => self.list_value(out),
            Some(WellKnown::Wrapper) => match message.get_field(1) {
                Some(value) if !value.is_list() => self.single(&value, out),
                _ => self.fields(message, None, out),
            },
            Some(WellKnown::Empty) | None => self.fields(message, None, out),
        }
    }

    /// An object of fields; the name `besides` is passed over.
    fn fields(&mut self, message: &MessageDescriptor, besides: Option<&str>, out: &mut Vec<u8>) -> Read<()> {
        self.open(b'{', Next::Object)?;
        let mut seen = BTreeSet::new();
        let mut oneofs = BTreeSet::new();
        let mut first = true;
        while self.reader.another(&mut first, b'}')? {
            let at = self.reader.here();
            let key = self.reader.key()?;
            if besides == Some(&*key) {
                self.reader.skip(self.depth)?;
                continue;
            }
            let field = message.get_field_by_json_name(&key).or_else(|| message.get_field_by_name(&key));
            let Some(field) = field.filter(|field| !field.is_group()) else {
                if self.unknown == Unknown::Ignore {
                    self.reader.skip(self.depth)?;
                    continue;
                }
                return Err(unknown_field(message, &key, at));
            };
            if !seen.insert(field.number()) {
                return Err(Found::at(at, format!("\"{}\" is given twice", shown(&key))));
            }
            if self.reader.peek()? == Next::Null && !takes_null(&field.kind()) {
                self.reader.word()?;
                continue;
            }
            if let Some(oneof) = field.containing_oneof()
                && !oneofs.insert(oneof.full_name().to_owned())
            {
                let what = format!("another member of the oneof \"{}\" is given already", oneof.name());
                return Err(Found::at(at, what).inside(Step::Field(field.json_name().to_owned())));
            }
            self.field(&field, out)
                .map_err(|found| found.inside(Step::Field(field.json_name().to_owned())))?;
        }
        self.close();
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Read<()> {
        match (field.is_map(), field.is_list()) {
            (true, _) => self.map(field, out),
            (_, true) => self.list(field, out),
            _ => self.single(field, out),
        }
    }

    /// A value that stands alone. The default of a field without presence is not written.
    fn single(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Read<()> {
        let (kind, start) = (field.kind(), out.len());
        key(field.number(), &kind, out);
        let value = out.len();
        let written = self.value(&kind, out)?;
        let zero = out.get(value..).is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0));
        if !written || (zero && !field.supports_presence()) {
            out.truncate(start);
        }
        Ok(())
    }

    fn list(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Read<()> {
        self.open(b'[', Next::List)?;
        let (kind, packed) = (field.kind(), field.is_packed());
        let mut together = Vec::new();
        let (mut first, mut index) = (true, 0_usize);
        while self.reader.another(&mut first, b']')? {
            let inside = |found: Box<Found>| found.inside(Step::Index(index));
            self.no_null(&kind).map_err(inside)?;
            if packed {
                self.value(&kind, &mut together).map_err(inside)?;
            } else {
                let start = out.len();
                key(field.number(), &kind, out);
                if !self.value(&kind, out).map_err(inside)? {
                    out.truncate(start);
                }
            }
            index = index.saturating_add(1);
        }
        if !together.is_empty() {
            delimited(field.number(), &together, out);
        }
        self.close();
        Ok(())
    }

    fn map(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Read<()> {
        let Kind::Message(entry) = field.kind() else { return Ok(()) };
        let (key_kind, value_kind) =
            (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        self.open(b'{', Next::Object)?;
        let mut seen = BTreeSet::new();
        let mut first = true;
        while self.reader.another(&mut first, b'}')? {
            let at = self.reader.here();
            let name = self.reader.key()?;
            let inside = |found: Box<Found>| found.inside(Step::Key(name.to_string()));
            let mut bytes = Vec::new();
            key(1, &key_kind, &mut bytes);
            text(&key_kind, &name, &mut bytes)
                .map_err(|what| inside(Found::at(at, format!("as a key, {what}"))))?;
            if !seen.insert(bytes.clone()) {
                return Err(inside(Found::at(at, "this key is given twice")));
            }
            self.no_null(&value_kind).map_err(inside)?;
            key(2, &value_kind, &mut bytes);
            if self.value(&value_kind, &mut bytes).map_err(inside)? {
                delimited(field.number(), &bytes, out);
            }
        }
        self.close();
        Ok(())
    }

    fn no_null(&mut self, kind: &Kind) -> Read<()> {
        if self.reader.peek()? == Next::Null && !takes_null(kind) {
            let what = format!("expected {}, found null", wanted(kind));
            return Err(Found::at(self.reader.here(), what));
        }
        Ok(())
    }

    /// One value without its key.
    fn value(&mut self, kind: &Kind, out: &mut Vec<u8>) -> Read<Written> {
        let at = self.reader.here();
        let next = self.reader.peek()?;
        let fail = |what: String| Found::at(at, what);
        match (kind, next) {
            (Kind::Message(message), _) => {
                let mut bytes = Vec::new();
                self.message(message, &mut bytes)?;
                push_bytes(&bytes, out);
            }
            (Kind::Enum(one), Next::Null) if one.full_name() == NULL_VALUE => {
                self.reader.word()?;
                encode_varint(0, out);
            }
            (Kind::Enum(one), Next::String) => {
                let name = self.reader.string()?;
                return match one.get_value_by_name(&name) {
                    Some(value) => {
                        push_enum(value.number(), out);
                        Ok(true)
                    }
                    None if self.unknown == Unknown::Ignore => Ok(false),
                    None => Err(unknown_value(one, &name, at)),
                };
            }
            (Kind::Bool, Next::Bool) => encode_varint(u64::from(self.reader.word()? == "true"), out),
            (Kind::String | Kind::Bytes, Next::String) => {
                text(kind, &self.reader.string()?, out).map_err(fail)?
            }
            (Kind::Bool | Kind::String | Kind::Bytes, _) => return Err(mismatch(at, kind, next)),
            (_, Next::Number) => text(kind, self.reader.number()?, out).map_err(fail)?,
            (_, Next::String) => text(kind, &self.reader.string()?, out).map_err(fail)?,
            _ => return Err(mismatch(at, kind, next)),
        }
        Ok(true)
    }

    fn open(&mut self, bracket: u8, wanted: Next) -> Read<()> {
        let at = self.reader.here();
        let next = self.reader.peek()?;
        if next != wanted {
            return Err(Found::at(at, format!("expected {}, found {}", wanted.name(), next.name())));
        }
        let Some(left) = self.depth.checked_sub(1) else {
            return Err(Found::at(at, format!("nested deeper than {DEPTH}")));
        };
        self.depth = left;
        self.reader.take(bracket);
        Ok(())
    }

    fn close(&mut self) {
        self.depth += 1;
    }

    fn quoted(&mut self, wanted: &str) -> Read<std::borrow::Cow<'_, str>> {
        let at = self.reader.here();
        match self.reader.peek()? {
            Next::String => self.reader.string(),
            next => Err(Found::at(at, format!("expected {wanted}, found {}", next.name()))),
        }
    }

    fn seconds(
        &mut self,
        out: &mut Vec<u8>,
        wanted: &str,
        parse: fn(&str) -> Option<(i64, i32)>,
    ) -> Read<()> {
        let at = self.reader.here();
        let text = self.quoted(wanted)?;
        let parsed = parse(&text);
        let (seconds, nanos) =
            parsed.ok_or_else(|| Found::at(at, format!("expected {wanted}, found \"{}\"", shown(&text))))?;
        push_seconds(seconds, nanos, out);
        Ok(())
    }

    fn field_mask(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let at = self.reader.here();
        let text = self.quoted("names with commas between them")?;
        push_mask(&text, out).map_err(|what| Found::at(at, what))
    }

    fn structure(&mut self, out: &mut Vec<u8>) -> Read<()> {
        self.open(b'{', Next::Object)?;
        let mut seen = BTreeSet::new();
        let mut first = true;
        while self.reader.another(&mut first, b'}')? {
            let at = self.reader.here();
            let name = self.reader.key()?.into_owned();
            let (mut entry, mut value) = (Vec::new(), Vec::new());
            delimited(1, name.as_bytes(), &mut entry);
            self.any_value(&mut value).map_err(|found| found.inside(Step::Key(name.clone())))?;
            delimited(2, &value, &mut entry);
            delimited(1, &entry, out);
            if let Some(twice) = seen.replace(name) {
                return Err(Found::at(at, "this key is given twice").inside(Step::Key(twice)));
            }
        }
        self.close();
        Ok(())
    }

    fn list_value(&mut self, out: &mut Vec<u8>) -> Read<()> {
        self.open(b'[', Next::List)?;
        let (mut first, mut index) = (true, 0_usize);
        while self.reader.another(&mut first, b']')? {
            let mut value = Vec::new();
            self.any_value(&mut value).map_err(|found| found.inside(Step::Index(index)))?;
            delimited(1, &value, out);
            index = index.saturating_add(1);
        }
        self.close();
        Ok(())
    }

    /// A `google.protobuf.Value`: whatever stands there.
    fn any_value(&mut self, out: &mut Vec<u8>) -> Read<()> {
        let at = self.reader.here();
        match self.reader.peek()? {
            Next::Null => {
                self.reader.word()?;
                key(1, &Kind::Bool, out);
                encode_varint(0, out);
            }
            Next::Number => {
                key(2, &Kind::Double, out);
                let number = self.reader.number()?;
                text(&Kind::Double, number, out).map_err(|what| Found::at(at, what))?;
            }
            Next::String => delimited(3, self.reader.string()?.as_bytes(), out),
            Next::Bool => {
                key(4, &Kind::Bool, out);
                encode_varint(u64::from(self.reader.word()? == "true"), out);
            }
            next @ (Next::Object | Next::List) => {
                let mut inner = Vec::new();
                let number = match next {
                    Next::Object => self.structure(&mut inner).map(|()| 5)?,
                    _ => self.list_value(&mut inner).map(|()| 6)?,
                };
                delimited(number, &inner, out);
            }
        }
        Ok(())
    }

    fn any(&mut self, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        let at = self.reader.here();
        let Some(url) = self.type_url()? else {
            self.open(b'{', Next::Object)?;
            self.close();
            return match self.reader.take(b'}') {
                true => Ok(()),
                false => Err(Found::at(at, "expected a name \"@type\" that says what this is")),
            };
        };
        let name = url.rsplit_once('/').map(|(_, name)| name);
        let found = name.and_then(|name| message.parent_pool().get_message_by_name(name));
        let inner = found.ok_or_else(|| {
            Found::at(at, format!("the type \"{}\" is not known here", shown(&url)))
                .hint("import the file that declares it, so that it is among the service's descriptors")
        })?;
        let Some(left) = self.any.checked_sub(1) else {
            return Err(Found::at(at, format!("Any is nested deeper than {ANY_DEPTH}")));
        };
        self.any = left;
        let mut value = Vec::new();
        match WellKnown::of(inner.full_name()) {
            None => self.fields(&inner, Some("@type"), &mut value)?,
            Some(_) => self.wrapped(&inner, &mut value)?,
        }
        self.any += 1;
        delimited(1, url.as_bytes(), out);
        if !value.is_empty() {
            delimited(2, &value, out);
        }
        Ok(())
    }

    /// A type with a JSON form of its own, which stands under the name `value` beside `@type`.
    fn wrapped(&mut self, message: &MessageDescriptor, out: &mut Vec<u8>) -> Read<()> {
        self.open(b'{', Next::Object)?;
        let (mut first, mut seen) = (true, false);
        while self.reader.another(&mut first, b'}')? {
            let at = self.reader.here();
            let name = self.reader.key()?;
            match (&*name, seen) {
                ("@type", _) => self.reader.skip(self.depth)?,
                ("value", false) => {
                    seen = true;
                    self.message(message, out)
                        .map_err(|found| found.inside(Step::Field("value".to_owned())))?;
                }
                ("value", true) => return Err(Found::at(at, "\"value\" is given twice")),
                _ if self.unknown == Unknown::Ignore => self.reader.skip(self.depth)?,
                _ => {
                    return Err(Found::at(at, format!("unknown name \"{}\" beside \"@type\"", shown(&name))));
                }
            }
        }
        self.close();
        Ok(())
    }

    /// The type of the `Any` that stands next, wherever in it it stands.
    fn type_url(&mut self) -> Read<Option<String>> {
        let mut ahead = self.reader.clone();
        let at = ahead.here();
        if ahead.peek()? != Next::Object {
            return Err(Found::at(
                at,
                format!("expected an object with a name \"@type\", found {}", ahead.peek()?.name()),
            ));
        }
        ahead.take(b'{');
        let mut url: Option<String> = None;
        let mut first = true;
        while ahead.another(&mut first, b'}')? {
            if ahead.key()? != "@type" {
                ahead.skip(self.depth)?;
                continue;
            }
            let at = ahead.here();
            if url.is_some() || ahead.peek()? != Next::String {
                return Err(Found::at(at, "\"@type\" is not one string"));
            }
            url = Some(ahead.string()?.into_owned());
        }
        Ok(url)
    }
}

fn mismatch(at: usize, kind: &Kind, next: Next) -> Box<Found> {
    Found::at(at, format!("expected {}, found {}", wanted(kind), next.name()))
}

/// What a value of this kind is in JSON, in a user's words.
pub(super) fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Double | Kind::Float => "a number".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::String => "a string".to_owned(),
        Kind::Bytes => "a string in base64".to_owned(),
        Kind::Enum(one) => format!("a name or number of {}", one.full_name()),
        Kind::Message(message) => format!("a {}", message.full_name()),
        _ => "a whole number".to_owned(),
    }
}

pub(super) fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Enum(_) => "an enum".to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    }
}

fn unknown_field(message: &MessageDescriptor, key: &str, at: usize) -> Box<Found> {
    let found = Found::at(at, format!("{} has no field \"{}\"", message.full_name(), shown(key)));
    // An edit distance costs the product of both lengths, so names that nobody mistypes are not measured.
    if key.len() > 64 {
        return found;
    }
    let names: Vec<String> = message.fields().take(200).map(|field| field.json_name().to_owned()).collect();
    match tutti_model::nearest::nearest(key, names.iter().map(String::as_str)) {
        Some(near) => found.hint(format!("did you mean \"{near}\"?")),
        None => found,
    }
}

pub(super) fn unknown_value(one: &EnumDescriptor, name: &str, at: usize) -> Box<Found> {
    let found = Found::at(at, format!("{} has no value \"{}\"", one.full_name(), shown(name)));
    let names: Vec<String> = one.values().take(6).map(|value| value.name().to_owned()).collect();
    let more = if one.values().len() > names.len() { " …" } else { "" };
    found.hint(format!("its values are {}{more}", names.join(", ")))
}

/// Whether `null` is a value of this kind, and not the absence of one.
fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => WellKnown::of(message.full_name()) == Some(WellKnown::Value),
        Kind::Enum(one) => one.full_name() == NULL_VALUE,
        _ => false,
    }
}

pub(super) fn key(number: u32, kind: &Kind, out: &mut Vec<u8>) {
    encode_key(number, kind.wire_type(), out);
}

pub(super) fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(bytes);
}

/// A whole field that is a string, bytes or a message.
pub(crate) fn delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    push_bytes(bytes, out);
}

pub(super) fn push_enum(number: i32, out: &mut Vec<u8>) {
    encode_varint(i64::from(number).cast_unsigned(), out);
}

pub(super) fn push_seconds(seconds: i64, nanos: i32, out: &mut Vec<u8>) {
    for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
        if value != 0 {
            encode_key(number, WireType::Varint, out);
            encode_varint(value.cast_unsigned(), out);
        }
    }
}

/// A field mask's paths, `fooBar.baz` being `foo_bar.baz`.
pub(super) fn push_mask(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    for path in text.split(',').filter(|_| !text.is_empty()) {
        let mut name = String::new();
        for letter in path.chars() {
            match letter {
                'A'..='Z' => name.extend(['_', letter.to_ascii_lowercase()]),
                'a'..='z' | '0'..='9' | '.' => name.push(letter),
                _ => return Err(format!("\"{}\" is not a field's name in lowerCamelCase", shown(path))),
            }
        }
        delimited(1, name.as_bytes(), out);
    }
    Ok(())
}
