//! The one error of the parsers: where the text stopped making sense, and what was expected there.

use std::fmt;
use std::string::String;

/// Text that does not have the expected form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// Byte in the line, counted from 1.
    pub column: usize,
    /// What should stand there.
    pub expected: &'static str,
    /// What stands there, cut to a few words; empty at the end of the line.
    pub found: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: expected {}, found ", self.line, self.column, self.expected)?;
        if self.found.is_empty() { f.write_str("the end of the line") } else { write!(f, "`{}`", self.found) }
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn the_message_has_place_expectation_and_finding() {
        let mut error = ParseError { line: 3, column: 9, expected: "a number", found: "x".to_string() };
        assert_eq!(error.to_string(), "line 3, column 9: expected a number, found `x`");
        error.found.clear();
        assert_eq!(error.to_string(), "line 3, column 9: expected a number, found the end of the line");
    }
}
