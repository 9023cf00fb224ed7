//! Path templates: `/v1/{name=shelves/*/books/*}:publish`.

use super::{SEGMENTS, TEMPLATE_BYTES};
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    /// This text, decoded.
    Literal(String),
    /// Any one segment that is not empty.
    One,
    /// Any number of segments; only the last can be this.
    Rest,
}

/// A template without the names of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    /// What stands behind a colon at the end.
    verb: Option<String>,
}

/// A variable: the path of its field, and its segments.
pub(super) type Named = (String, Range<usize>);

impl Template {
    /// Reads a template; says what is wrong with one that is none.
    pub(super) fn parse(text: &str) -> Result<(Template, Vec<Named>), String> {
        if text.len() > TEMPLATE_BYTES {
            return Err(format!("the template is {} bytes long; the limit is {TEMPLATE_BYTES}", text.len()));
        }
        let rest = text.strip_prefix('/').ok_or("the template does not begin with /")?;
        let mut parsing =
            Parsing { rest, template: Template { segments: Vec::new(), verb: None }, named: Vec::new() };
        parsing.segments(false)?;
        if let Some(verb) = parsing.rest.strip_prefix(':') {
            parsing.rest = verb;
            parsing.template.verb = Some(parsing.literal()?);
        }
        if !parsing.rest.is_empty() {
            return Err(format!("\"{}\" is not understood in the template", parsing.rest.escape_debug()));
        }
        let Parsing { template, named, .. } = parsing;
        if template.segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest) {
            return Err("** stands before the end of the template".to_owned());
        }
        Ok((template, named))
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The segments of a path that this matches, as they were sent.
    pub(super) fn matches<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let mut path = path.strip_prefix('/')?;
        if let Some(verb) = &self.verb {
            let (rest, found) = path.rsplit_once(':')?;
            if found.contains('/') || decode(found, false)? != *verb {
                return None;
            }
            path = rest;
        }
        let found: Vec<&str> = path.split('/').take(SEGMENTS.saturating_mul(4)).collect();
        let mut left = found.iter();
        for segment in &self.segments {
            match segment {
                Segment::Rest => return Some(found),
                Segment::One => {
                    left.next().filter(|text| !text.is_empty())?;
                }
                Segment::Literal(literal) => {
                    left.next()
                        .filter(|text| *text == literal || decode(text, false).as_ref() == Some(literal))?;
                }
            }
        }
        left.next().is_none().then_some(found)
    }

    /// Which of two goes first where both match.
    pub(super) fn order(&self, other: &Template) -> Ordering {
        self.segments.cmp(&other.segments).then_with(|| other.verb.cmp(&self.verb))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::One => f.write_str("/*")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        match &self.verb {
            Some(verb) => write!(f, ":{verb}"),
            None => Ok(()),
        }
    }
}

struct Parsing<'a> {
    rest: &'a str,
    template: Template,
    named: Vec<Named>,
}

impl Parsing<'_> {
    fn segments(&mut self, inside: bool) -> Result<(), String> {
        loop {
            self.segment(inside)?;
            if self.template.segments.len() > SEGMENTS {
                return Err(format!("the template has more than {SEGMENTS} segments"));
            }
            let Some(rest) = self.rest.strip_prefix('/') else { return Ok(()) };
            self.rest = rest;
        }
    }

    fn segment(&mut self, inside: bool) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix('{') {
            if inside {
                return Err("a variable stands in a variable".to_owned());
            }
            self.rest = rest;
            return self.variable();
        }
        for (star, segment) in [("**", Segment::Rest), ("*", Segment::One)] {
            if let Some(rest) = self.rest.strip_prefix(star) {
                self.rest = rest;
                self.template.segments.push(segment);
                return Ok(());
            }
        }
        let literal = self.literal()?;
        self.template.segments.push(Segment::Literal(literal));
        Ok(())
    }

    fn variable(&mut self) -> Result<(), String> {
        let end = self.rest.find(['=', '}']).ok_or("a variable has no closing brace")?;
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err("a variable has no name".to_owned());
        }
        let start = self.template.segments.len();
        if let Some(rest) = rest.strip_prefix('=') {
            self.rest = rest;
            self.segments(true)?;
        } else {
            self.rest = rest;
            self.template.segments.push(Segment::One);
        }
        self.rest = self.rest.strip_prefix('}').ok_or("a variable has no closing brace")?;
        self.named.push((name.to_owned(), start..self.template.segments.len()));
        Ok(())
    }

    fn literal(&mut self) -> Result<String, String> {
        let end = self.rest.find(['/', ':', '{', '}', '*', '=']).unwrap_or(self.rest.len());
        let (literal, rest) = self.rest.split_at(end);
        self.rest = rest;
        if literal.is_empty() {
            return Err("a segment of the template is empty".to_owned());
        }
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'\\');
        if !literal.bytes().all(plain) {
            return Err(format!("\"{}\" is not part of a path", literal.escape_debug()));
        }
        decode(literal, false).ok_or_else(|| format!("\"{literal}\" is not well percent-encoded"))
    }
}

/// Decodes `%41`. Of several segments that are one value, an encoded slash stays encoded, so that it is told from theirs.
/// `None` for what is not well encoded, or not UTF-8.
pub(super) fn decode(text: &str, keep_slash: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (rest.next()?, rest.next()?);
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let decoded = digit(high)?.checked_mul(16)?.checked_add(digit(low)?)?;
        if keep_slash && decoded == b'/' {
            bytes.extend([b'%', high, low]);
        } else {
            bytes.push(decoded);
        }
    }
    String::from_utf8(bytes).ok()
}
