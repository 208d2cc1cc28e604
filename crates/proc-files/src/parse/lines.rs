//! A file as a list of lines that were understood, printed back byte for byte.
//!
//! Every parsed file is one of these. An item prints its line in the kernel's form; where the input was in another form
//! (other spacing, a line that no field is known for), the input is kept beside the item and wins.

use std::boxed::Box;
use std::fmt;
use std::string::ToString;
use std::vec::Vec;

use super::Cursor;

/// Parsed lines in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lines<T> {
    entries: Vec<Entry<T>>,
    ends_in_newline: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry<T> {
    item: Option<T>,
    /// Text of the line, if the item is absent or prints something else.
    verbatim: Option<Box<str>>,
}

impl<T: fmt::Display> Lines<T> {
    /// Reads every line with `read`, which returns `None` for a line that is to be kept as it is.
    pub(crate) fn parse<E>(
        text: &str,
        mut read: impl FnMut(&mut Cursor<'_>) -> Result<Option<T>, E>,
    ) -> Result<Self, E> {
        let body = text.strip_suffix('\n');
        let ends_in_newline = body.is_some();
        let body = body.unwrap_or(text);
        let mut entries = Vec::new();
        if text.is_empty() {
            return Ok(Self { entries, ends_in_newline });
        }
        for (index, line) in body.split('\n').enumerate() {
            let item = read(&mut Cursor::new(index + 1, line))?;
            let same = item.as_ref().is_some_and(|item| item.to_string() == line);
            entries.push(Entry { item, verbatim: (!same).then(|| line.into()) });
        }
        Ok(Self { entries, ends_in_newline })
    }

    /// Iterates over the lines that were understood.
    pub(crate) fn items(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.item.as_ref())
    }

    /// Iterates over all lines with their numbers, counted from 1; `None` for a line that was not understood.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, Option<&T>)> {
        (1..).zip(self.entries.iter().map(|entry| entry.item.as_ref()))
    }

    /// Returns the number of lines that are kept as text because they are not in the kernel's form.
    pub(crate) fn nr_verbatim(&self) -> usize {
        self.entries.iter().filter(|entry| entry.verbatim.is_some()).count()
    }
}

impl<T: fmt::Display> fmt::Display for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match (&entry.verbatim, &entry.item) {
                (Some(text), _) => f.write_str(text)?,
                (None, Some(item)) => item.fmt(f)?,
                (None, None) => {}
            }
        }
        f.write_str(if self.ends_in_newline { "\n" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use super::*;
    use crate::parse::ParseError;

    /// Numbers, one a line, `-` for a line that is kept.
    fn numbers(text: &str) -> Result<Lines<u64>, ParseError> {
        Lines::parse(
            text,
            |cursor| if cursor.try_literal("-") { Ok(None) } else { cursor.number("a number").map(Some) },
        )
    }

    #[test]
    fn every_text_prints_back() {
        for text in ["", "1", "1\n", "1\n\u{2d}2\n3", " 1 \n007\r\n", "1\n-\n-"] {
            assert_eq!(numbers(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_lines_in_another_form_are_kept_as_text() {
        let lines = numbers("1\n 2\n-x\n3\n").unwrap();
        assert_eq!(lines.nr_verbatim(), 2);
        assert_eq!(lines.items().copied().collect::<Vec<_>>(), [1, 2, 3]);
        let numbered: Vec<_> = lines.numbered().map(|(number, item)| (number, item.copied())).collect();
        assert_eq!(numbered, [(1, Some(1)), (2, Some(2)), (3, None), (4, Some(3))]);
    }

    #[test]
    fn the_first_bad_line_is_the_error() {
        assert_eq!(numbers("1\nx\ny").unwrap_err().line, 2);
        // A newline ends a line; behind the last one there is none.
        assert_eq!(numbers("1\n\n").unwrap_err().line, 2);
        assert_eq!(
            numbers("\n").unwrap_err(),
            ParseError { line: 1, column: 1, expected: "a number", found: String::new() }
        );
    }
}
