//! Every CPU takes single pages until there are none, then all give them back.
//!
//! Shows that watermarks and reserves end in an error and not in a hang, while interrupts go on allocating. Pages are chained
//! through their first words, so that the chain needs no memory.

use page_allocator::{Hooks, PageAllocator};
use platform::Platform;
use sync::Cpu;
use units::{Gfp, Order, Pfn};

use super::stamp::Bytes;
use super::worker::Fault;

/// End of the chain.
const END: u64 = u64::MAX;

/// Takes pages until an allocation fails; frees them; returns how many there were.
pub(crate) fn run<P: Platform, H: Hooks>(pages: &PageAllocator<P, H>, cpu: &Cpu) -> Result<u64, Fault> {
    let mut head = END;
    let mut taken = 0;
    while let Ok(block) = pages.alloc(cpu, Gfp::HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN, Order::ZERO) {
        let bytes = bytes(pages, block.pfn())?;
        bytes.stamp(block.pfn().raw());
        bytes.write_first(head);
        head = block.into_raw(&pages.map().frames).raw();
        taken += 1;
    }
    let mut left = taken;
    while head != END {
        let pfn = Pfn::new(head);
        let bytes = bytes(pages, pfn)?;
        let next = bytes.read_first();
        // The stamp of a block's first page is the stamp itself.
        bytes.write_first(pfn.raw());
        if bytes.first_unstamped(pfn.raw()).is_some() || left == 0 {
            return Err(Fault::TwoOwners { pfn, stamp: pfn.raw() });
        }
        pages.free_raw(cpu, pfn, Order::ZERO).map_err(|_| Fault::WrongBlock(pfn, Order::ZERO))?;
        left -= 1;
        head = next;
    }
    Ok(taken)
}

fn bytes<P: Platform, H: Hooks>(pages: &PageAllocator<P, H>, pfn: Pfn) -> Result<Bytes, Fault> {
    let range = units::PfnRange::with_len(pfn, 1).phys(pages.map().geometry.page_shift);
    let start = pages.platform().direct_map(range).ok_or(Fault::NotMapped(pfn))?;
    // SAFETY: the direct map shows the page; it was allocated by this function's caller and is not freed yet.
    Ok(unsafe { Bytes::new(start, 1) })
}
