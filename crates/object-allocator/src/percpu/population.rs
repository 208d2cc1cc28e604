//! Pages behind chunks: taken from the page allocator one by one or side by side, and given back.
//!
//! Called without the chunks' lock, on pages that the caller has claimed. Linux 6.12: mm/percpu-vm.c (`pcpu_alloc_pages`,
//! `pcpu_free_pages`), mm/percpu-km.c.

use core::ops::Range;
use core::ptr::NonNull;

use page_allocator::{AllocError, AllocRequest, Hooks, PageAllocator};
use platform::Platform;
use sync::Cpu;
use units::{CpuId, Gfp, NodeId, Order, PfnRange};

use super::chunk::Chunk;
use super::row::Rows;

/// Pages of a chunk that the holder alone may change.
///
/// # Invariants
/// The pages are marked busy, or the chunk is reached by nobody else; so the chunk exists, with its rows, as long as the claim.
pub(super) struct Claim {
    pub(super) chunk: NonNull<Chunk>,
    pub(super) rows: Rows,
    pub(super) pages: Range<usize>,
}

/// Takes `nr_pages` contiguous frames, on `node` if it has some.
pub(super) fn take_frames<P: Platform, H: Hooks>(
    pages: &PageAllocator<P, H>,
    cpu: &Cpu,
    gfp: Gfp,
    node: Option<NodeId>,
    nr_pages: usize,
) -> Result<PfnRange, AllocError> {
    let nr_pages = nr_pages as u64;
    let order = Order::covering(nr_pages).ok_or(AllocError::TooLarge(Order::MAX))?;
    let request = AllocRequest { node, ..AllocRequest::new(gfp, order) };
    let block = pages.alloc_request(cpu, &request)?;
    let frames = PfnRange::with_len(block.pfn(), nr_pages);
    for page in block.split_pages(&pages.map().frames) {
        if frames.contains(page.pfn()) {
            page.into_raw(&pages.map().frames);
        } else {
            pages.free(cpu, page);
        }
    }
    Ok(frames)
}

/// Gives frames back that [`take_frames`] took.
pub(super) fn give_frames<P: Platform, H: Hooks>(pages: &PageAllocator<P, H>, cpu: &Cpu, frames: PfnRange) {
    for pfn in frames.iter() {
        let freed = pages.free_raw(cpu, pfn, Order::ZERO);
        debug_assert!(freed.is_ok(), "frames of per-CPU memory are raw pages until they are freed");
    }
}

impl Claim {
    /// Puts pages behind the claimed ones, contiguous for each CPU and on its node if that has some.
    ///
    /// # Errors
    /// As `PageAllocator::alloc_request`; then there are no pages, as before.
    pub(super) fn populate<P: Platform, H: Hooks>(
        &self,
        pages: &PageAllocator<P, H>,
        cpu: &Cpu,
        gfp: Gfp,
    ) -> Result<(), AllocError> {
        for id in self.rows.cpus() {
            let node = pages.node_of_cpu(id);
            let added = take_frames(pages, cpu, gfp, Some(node), self.pages.len())
                .and_then(|frames| self.place(pages, cpu, id, frames));
            if let Err(error) = added {
                self.depopulate(pages, cpu);
                return Err(error);
            }
        }
        Ok(())
    }

    fn place<P: Platform, H: Hooks>(
        &self,
        pages: &PageAllocator<P, H>,
        cpu: &Cpu,
        of: CpuId,
        frames: PfnRange,
    ) -> Result<(), AllocError> {
        let shift = pages.map().geometry.page_shift;
        let Some(base) = pages.platform().direct_map(frames.phys(shift)) else {
            // Without HIGHMEM every zone is mapped, so a machine that does not map these pages has broken its promise.
            give_frames(pages, cpu, frames);
            return Err(AllocError::NoZone);
        };
        for (nth, (page, pfn)) in self.pages.clone().zip(frames.iter()).enumerate() {
            // SAFETY: the pointer is valid for all the frames, and this is the start of the nth.
            let place = unsafe { base.add(nth << shift) };
            // SAFETY: by the type invariant the chunk exists, and the page is the claim's; `of` is a CPU of the rows.
            unsafe { self.rows.set(page, of, Some(place), Some(pfn)) };
        }
        Ok(())
    }

    /// Gives the pages back that are behind the claimed ones.
    pub(super) fn depopulate<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>, cpu: &Cpu) {
        for page in self.pages.clone() {
            for id in self.rows.cpus() {
                // SAFETY: as in `place`.
                if let Some(pfn) = unsafe { self.rows.take(page, id) } {
                    give_frames(pages, cpu, PfnRange::with_len(pfn, 1));
                }
            }
        }
    }
}

/// Returns the flags that reach the page allocator (Linux: the same mask in pcpu_alloc).
pub(super) fn page_flags(gfp: Gfp) -> Gfp {
    gfp & (Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN)
}
