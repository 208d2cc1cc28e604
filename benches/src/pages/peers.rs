//! Page-frame allocators from crates.io, each at its best interface.

use bitmap_allocator::{BitAlloc, BitAlloc16M};
use buddy_system_allocator::FrameAllocator as BuddyFrames;
use free_list::{FreeList, PageLayout, PageRange};

use super::workloads::Workload;
use super::{FRAMES, FrameAllocator};

const PAGE: usize = 4096;

/// buddy_system_allocator's frame allocator: a tree of free blocks for each order.
pub(crate) struct Buddy(BuddyFrames<33>);

impl Buddy {
    pub(crate) fn new() -> Self {
        let mut frames = BuddyFrames::new();
        frames.add_frame(0, FRAMES as usize);
        Self(frames)
    }
}

impl FrameAllocator for Buddy {
    type Block = usize;

    fn alloc(&mut self, order: u8) -> Option<usize> {
        self.0.alloc(1 << order)
    }

    fn free(&mut self, block: usize, order: u8) {
        self.0.dealloc(block, 1 << order);
    }
}

/// bitmap-allocator: a tree of 16-bit maps.
pub(crate) struct Bitmap(Box<BitAlloc16M>);

impl Bitmap {
    pub(crate) fn new() -> Self {
        let mut map = Box::new(BitAlloc16M::DEFAULT);
        map.insert(0..FRAMES as usize);
        Self(map)
    }

    /// The map covers four times the frames that it is given.
    pub(crate) fn metadata_bytes_per_frame() -> f64 {
        size_of::<BitAlloc16M>() as f64 / BitAlloc16M::CAP as f64
    }
}

impl FrameAllocator for Bitmap {
    type Block = usize;

    fn alloc(&mut self, order: u8) -> Option<usize> {
        if order == 0 { self.0.alloc() } else { self.0.alloc_contiguous(None, 1 << order, order.into()) }
    }

    fn free(&mut self, block: usize, order: u8) {
        if order == 0 {
            self.0.dealloc(block)
        } else {
            self.0.dealloc_contiguous(block, 1 << order)
        };
    }
}

/// free-list: one sorted list of ranges, the first 16 in place and more on the host's heap.
pub(crate) struct List(Box<FreeList<16>>);

impl List {
    pub(crate) fn new() -> Self {
        let mut list = Box::new(FreeList::new());
        // Page 0 is left out: ranges start above address 0.
        let all = PageRange::new(PAGE, FRAMES as usize * PAGE).ok();
        if let Some(all) = all {
            // SAFETY: the numbers stand for frames that nobody touches.
            let _inserted = unsafe { list.deallocate(all) };
        }
        Self(list)
    }
}

impl FrameAllocator for List {
    type Block = PageRange;

    fn alloc(&mut self, order: u8) -> Option<PageRange> {
        let bytes = PAGE << order;
        self.0.allocate(PageLayout::from_size_align(bytes, bytes).ok()?).ok()
    }

    fn free(&mut self, block: PageRange, _order: u8) {
        // SAFETY: the numbers stand for frames that nobody touches.
        let _freed = unsafe { self.0.deallocate(block) };
    }
}

/// bitmap-allocator searches bit by bit for contiguous frames: the mixes take minutes.
pub(crate) const fn bitmap_can(workload: Workload) -> bool {
    !matches!(workload, Workload::MixGeometric | Workload::MixUniform)
}

/// free-list scans its list on every free: a million random frees and the large mix take minutes.
pub(crate) const fn list_can(workload: Workload) -> bool {
    !matches!(workload, Workload::RandomFreeMillion | Workload::MixGeometric)
}
