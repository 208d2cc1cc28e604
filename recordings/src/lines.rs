//! Lines of a zstd-compressed or plain text file, read through one fixed buffer.
//!
//! Used by the readers of traces and of frame scans. Memory is bounded by the buffer, whatever the file's size.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::input_error::{InputError, Place, quoted};

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BUFFER_BYTES: usize = 1 << 18;

/// How far the reading of a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes of the file, as stored, that were read.
    pub done: u64,
    /// Size of the file; 0 if it is not known.
    pub total: u64,
}

/// Reader of the lines of one file.
pub(crate) struct Lines {
    path: PathBuf,
    stored: Rc<Cell<u64>>,
    stored_total: u64,
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    unread: Range<usize>,
    line: u64,
    bytes: u64,
}

impl Lines {
    /// Opens `path`, which may be compressed by zstd or plain.
    pub(crate) fn open(path: &Path) -> Result<Self, InputError> {
        let unreadable = |error: io::Error| InputError::new(path, Place::File, error.to_string(), "a readable file");
        let mut file = File::open(path).map_err(unreadable)?;
        let mut magic = Vec::new();
        file.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic).map_err(unreadable)?;
        let compressed = magic == ZSTD_MAGIC;
        let stored_total = file.metadata().map_or(0, |metadata| metadata.len());
        let stored = Rc::new(Cell::new(0));
        let whole = io::Cursor::new(magic).chain(Counted { input: file, count: Rc::clone(&stored) });
        let input: Box<dyn Read> =
            if compressed { Box::new(zstd::Decoder::new(whole).map_err(unreadable)?) } else { Box::new(whole) };
        Ok(Self { stored, stored_total, ..Self::new(path, input) })
    }

    /// Reads lines from `input`; `path` is only for messages.
    pub(crate) fn new(path: &Path, input: Box<dyn Read>) -> Self {
        Self {
            path: path.to_owned(),
            stored: Rc::default(),
            stored_total: 0,
            input,
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
            line: 0,
            bytes: 0,
        }
    }

    /// Returns the next line without its newline, or `None` at the end.
    ///
    /// # Errors
    /// Damaged compression, a line longer than the buffer, or a last line without a newline (a truncated file).
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, InputError> {
        let mut searched = 0;
        loop {
            let unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
            if let Some(length) = unread.get(searched..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                let start = self.unread.start;
                let end = start + searched + length;
                self.unread.start = end + 1;
                self.line += 1;
                return Ok(self.buffer.get(start..end));
            }
            searched = unread.len();
            if self.fill()? == 0 {
                return if searched == 0 { Ok(None) } else { Err(self.truncated()) };
            }
        }
    }

    /// Returns the first byte of the next line, or `None` at the end.
    pub(crate) fn peek(&mut self) -> Result<Option<u8>, InputError> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(self.buffer.get(self.unread.clone()).and_then(|unread| unread.first().copied()))
    }

    /// Returns an error about the line that was read last.
    #[cold]
    pub(crate) fn error(&self, found: impl Into<String>, expected: impl Into<String>) -> InputError {
        InputError::new(&self.path, Place::Line(self.line), found, expected)
    }

    /// Returns the line that was read last, counted from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Returns how far the reading is.
    pub(crate) fn progress(&self) -> Progress {
        Progress { done: self.stored.get(), total: self.stored_total }
    }

    fn fill(&mut self) -> Result<usize, InputError> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let Some(room @ [_, ..]) = self.buffer.get_mut(self.unread.end..) else {
            let place = Place::Line(self.line + 1);
            return Err(InputError::new(&self.path, place, "a line without end", "lines of at most 256 KiB"));
        };
        loop {
            match self.input.read(room) {
                Ok(count) => {
                    self.unread.end += count;
                    self.bytes += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let place = Place::Byte(self.bytes);
                    return Err(InputError::new(&self.path, place, error.to_string(), "intact zstd data"));
                }
            }
        }
    }

    #[cold]
    fn truncated(&self) -> InputError {
        let rest = self.buffer.get(self.unread.clone()).unwrap_or_default();
        InputError::new(&self.path, Place::Line(self.line + 1), quoted(rest), "a line that ends in a newline")
    }
}

/// Counts the bytes that pass through.
struct Counted<R> {
    input: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: Vec<u8>) -> Lines {
        Lines::new(Path::new("test"), Box::new(io::Cursor::new(bytes)))
    }

    #[test]
    fn lines_come_out_whole_across_refills_of_the_buffer() {
        let text: String = (0..60_000).map(|number| format!("line {number}\n")).collect();
        let mut lines = lines(text.into_bytes());
        for number in 0..60_000 {
            assert_eq!(lines.next_line().unwrap().unwrap(), format!("line {number}").as_bytes());
        }
        assert_eq!(lines.next_line(), Ok(None));
    }

    #[test]
    fn a_last_line_without_newline_is_an_error_with_its_number() {
        let mut lines = lines(b"one\ntw".to_vec());
        assert!(lines.next_line().is_ok());
        let error = lines.next_line().unwrap_err();
        assert_eq!((error.place, error.found.as_str()), (Place::Line(2), "\"tw\""));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let error = lines(vec![b'a'; BUFFER_BYTES + 1]).next_line().unwrap_err();
        assert_eq!(error.place, Place::Line(1));
    }

    #[test]
    fn truncated_zstd_is_an_error() {
        let packed = zstd::encode_all(&b"hello\n".repeat(100)[..], 1).unwrap();
        let directory = std::env::temp_dir().join(format!("mmkit-lines-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("cut.zst");
        std::fs::write(&path, &packed[..packed.len() - 3]).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let error = loop {
            match lines.next_line() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end of a truncated file was taken for its end"),
                Err(error) => break error,
            }
        };
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(error.expected, "intact zstd data");
    }
}
