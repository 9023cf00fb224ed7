//! JSON text as tokens, with the place of each. Strict as RFC 8259 has it.

use std::borrow::Cow;

/// A fault before its line and column are known. Boxed: it is on every reader's way back.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: usize,
    /// From the inside out.
    pub(super) path: Vec<Step>,
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

/// One step to a field.
#[derive(Debug)]
pub(super) enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

pub(super) type Read<T> = Result<T, Box<Found>>;

impl Found {
    pub(super) fn at(at: usize, what: impl Into<String>) -> Box<Found> {
        Box::new(Found { at, path: Vec::new(), what: what.into(), hint: None })
    }

    pub(super) fn hint(mut self: Box<Found>, hint: impl Into<String>) -> Box<Found> {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn inside(mut self: Box<Found>, step: Step) -> Box<Found> {
        self.path.push(step);
        self
    }
}

/// What stands next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Object,
    List,
    String,
    Number,
    Bool,
    Null,
}

impl Next {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Next::Object => "an object",
            Next::List => "a list",
            Next::String => "a string",
            Next::Number => "a number",
            Next::Bool => "true or false",
            Next::Null => "null",
        }
    }
}

/// Where reading stands. A copy looks ahead.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    /// Where the next token begins.
    pub(super) fn here(&mut self) -> usize {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.at
    }

    pub(super) fn peek(&mut self) -> Read<Next> {
        let at = self.here();
        Ok(match self.byte() {
            Some(b'{') => Next::Object,
            Some(b'[') => Next::List,
            Some(b'"') => Next::String,
            Some(b'-' | b'0'..=b'9') => Next::Number,
            Some(b't' | b'f') => Next::Bool,
            Some(b'n') => Next::Null,
            Some(_) => return Err(Found::at(at, format!("expected a value, found {}", self.shown()))),
            None => return Err(Found::at(at, "the text ends where a value should stand")),
        })
    }

    /// Takes this byte if it stands next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.here();
        let found = self.byte() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Whether an object or list that ends with `close` has another member; takes the comma before it, or the end.
    pub(super) fn another(&mut self, first: &mut bool, close: u8) -> Read<bool> {
        if self.take(close) {
            return Ok(false);
        }
        if !std::mem::replace(first, false) {
            if !self.take(b',') {
                let what = format!("expected , or {}, found {}", char::from(close), self.shown());
                return Err(Found::at(self.at, what));
            }
            let at = self.here();
            if self.byte() == Some(close) {
                return Err(Found::at(at, "a comma stands before the end"));
            }
        }
        Ok(true)
    }

    /// A name and its colon.
    pub(super) fn key(&mut self) -> Read<Cow<'a, str>> {
        let at = self.here();
        if self.byte() != Some(b'"') {
            return Err(Found::at(at, format!("expected a name in quotes, found {}", self.shown())));
        }
        let key = self.string()?;
        if !self.take(b':') {
            return Err(Found::at(self.at, format!("expected a colon, found {}", self.shown())));
        }
        Ok(key)
    }

    /// `true`, `false` or `null`.
    pub(super) fn word(&mut self) -> Read<&'static str> {
        let at = self.here();
        for word in ["true", "false", "null"] {
            if let Some(rest) = self.text.get(at..).and_then(|rest| rest.strip_prefix(word)) {
                if rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
                    break;
                }
                self.at += word.len();
                return Ok(word);
            }
        }
        Err(Found::at(at, "expected true, false or null"))
    }

    pub(super) fn number(&mut self) -> Read<&'a str> {
        let start = self.here();
        let length = super::number::grammar(self.text.get(start..).unwrap_or_default());
        let rest = self.text.as_bytes().get(start.saturating_add(length));
        if length == 0
            || rest.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'))
        {
            return Err(Found::at(start, "not a number as JSON writes them"));
        }
        self.at = start.saturating_add(length);
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    pub(super) fn string(&mut self) -> Read<Cow<'a, str>> {
        let open = self.here();
        self.at += 1;
        let start = self.at;
        let plain = self.plain();
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_owned();
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => {
                    return Err(
                        Found::at(self.at, "a control character in a string").hint("write it as \\u00XX")
                    );
                }
                None => return Err(Found::at(open.min(start), "the string does not end")),
            }
            text.push_str(self.plain());
        }
    }

    /// What of a string can be taken as it is.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let length =
            rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
        self.at = start.saturating_add(length);
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn escape(&mut self) -> Read<char> {
        let at = self.at;
        let letter = self.text.as_bytes().get(at.saturating_add(1)).copied();
        self.at += 2;
        Ok(match letter {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(at),
            _ => return Err(Found::at(at, "an escape that JSON does not have")),
        })
    }

    fn unicode(&mut self, at: usize) -> Read<char> {
        let bad = || Found::at(at, "\\u is not followed by a character's four hexadecimal digits");
        let first = self.hex().ok_or_else(bad)?;
        let code = if (0xd800..0xdc00).contains(&first) {
            let second = self.text.get(self.at..).and_then(|rest| rest.strip_prefix("\\u"));
            second.ok_or_else(bad)?;
            self.at += 2;
            let low = self.hex().filter(|low| (0xdc00..0xe000).contains(low)).ok_or_else(bad)?;
            0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(bad)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at.checked_add(4)?)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    /// Passes over a value of any kind.
    pub(super) fn skip(&mut self, depth: u32) -> Read<()> {
        let at = self.here();
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Found::at(at, format!("nested deeper than {}", super::DEPTH)));
        };
        match self.peek()? {
            Next::Object => {
                self.at += 1;
                let mut first = true;
                while self.another(&mut first, b'}')? {
                    self.key()?;
                    self.skip(depth)?;
                }
            }
            Next::List => {
                self.at += 1;
                let mut first = true;
                while self.another(&mut first, b']')? {
                    self.skip(depth)?;
                }
            }
            Next::String => drop(self.string()?),
            Next::Number => drop(self.number()?),
            Next::Bool | Next::Null => drop(self.word()?),
        }
        Ok(())
    }

    /// Fails if anything but space is left.
    pub(super) fn end(&mut self) -> Read<()> {
        let at = self.here();
        match self.byte() {
            None => Ok(()),
            Some(_) => Err(Found::at(at, format!("expected the end, found {}", self.shown()))),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn shown(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(letter) => format!("\"{}\"", letter.escape_debug()),
            None => "the end".to_owned(),
        }
    }
}

/// Line and column, from 1, of a place in a text.
pub(super) fn place(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count();
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    (number(line), number(column))
}
