//! A booted machine.

use collections::BootSlice;
use object_allocator::ObjectAllocator;
use page_allocator::layout::{NodeLayout, Release, ZoneSet};
use page_allocator::{Hooks, NoPressure, PageAllocator, Tunables};
use platform::Platform;
use sync::{Cpu, SpinLock, rank};

use crate::error::BootError;

/// One machine's memory management.
#[derive(Debug)]
pub struct Kernel<P: Platform, H: Hooks = NoPressure> {
    pub(crate) objects: ObjectAllocator<P, H>,
    pub(crate) nodes: BootSlice<NodeLayout>,
    pub(crate) configured: ZoneSet,
    pub(crate) release: Release,
    /// What is set now.
    pub(crate) tunables: SpinLock<{ rank::LEAF }, Tunables>,
}

impl<P: Platform, H: Hooks> Kernel<P, H> {
    /// Returns the page allocator.
    pub const fn pages(&self) -> &PageAllocator<P, H> {
        self.objects.pages()
    }

    /// Returns the allocator of everything that is not a block of pages.
    pub const fn objects(&self) -> &ObjectAllocator<P, H> {
        &self.objects
    }

    /// Makes the first kernel objects: counters, slab caches, what kmalloc and vmalloc need (Linux: the second half of mm_core_init).
    ///
    /// Apart from [`Kernel::boot`], so that a machine whose pages are all that matters has them all. May be repeated.
    ///
    /// # Errors
    /// [`BootError::Objects`]; what was made stays and is used by the next try.
    pub fn start_objects(&self, cpu: &Cpu) -> Result<(), BootError> {
        Ok(self.objects.start(cpu)?)
    }

    /// Returns how memory divides into zones, by node.
    pub fn nodes(&self) -> &[NodeLayout] {
        &self.nodes
    }

    /// Returns the kinds of zones that the architecture has.
    pub const fn configured(&self) -> ZoneSet {
        self.configured
    }

    /// Returns the kernel whose rules apply.
    pub const fn release(&self) -> Release {
        self.release
    }

    /// Returns what is set now.
    pub fn tunables(&self, cpu: &Cpu) -> Tunables {
        *self.tunables.lock(cpu)
    }

    /// Returns vm.min_free_kbytes: what was chosen, or what follows from the memory.
    pub fn min_free_kbytes(&self, cpu: &Cpu) -> u64 {
        let tunables = self.tunables(cpu);
        crate::settings::rule(self.pages(), &tunables, self.release, &|zone| zone.managed()).min_free_kbytes
    }

    /// Recomputes watermarks, reserves and per-CPU limits from the zones' managed pages (Linux: a write to the sysctls).
    pub fn set_tunables(&self, cpu: &Cpu, tunables: &Tunables) {
        *self.tunables.lock(cpu) = *tunables;
        let mut applied = *tunables;
        loop {
            crate::settings::apply(self.pages(), cpu, &applied, self.release, |zone| zone.managed());
            // Not under the lock, so another CPU may have set others meanwhile: whoever ends last has applied what is set.
            let now = self.tunables(cpu);
            if now == applied {
                break;
            }
            applied = now;
        }
        self.objects.vmstat().refresh_thresholds(self.pages());
    }
}
