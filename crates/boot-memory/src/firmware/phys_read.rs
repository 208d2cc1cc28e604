//! Reading physical memory before there is a direct map, as the firmware's tables need it.

use units::PhysAddr;

use super::error::{FirmwareError, Input, Place, Problem};

/// A way to read physical memory; implemented for closures and for [`MemoryImage`].
///
/// ```
/// use mmkit_boot_memory::firmware::PhysRead;
/// use units::PhysAddr;
///
/// let zeros = |_: PhysAddr, buffer: &mut [u8]| { buffer.fill(0); true };
/// assert!(zeros.read(PhysAddr::new(0x1000), &mut [1; 4]));
/// ```
pub trait PhysRead {
    /// Fills `buffer` with the bytes from `at` up; returns false, with any contents, if one of them cannot be read.
    fn read(&self, at: PhysAddr, buffer: &mut [u8]) -> bool;
}

impl<F: Fn(PhysAddr, &mut [u8]) -> bool> PhysRead for F {
    fn read(&self, at: PhysAddr, buffer: &mut [u8]) -> bool {
        self(at, buffer)
    }
}

/// Bytes of physical memory from some address up.
#[derive(Clone, Copy, Debug)]
pub struct MemoryImage<'a> {
    /// Address of the first byte.
    pub base: PhysAddr,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl PhysRead for MemoryImage<'_> {
    fn read(&self, at: PhysAddr, buffer: &mut [u8]) -> bool {
        let Some(offset) = at.raw().checked_sub(self.base.raw()).and_then(|offset| usize::try_from(offset).ok()) else {
            return false;
        };
        let source = offset.checked_add(buffer.len()).and_then(|end| self.bytes.get(offset..end));
        source.is_some_and(|source| {
            buffer.copy_from_slice(source);
            true
        })
    }
}

/// Reads `N` bytes of the structure `input` at `at`.
pub(super) fn read_array<const N: usize>(
    memory: &impl PhysRead,
    input: Input,
    at: PhysAddr,
) -> Result<[u8; N], FirmwareError> {
    let mut bytes = [0; N];
    if memory.read(at, &mut bytes) {
        Ok(bytes)
    } else {
        Err(FirmwareError { input, at: Place::Phys(at), problem: Problem::Unreadable })
    }
}

/// Returns the little-endian number of `N` bytes at `offset`; 0 if the slice ends before it.
pub(super) fn le_u64<const N: usize>(bytes: &[u8], offset: usize) -> u64 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>());
    field.map_or(0, |field| field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// Returns the little-endian 32-bit number at `offset`; 0 if the slice ends before it.
pub(super) fn le_u32(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |field| u32::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_refuses_reads_that_leave_it() {
        let image = MemoryImage { base: PhysAddr::new(0x1000), bytes: &[1, 2, 3, 4] };
        let mut two = [0; 2];
        assert!(image.read(PhysAddr::new(0x1002), &mut two));
        assert_eq!(two, [3, 4]);
        assert!(!image.read(PhysAddr::new(0x1003), &mut two));
        assert!(!image.read(PhysAddr::new(0xfff), &mut two));
        assert!(!image.read(PhysAddr::new(u64::MAX), &mut two));
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(le_u64::<3>(&[9, 1, 2, 3], 1), 0x03_0201);
        assert_eq!(le_u32(&[0, 1, 2, 3, 4], 1), 0x0403_0201);
    }
}
