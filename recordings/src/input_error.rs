//! The one error that the readers of page and process recordings return: where, what was found, what was expected.

use std::fmt;
use std::path::{Path, PathBuf};

use proc_files::parse::ParseError;

/// Position inside a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The file as a whole: it could not be opened, or is of another kind.
    File,
    /// A line, counted from 1 after decompression.
    Line(u64),
    /// A byte, counted from 0 after decompression.
    Byte(u64),
}

/// Input that is not what its format promises.
///
/// Every caller reacts in the same way: it reports the error and stops, so there are no variants.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{place}: found {found}, expected {expected}", .file.display())]
pub struct InputError {
    /// File that holds the input.
    pub file: PathBuf,
    /// Where in the file.
    pub place: Place,
    /// What stands there, shortened and quoted.
    pub found: String,
    /// What the format asks for.
    pub expected: String,
}

impl InputError {
    /// Makes an error about `file` at `place`.
    pub fn new(file: &Path, place: Place, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place, found: found.into(), expected: expected.into() }
    }

    /// Makes an error about `file` of a parser's error.
    pub(crate) fn from_parse(file: &Path, error: ParseError) -> Self {
        let found = if error.found.is_empty() { "the end of the line".to_owned() } else { error.found };
        Self::new(file, Place::Line(error.line as u64), found, error.expected)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ", line {line}"),
            Self::Byte(byte) => write!(f, ", byte {byte}"),
        }
    }
}

/// Reads a file of text.
///
/// # Errors
/// A file that cannot be read, or the first byte that is no UTF-8.
pub fn read_text(path: &Path) -> Result<String, InputError> {
    let bytes = std::fs::read(path)
        .map_err(|error| InputError::new(path, Place::File, error.to_string(), "a readable text file"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = u64::try_from(error.utf8_error().valid_up_to()).unwrap_or(u64::MAX);
        InputError::new(path, Place::Byte(at), "bytes that are no UTF-8", "text")
    })
}

/// Quotes the start of `bytes` so that it can stand in a one-line message.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    let shown = bytes.get(..LONGEST).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}{more}\"", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_file_line_found_and_expected() {
        let error = InputError::new(Path::new("a.zst"), Place::Line(7), quoted(b"x\n"), "a number");
        assert_eq!(error.to_string(), "a.zst, line 7: found \"x\\n\", expected a number");
    }

    #[test]
    fn text_that_is_none_is_refused_where_it_stops_being_text() {
        let path = std::env::temp_dir().join(format!("mmkit-text-{}", std::process::id()));
        std::fs::write(&path, b"free 7\n\xff\xfe").unwrap();
        let error = read_text(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((error.place, error.expected.as_str()), (Place::Byte(7), "text"));
        assert_eq!(read_text(&path).unwrap_err().place, Place::File, "no such file");
    }

    #[test]
    fn long_input_is_cut_in_the_message() {
        assert_eq!(quoted(&[b'a'; 50]).len(), 40 + 3 + 2);
    }
}
