//! Pipes: bytes between two kinds of open files, or one way of a pair of sockets. Linux 6.12: fs/pipe.c, net/unix/af_unix.c.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::slots::Key;

pub(crate) type PipeKey = Key<Pipe>;

/// Bytes that a pipe holds (sixteen pages).
pub(crate) const CAPACITY: usize = 65536;
/// Writes of up to this many bytes happen whole or not at all (PIPE_BUF).
const ATOMIC: usize = 4096;

/// Messages that one way of a pair of sockets holds at most, each with its share of a socket's memory as Linux counts it.
const MAX_MESSAGES: usize = 256;

/// Where a page that a pipe was given is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageSlot(pub(crate) u32);

/// Bytes of a page of a program's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PagePart {
    page: PageSlot,
    offset: usize,
    bytes: usize,
    /// Bytes of the pipe's own that went in before it.
    behind: u64,
}

/// A pipe.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    /// What it was given instead of bytes (vmsplice).
    pages: VecDeque<PagePart>,
    /// Bytes of its own that ever came out.
    taken: u64,
    /// Lengths of the messages that it holds; `None` where bytes have no borders.
    messages: Option<VecDeque<u32>>,
    /// Nothing more goes in, whoever has its ends (shutdown).
    is_shut: bool,
    /// Its writer is gone and has not read all that was sent the other way: a pair of sockets tells that once.
    was_reset: bool,
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
    /// The other end was closed with bytes unread.
    Reset,
}

impl Pipe {
    /// Makes a pipe whose messages come out as they went in, one a read.
    pub(crate) fn of_messages() -> Self {
        Self { messages: Some(VecDeque::new()), ..Self::default() }
    }

