//! Reading and filling the bytes of owned blocks: zeroing, poisoning and checking for writes after free.

use core::fmt;

use platform::PhysMemory;
use units::PhysAddr;

use crate::OwnedBlock;

/// The kernel has no permanent mapping of the block (HighMem).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotMapped;

impl fmt::Display for NotMapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the block is not in the direct map")
    }
}

impl core::error::Error for NotMapped {}

/// Fills the block with one byte value.
///
/// # Errors
/// [`NotMapped`] if the machine does not map the block; nothing is written.
pub fn fill(memory: &impl PhysMemory, block: &mut OwnedBlock, page_shift: u32, value: u8) -> Result<(), NotMapped> {
    let range = block.frames().phys(page_shift);
    let start = memory.direct_map(range).ok_or(NotMapped)?;
    // SAFETY: `direct_map` gives a pointer valid for writes of the whole range, and the owned block proves exclusive use of it.
    unsafe { start.write_bytes(value, range.len() as usize) };
    Ok(())
}

/// Finds the first byte of the block that is not `value`.
///
/// # Errors
/// [`NotMapped`] if the machine does not map the block.
pub fn first_difference(
    memory: &impl PhysMemory,
    block: &mut OwnedBlock,
    page_shift: u32,
    value: u8,
) -> Result<Option<PhysAddr>, NotMapped> {
    let range = block.frames().phys(page_shift);
    let start = memory.direct_map(range).ok_or(NotMapped)?;
    // SAFETY: `direct_map` gives a pointer valid for reads of the whole range, and the owned block proves that nobody writes it.
    let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), range.len() as usize) };
    let position = bytes.iter().position(|&byte| byte != value);
    Ok(position.map(|offset| range.start.saturating_add(offset as u64)))
}
