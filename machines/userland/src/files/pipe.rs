//! Pipes: bytes between two kinds of open files. Linux 6.12: fs/pipe.c.

use alloc::collections::VecDeque;

use crate::slots::Key;

pub(crate) type PipeKey = Key<Pipe>;

/// Bytes that a pipe holds (sixteen pages).
pub(crate) const CAPACITY: usize = 65536;
/// Writes of up to this many bytes happen whole or not at all (PIPE_BUF).
const ATOMIC: usize = 4096;

/// A pipe.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    pub(crate) nr_readers: u32,
    pub(crate) nr_writers: u32,
}

/// Why nothing was moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PipeError {
    /// It is empty, or too full.
    WouldBlock,
    /// The other end is closed for good.
    Broken,
    /// The kernel has no memory for the bytes.
    NoMemory,
}

impl Pipe {
    /// Takes up to `to.len()` bytes out; 0 at the end of everything.
    ///
    /// # Errors
    /// [`PipeError::WouldBlock`] while it is empty and has writers.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> Result<usize, PipeError> {
        if self.bytes.is_empty() && self.nr_writers > 0 && !to.is_empty() {
            return Err(PipeError::WouldBlock);
        }
        let count = to.len().min(self.bytes.len());
        for (place, byte) in to.iter_mut().zip(self.bytes.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    /// Puts bytes that were taken out back in front; the room of those that were just taken is still there.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        if self.bytes.try_reserve(bytes.len()).is_ok() {
            bytes.iter().rev().for_each(|&byte| self.bytes.push_front(byte));
        }
    }

    /// Puts bytes in: all of up to 4,096, as many as fit of more.
    ///
    /// # Errors
    /// [`PipeError`].
    pub(crate) fn write(&mut self, from: &[u8]) -> Result<usize, PipeError> {
        if self.nr_readers == 0 {
            return Err(PipeError::Broken);
        }
        let room = CAPACITY.saturating_sub(self.bytes.len());
        let count = from.len().min(room);
        if count == 0 && !from.is_empty() || count < from.len() && from.len() <= ATOMIC {
            return Err(PipeError::WouldBlock);
        }
        self.bytes.try_reserve(count).map_err(|_| PipeError::NoMemory)?;
        self.bytes.extend(from.iter().take(count));
        Ok(count)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the number of bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns true if a small write would not wait.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() + ATOMIC <= CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> Pipe {
        Pipe { nr_readers: 1, nr_writers: 1, ..Pipe::default() }
    }

    #[test]
    fn an_empty_pipe_blocks_until_its_last_writer_is_gone() {
        let mut pipe = pipe();
        let mut buffer = [0; 4];
        assert_eq!(pipe.read(&mut buffer), Err(PipeError::WouldBlock));
        assert_eq!(pipe.write(b"abcdef"), Ok(6));
        pipe.nr_writers = 0;
        assert_eq!((pipe.read(&mut buffer), buffer), (Ok(4), *b"abcd"));
        assert_eq!(pipe.read(&mut buffer), Ok(2));
        assert_eq!(pipe.read(&mut buffer), Ok(0));
    }

    #[test]
    fn small_writes_are_whole_and_large_ones_fill_it() {
        let mut pipe = pipe();
        assert_eq!(pipe.write(&[1; CAPACITY - 10]), Ok(CAPACITY - 10));
        assert_eq!(pipe.write(&[2; 11]), Err(PipeError::WouldBlock));
        assert_eq!(pipe.write(&[2; 5000]), Ok(10));
        assert_eq!(pipe.write(&[2; 5000]), Err(PipeError::WouldBlock));
    }

    #[test]
    fn writing_without_a_reader_breaks() {
        let mut pipe = pipe();
        pipe.nr_readers = 0;
        assert_eq!(pipe.write(b"x"), Err(PipeError::Broken));
    }
}
