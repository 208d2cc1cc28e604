//! Reading and writing a program's memory in a system call. Every address comes from the program: a bad one is EFAULT.

use alloc::vec::Vec;

use units::VirtAddr;

use crate::calls::Context;
use crate::errno::Errno;
use crate::files::OpenFlags;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::slots::{extend, push};

/// Bytes that are moved at once between a program and the kernel.
pub(crate) const CHUNK: usize = 4096;
/// Most bytes that one read or write moves (MAX_RW_COUNT).
pub(crate) const MAX_TRANSFER: u64 = 0x7fff_f000;
/// Most parts of a vectored call (UIO_MAXIOV).
const MAX_PARTS: u64 = 1024;

/// End of the addresses that programs have (TASK_SIZE_MAX).
pub(crate) const PROGRAM_END: u64 = (1 << 47) - 4096;

/// A part of a program's memory that it passed to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UserBuffer {
    pub(crate) addr: u64,
    pub(crate) bytes: u64,
}

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Reads bytes.
    pub(crate) fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), Errno> {
        Ok(self.userland.memory().read_user(self.cpu, self.thread.memory(), VirtAddr::new(addr), to)?)
    }

    /// Writes bytes.
    pub(crate) fn write(&self, addr: u64, from: &[u8]) -> Result<(), Errno> {
        Ok(self.userland.memory().write_user(self.cpu, self.thread.memory(), VirtAddr::new(addr), from)?)
    }

    pub(crate) fn read_u32(&self, addr: u64) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn write_u32(&self, addr: u64, value: u32) -> Result<(), Errno> {
        self.write(addr, &value.to_le_bytes())
    }

    /// Reads words of 64 bits.
    pub(crate) fn read_words<const N: usize>(&self, addr: u64) -> Result<[u64; N], Errno> {
        let mut words = [0; N];
        for (index, word) in (0..).zip(&mut words) {
            let mut bytes = [0; 8];
            self.read(addr.wrapping_add(8 * index), &mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    /// Writes words of 64 bits.
    pub(crate) fn write_words(&self, addr: u64, words: &[u64]) -> Result<(), Errno> {
        let mut chunk = [0; 256];
        for (index, words) in (0..).zip(words.chunks(chunk.len() / 8)) {
            for (place, word) in chunk.chunks_exact_mut(8).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            let bytes = chunk.get(..8 * words.len()).unwrap_or_default();
            self.write(addr.wrapping_add(index * chunk.len() as u64), bytes)?;
        }
        Ok(())
    }

    /// Reads a string that ends with a zero, of less than `limit` bytes.
    ///
    /// # Errors
    /// EFAULT, `too_long` if there is no zero before the limit, ENOMEM.
    pub(crate) fn read_string(&self, addr: u64, limit: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut at = addr;
        while string.len() < limit {
            // Up to the end of a page, as the next may not be there.
            let mut chunk = [0; 128];
            let in_page = (CHUNK as u64 - at % CHUNK as u64).min(chunk.len() as u64) as usize;
            let chunk = chunk.get_mut(..in_page).unwrap_or_default();
            self.read(at, chunk)?;
            if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
                extend(&mut string, chunk.get(..end).unwrap_or_default())?;
                return if string.len() < limit { Ok(string) } else { Err(too_long) };
            }
            extend(&mut string, chunk)?;
            at = at.checked_add(in_page as u64).ok_or(Errno::EFAULT)?;
        }
        Err(too_long)
    }

    /// Reads a path.
    pub(crate) fn read_path(&self, addr: u64) -> Result<Vec<u8>, Errno> {
        self.read_string(addr, crate::files::PATH_MAX, Errno::ENAMETOOLONG)
    }

    /// Reads the parts of a vectored call, cut to what one call moves (Linux: `import_iovec`).
    ///
    /// # Errors
    /// As [`Self::read_remote_parts`], and EFAULT for a part that no program can have.
    pub(crate) fn read_parts(&self, addr: u64, count: u64) -> Result<Vec<UserBuffer>, Errno> {
        let mut parts = self.read_remote_parts(addr, count)?;
        let mut room = MAX_TRANSFER;
        for part in &mut parts {
            let is_possible = part.addr.checked_add(part.bytes).is_some_and(|end| end <= PROGRAM_END);
            if !is_possible {
                return Err(Errno::EFAULT);
            }
            part.bytes = part.bytes.min(room);
            room -= part.bytes;
        }
        Ok(parts)
    }

    /// Reads a list of parts of some process's memory (Linux: `iovec_from_user`).
    ///
    /// # Errors
    /// EINVAL if there are too many or one has a negative length, EFAULT, ENOMEM.
    pub(crate) fn read_remote_parts(&self, addr: u64, count: u64) -> Result<Vec<UserBuffer>, Errno> {
        if count > MAX_PARTS {
            return Err(Errno::EINVAL);
        }
        let mut parts = Vec::new();
        for index in 0..count {
            let [addr, bytes] = self.read_words(addr.wrapping_add(16 * index))?;
            if bytes > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            push(&mut parts, UserBuffer { addr, bytes })?;
        }
        Ok(parts)
    }

    /// Reads a list of strings that ends with a null pointer; `room` is how many bytes they may take together and is lowered.
    ///
    /// # Errors
    /// E2BIG, EFAULT, ENOMEM.
    pub(crate) fn read_string_list(&self, addr: u64, room: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
        let mut list = Vec::new();
        if addr == 0 {
            return Ok(list);
        }
        for index in 0.. {
            let [pointer] = self.read_words(addr.wrapping_add(8 * index))?;
            if pointer == 0 {
                break;
            }
            let string = self.read_string(pointer, *room, Errno::E2BIG)?;
            *room = room.checked_sub(string.len() + 1 + 8).ok_or(Errno::E2BIG)?;
            push(&mut list, string)?;
        }
        Ok(list)
    }

    /// Writes a buffer of the kernel into a program's, cut to its length; returns how much.
    pub(crate) fn write_cut(&self, to: UserBuffer, from: &[u8]) -> Result<u64, Errno> {
        let count = from.len().min(usize::try_from(to.bytes).unwrap_or(usize::MAX));
        self.write(to.addr, from.get(..count).unwrap_or_default())?;
        Ok(count as u64)
    }
}

/// Takes the flags of open from a program.
pub(crate) const fn open_flags(raw: u64) -> OpenFlags {
    OpenFlags::from_bits_retain(raw as u32)
}