    /// Takes up to `to.len()` bytes out, of one message if it has such, whose rest is lost; 0 at the end of everything.
    ///
    /// # Errors
    /// [`PipeError::WouldBlock`] while it is empty and has writers, [`PipeError::Reset`].
    pub(crate) fn read(
        &mut self,
        to: &mut [u8],
        mut read_page: impl FnMut(PageSlot, usize, &mut [u8]),
        emptied: &mut Vec<PageSlot>,
    ) -> Result<usize, PipeError> {
        if to.is_empty() {
            return Ok(0);
        }
        if self.is_empty() {
            if core::mem::take(&mut self.was_reset) {
                return Err(PipeError::Reset);
            }
            return if self.has_ended() { Ok(0) } else { Err(PipeError::WouldBlock) };
        }
        if let Some(length) = self.messages.as_mut().and_then(VecDeque::pop_front) {
            self.take_bytes(length as usize, to);
            return Ok(to.len().min(length as usize));
        }
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let own = self.pages.front().map_or(self.bytes.len(), |page| page.behind.wrapping_sub(self.taken) as usize);
            let count = match self.pages.front_mut() {
                Some(part) if own == 0 => {
                    let count = rest.len().min(part.bytes);
                    read_page(part.page, part.offset, rest.get_mut(..count).unwrap_or_default());
                    (part.offset, part.bytes) = (part.offset + count, part.bytes - count);
                    if part.bytes == 0 {
                        emptied.push(part.page);
                        self.pages.pop_front();
                    }
                    count
                }
                _ => self.take_bytes(own.min(rest.len()), rest),
            };
            if count == 0 {
                break;
            }
            done += count;
        }
        Ok(done)
    }

    /// Takes bytes of its own out; those that `to` does not hold are lost.
    fn take_bytes(&mut self, count: usize, to: &mut [u8]) -> usize {
        for (place, byte) in to.iter_mut().zip(self.bytes.drain(..count)) {
            *place = byte;
        }
        self.taken = self.taken.wrapping_add(count as u64);
        count
    }

    /// Puts bytes that were taken out back in front; the room of those that were just taken is still there.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        if self.bytes.try_reserve(bytes.len()).is_ok() {
            bytes.iter().rev().for_each(|&byte| self.bytes.push_front(byte));
            self.taken = self.taken.wrapping_sub(bytes.len() as u64);
        }
    }

    /// Puts a page in, of which `bytes` bytes from `offset` on are read later.
    ///
    /// # Errors
    /// [`PipeError`].
    pub(crate) fn add_page(&mut self, page: PageSlot, offset: usize, bytes: usize) -> Result<(), PipeError> {
        if self.is_broken() {
            return Err(PipeError::Broken);
        }
        if !self.has_room() {
            return Err(PipeError::WouldBlock);
        }
        self.pages.try_reserve(1).map_err(|_| PipeError::NoMemory)?;
        let behind = self.taken.wrapping_add(self.bytes.len() as u64);
        self.pages.push_back(PagePart { page, offset, bytes, behind });
        Ok(())
    }

    /// Iterates over the pages in it.
    pub(crate) fn pages(&self) -> impl Iterator<Item = PageSlot> + '_ {
        self.pages.iter().map(|part| part.page)
    }

    /// Returns how much of its capacity is used: a page counts whole.
    fn used(&self) -> usize {
        self.bytes.len() + self.pages.len() * ATOMIC
    }

    /// Puts bytes in: all of a message or of up to 4,096, as many as fit of more.
    ///
    /// # Errors
    /// [`PipeError`].
    pub(crate) fn write(&mut self, from: &[u8]) -> Result<usize, PipeError> {
        if self.is_broken() {
            return Err(PipeError::Broken);
        }
        let room = CAPACITY.saturating_sub(self.used());
        let count = from.len().min(room);
        let is_whole = self.messages.is_some() || from.len() <= ATOMIC;
        if self.is_full_of_messages() || count == 0 && !from.is_empty() || count < from.len() && is_whole {
            return Err(PipeError::WouldBlock);
        }
        self.bytes.try_reserve(count).map_err(|_| PipeError::NoMemory)?;
        if let Some(messages) = &mut self.messages {
            messages.try_reserve(1).map_err(|_| PipeError::NoMemory)?;
            messages.push_back(count as u32);
        }
        self.bytes.extend(from.iter().take(count));
        Ok(count)
    }

    /// Lets nothing more in: who reads finds the end behind what is there, who writes is told.
    pub(crate) const fn shut(&mut self) {
        self.is_shut = true;
    }

    /// Tells whoever reads, once, that what was sent the other way was not read.
    pub(crate) const fn reset(&mut self) {
        self.was_reset = true;
    }

    pub(crate) const fn was_reset(&self) -> bool {
        self.was_reset
    }

    pub(crate) const fn has_messages(&self) -> bool {
        self.messages.is_some()
    }

    /// Returns true if nothing more comes in.
    pub(crate) const fn has_ended(&self) -> bool {
        self.nr_writers == 0 || self.is_shut
    }

    /// Returns true if nothing more goes in.
    pub(crate) const fn is_broken(&self) -> bool {
        self.nr_readers == 0 || self.is_shut
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.as_ref().map_or(self.bytes.is_empty() && self.pages.is_empty(), VecDeque::is_empty)
    }

    /// Returns the number of bytes in it, or in its first message.
    pub(crate) fn len(&self) -> usize {
        let pages = self.pages.iter().map(|part| part.bytes).sum::<usize>();
        let Some(messages) = &self.messages else { return self.bytes.len() + pages };
        messages.front().map_or(0, |&length| length as usize)
    }

    fn is_full_of_messages(&self) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.len() >= MAX_MESSAGES)
    }

    /// Returns true if a small write would not wait.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_full_of_messages() && self.used() + ATOMIC <= CAPACITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> Pipe {
        Pipe { nr_readers: 1, nr_writers: 1, ..Pipe::default() }
    }

    fn read(pipe: &mut Pipe, to: &mut [u8]) -> Result<usize, PipeError> {
        let mut emptied = Vec::new();
        let read = pipe.read(to, |page, offset, to| to.fill(page.0 as u8 + offset as u8), &mut emptied);
        assert!(emptied.iter().all(|page| pipe.pages().all(|other| other != *page)));
        read
    }

    #[test]
    fn pages_come_out_between_the_bytes_that_went_in_around_them() {
        let mut pipe = pipe();
        let mut buffer = [0; 4];
        pipe.write(b"abc").unwrap();
        pipe.add_page(PageSlot(100), 0, 3).unwrap();
        pipe.add_page(PageSlot(110), 5, 1).unwrap();
        pipe.write(b"de").unwrap();
        assert_eq!((pipe.len(), read(&mut pipe, &mut buffer), buffer), (9, Ok(4), *b"abcd"));
        pipe.put_back(b"d");
        assert_eq!((read(&mut pipe, &mut buffer), buffer), (Ok(4), [b'd', 101, 101, 115]));
        assert_eq!((read(&mut pipe, &mut buffer), buffer[..2].to_vec()), (Ok(2), b"de".to_vec()));
        assert_eq!((pipe.is_empty(), read(&mut pipe, &mut buffer)), (true, Err(PipeError::WouldBlock)));
        for page in 0..16 {
            pipe.add_page(PageSlot(page), 0, 1).unwrap();
        }
        assert_eq!(
            (pipe.add_page(PageSlot(16), 0, 1), pipe.write(b"x")),
            (Err(PipeError::WouldBlock), Err(PipeError::WouldBlock))
        );
        assert_eq!(pipe.pages().count(), 16);
    }

    #[test]
    fn an_empty_pipe_blocks_until_its_last_writer_is_gone() {
        let mut pipe = pipe();
        let mut buffer = [0; 4];
        assert_eq!(read(&mut pipe, &mut buffer), Err(PipeError::WouldBlock));
        assert_eq!(pipe.write(b"abcdef"), Ok(6));
        pipe.nr_writers = 0;
        assert_eq!((read(&mut pipe, &mut buffer), buffer), (Ok(4), *b"abcd"));
        assert_eq!(read(&mut pipe, &mut buffer), Ok(2));
        assert_eq!(read(&mut pipe, &mut buffer), Ok(0));
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
    fn messages_keep_their_borders_and_lose_what_is_not_read() {
        let mut pipe = Pipe { nr_readers: 1, nr_writers: 1, ..Pipe::of_messages() };
        let mut buffer = [0; 4];
        for message in [&b"abcdef"[..], b"", b"gh"] {
            assert_eq!(pipe.write(message), Ok(message.len()));
        }
        assert_eq!((pipe.len(), read(&mut pipe, &mut buffer), buffer), (6, Ok(4), *b"abcd"));
        assert_eq!((pipe.is_empty(), read(&mut pipe, &mut buffer)), (false, Ok(0)), "an empty message is one");
        assert_eq!((read(&mut pipe, &mut buffer), &buffer[..2]), (Ok(2), &b"gh"[..]));
        assert_eq!(read(&mut pipe, &mut buffer), Err(PipeError::WouldBlock));
        for _ in 0..MAX_MESSAGES {
            assert_eq!(pipe.write(b""), Ok(0));
        }
        assert_eq!((pipe.has_room(), pipe.write(b"")), (false, Err(PipeError::WouldBlock)));
    }

    #[test]
    fn what_is_shut_gives_what_it_holds_and_takes_nothing() {
        let mut pipe = pipe();
        assert_eq!(pipe.write(b"rest"), Ok(4));
        pipe.shut();
        let mut buffer = [0; 8];
        assert_eq!((pipe.write(b"x"), read(&mut pipe, &mut buffer)), (Err(PipeError::Broken), Ok(4)));
        pipe.reset();
        assert_eq!((read(&mut pipe, &mut buffer), read(&mut pipe, &mut buffer)), (Err(PipeError::Reset), Ok(0)));
    }

    #[test]
    fn writing_without_a_reader_breaks() {
        let mut pipe = pipe();
        pipe.nr_readers = 0;
        assert_eq!(pipe.write(b"x"), Err(PipeError::Broken));
    }
}
