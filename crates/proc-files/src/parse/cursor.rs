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

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn blanks_before_a_word_are_passed_over() {
        let mut cursor = Cursor::new(1, "  Node\t7 , zone  DMA32 ");
        assert_eq!(cursor.node_and_zone().unwrap(), (NodeId::try_new(7).unwrap(), ZoneType::Dma32));
        assert!(cursor.at_end() && cursor.end().is_ok());
        assert_eq!(cursor.rest(), " ");
    }

    #[test]
    fn an_error_points_at_the_word_that_is_wrong() {
        let mut cursor = Cursor::new(12, "count:   x7");
        cursor.literal("count:").unwrap();
        let error = cursor.number("a number").unwrap_err();
        assert_eq!(error.to_string(), "line 12, column 10: expected a number, found `x7`");
    }

    #[test]
    fn an_error_repeats_no_more_than_a_few_words() {
        let line = "y".repeat(500);
        let error = Cursor::new(1, &line).number("a number").unwrap_err();
        assert_eq!(error.found.len(), FOUND_LIMIT);
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_where_it_starts() {
        let mut cursor = Cursor::new(1, "a 18446744073709551616");
        cursor.literal("a").unwrap();
        assert_eq!(cursor.number("a number").unwrap_err().column, 3);
        let mut cursor = Cursor::new(1, "18446744073709551615");
        assert_eq!(cursor.number("a number"), Ok(u64::MAX));
        assert_eq!(Cursor::new(1, "1ffffffffffffffff").hex("an address").unwrap_err().column, 1);
    }

    #[test]
    fn nodes_and_zones_that_a_machine_cannot_have_are_refused() {
        assert!(Cursor::new(1, "64").node().unwrap_err().expected.contains("below 64"));
        assert!(Cursor::new(1, "Norma").zone().unwrap_err().expected.starts_with("a zone name"));
    }

    #[test]
    fn a_literal_that_is_absent_leaves_the_position() {
        let mut cursor = Cursor::new(1, " cpu: 3");
        assert!(!cursor.try_literal("count:"));
        assert!(cursor.try_literal("cpu:"));
        assert_eq!(cursor.last_number("a number"), Ok(3));
    }

    #[test]
    fn bytes_inside_a_character_cannot_be_skipped_to() {
        let mut cursor = Cursor::new(1, "é7");
        assert!(!cursor.skip(1));
        assert!(cursor.skip(2) && !cursor.skip(9));
        assert_eq!(cursor.number("a number"), Ok(7));
    }
}
