//! kmalloc: memory of any size, from caches of fixed sizes or, if large, from pages of its own.
//!
//! An address alone is enough to free it: the frame's descriptor says which cache it belongs to, or that it is a large object.
//! Locking: none of its own. Linux 6.12: mm/slab_common.c, mm/slub.c (`__kmalloc`, `kfree`, `__do_krealloc`).

mod family;
mod interface;
mod size_class;

use core::fmt::Write;

use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;

use crate::ObjectAllocator;
use crate::error::ObjectError;
use crate::slab::{CacheFlags, CacheParams, CacheSlot};

pub use size_class::KmallocKind;
use size_class::{CLASSES, SIZES};

/// Caches by kind and size class.
#[derive(Debug)]
pub(crate) struct KmallocCaches([[CacheSlot; CLASSES]; KmallocKind::COUNT]);

impl KmallocCaches {
    pub(crate) const fn new() -> Self {
        Self([const { [const { CacheSlot::empty() }; CLASSES] }; KmallocKind::COUNT])
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Makes the caches that are missing (Linux: create_kmalloc_caches).
    pub(crate) fn start_kmalloc(&self, cpu: &Cpu) -> Result<(), ObjectError> {
        for kind in KmallocKind::ALL {
            // By size, so that they are listed as Linux lists them.
            for (slot, size) in by_size(&self.kmalloc.0[kind as usize]) {
                if slot.get().is_some() || size == 0 || size > self.kmalloc_max_cached() {
                    continue;
                }
                let flags = match kind {
                    KmallocKind::Normal => CacheFlags::NO_MERGE,
                    KmallocKind::Reclaim => CacheFlags::RECLAIM_ACCOUNT | CacheFlags::NO_MERGE,
                    KmallocKind::Dma => CacheFlags::CACHE_DMA | CacheFlags::NO_MERGE,
                };
                let mut name = NameBuffer::default();
                let written = write_name(&mut name, kind, size);
                debug_assert!(written.is_ok(), "the longest name has 16 bytes");
                let align = if size.is_power_of_two() { size.min(self.map().page_size()) } else { 8 };
                let params = CacheParams::new(name.as_str(), size).align(align).flags(flags);
                slot.set(self.make_or_merge(cpu, &params)?);
            }
        }
        Ok(())
    }

    /// Returns the largest size that comes from a cache: two pages (Linux: KMALLOC_MAX_CACHE_SIZE).
    #[inline(always)]
    pub(crate) const fn kmalloc_max_cached(&self) -> usize {
        self.map().page_size() * 2
    }
}

fn write_name(out: &mut NameBuffer, kind: KmallocKind, size: usize) -> core::fmt::Result {
    let prefix = match kind {
        KmallocKind::Normal => "kmalloc",
        KmallocKind::Reclaim => "kmalloc-rcl",
        KmallocKind::Dma => "dma-kmalloc",
    };
    if size >= 1024 { write!(out, "{prefix}-{}k", size / 1024) } else { write!(out, "{prefix}-{size}") }
}

/// Iterates over the slots of a kind by the size of their objects.
fn by_size(slots: &[CacheSlot; CLASSES]) -> impl Iterator<Item = (&CacheSlot, usize)> {
    let mut last = 0;
    core::iter::from_fn(move || {
        let larger = slots.iter().zip(SIZES).filter(|&(_, size)| size > last);
        let next = larger.min_by_key(|&(_, size)| size)?;
        last = next.1;
        Some(next)
    })
}

/// A short text.
#[derive(Default)]
struct NameBuffer {
    bytes: [u8; 24],
    len: usize,
}

impl NameBuffer {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl Write for NameBuffer {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
