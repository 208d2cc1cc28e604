//! The allocator of kernel objects of one machine.

use page_allocator::{Hooks, NoPressure, PageAllocator};
use platform::Platform;

/// Everything that is allocated in other units than pages, on top of the page allocator that it owns.
#[derive(Debug)]
pub struct ObjectAllocator<P: Platform, H: Hooks = NoPressure> {
    pages: PageAllocator<P, H>,
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Takes the page allocator over.
    pub const fn new(pages: PageAllocator<P, H>) -> Self {
        Self { pages }
    }

    /// Returns the page allocator.
    pub const fn pages(&self) -> &PageAllocator<P, H> {
        &self.pages
    }
}
