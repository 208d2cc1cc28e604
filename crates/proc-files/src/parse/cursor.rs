//! Reading position in one line of text.
//!
//! Every parser reads through this; it is the only place that slices input, and it never panics on any input.

use std::string::String;

use units::{NodeId, ZoneType};

use super::ParseError;

/// Longest piece of input that an error repeats, in characters.
const FOUND_LIMIT: usize = 40;

/// A line and how much of it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    line_number: usize,
    line: &'a str,
    read: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(line_number: usize, line: &'a str) -> Self {
        Self { line_number, line, read: 0 }
    }

    /// Returns what was not read yet.
    pub(crate) fn rest(&self) -> &'a str {
        self.line.get(self.read..).unwrap_or("")
    }

    fn advance(&mut self, rest: &'a str) {
        self.read = self.line.len() - rest.len();
    }

    /// Passes over `bytes` bytes; false if that is not the start of a character.
    pub(crate) fn skip(&mut self, bytes: usize) -> bool {
        let rest = self.rest().get(bytes..);
        rest.is_some_and(|rest| {
            self.advance(rest);
            true
        })
    }

    /// Returns true if only blanks are left.
    pub(crate) fn at_end(&self) -> bool {
        self.rest().trim_start().is_empty()
    }

    /// Makes an error at the next character that is not a blank.
    pub(crate) fn error(&self, expected: &'static str) -> ParseError {
        let rest = self.rest().trim_start();
        let found: String = rest.trim_end().chars().take(FOUND_LIMIT).collect();
        ParseError { line: self.line_number, column: self.line.len() - rest.len() + 1, expected, found }
    }

    /// Takes `literal` if it stands behind optional blanks.
    pub(crate) fn try_literal(&mut self, literal: &str) -> bool {
        match self.rest().trim_start().strip_prefix(literal) {
            Some(rest) => {
                self.advance(rest);
                true
            }
            None => false,
        }
    }

    /// Takes `literal` behind optional blanks.
    pub(crate) fn literal(&mut self, literal: &'static str) -> Result<(), ParseError> {
        if self.try_literal(literal) { Ok(()) } else { Err(self.error(literal)) }
    }

    /// Takes the longest run of characters that `accept`, behind optional blanks; `None` if there is none.
    pub(crate) fn run(&mut self, accept: impl Fn(char) -> bool) -> Option<&'a str> {
        let rest = self.rest().trim_start();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at_checked(end).filter(|(run, _)| !run.is_empty())?;
        self.advance(after);
        Some(run)
    }

    /// Takes the next word, up to a blank.
    pub(crate) fn word(&mut self, expected: &'static str) -> Result<&'a str, ParseError> {
        let here = *self;
        self.run(|c| !c.is_whitespace()).ok_or_else(|| here.error(expected))
    }

    /// Takes a decimal number.
    pub(crate) fn number(&mut self, expected: &'static str) -> Result<u64, ParseError> {
        let here = *self;
        let digits = self.run(|c| c.is_ascii_digit()).ok_or_else(|| here.error(expected))?;
        digits.parse().map_err(|_| here.error(expected))
    }

    /// Takes a decimal number that ends the line.
    pub(crate) fn last_number(&mut self, expected: &'static str) -> Result<u64, ParseError> {
        let value = self.number(expected)?;
        self.end().map(|()| value)
    }

    /// Takes the digits of a hexadecimal number without prefix.
    pub(crate) fn hex(&mut self, expected: &'static str) -> Result<u64, ParseError> {
        let here = *self;
        let digits = self.run(|c| c.is_ascii_hexdigit()).ok_or_else(|| here.error(expected))?;
        u64::from_str_radix(digits, 16).map_err(|_| here.error(expected))
    }

    /// Takes `Node N, zone NAME`.
    pub(crate) fn node_and_zone(&mut self) -> Result<(NodeId, ZoneType), ParseError> {
        self.literal("Node")?;
        let node = self.node()?;
        self.literal(",")?;
        self.literal("zone")?;
        Ok((node, self.zone()?))
    }

    /// Takes the number of a node.
    pub(crate) fn node(&mut self) -> Result<NodeId, ParseError> {
        let here = *self;
        NodeId::try_new(self.number("a node number")?).ok_or_else(|| here.error("a node number below 64"))
    }

    /// Takes the name of a zone.
    pub(crate) fn zone(&mut self) -> Result<ZoneType, ParseError> {
        const EXPECTED: &str = "a zone name (DMA, DMA32, Normal, HighMem, Movable or Device)";
        let here = *self;
        let name = self.run(|c| c.is_ascii_alphanumeric()).ok_or_else(|| here.error(EXPECTED))?;
        ZoneType::from_name(name).ok_or_else(|| here.error(EXPECTED))
    }

    /// Refuses anything but blanks.
    pub(crate) fn end(&self) -> Result<(), ParseError> {
        if self.at_end() { Ok(()) } else { Err(self.error("the end of the line")) }
    }
}
