//! What /proc and debugfs show of slab caches and per-CPU memory.
//!
//! Linux 6.12: `slab_show`, `dump_unreclaimable_slab`, mm/percpu-stats.c.

use core::fmt;

use object_allocator::percpu::{ChunkFigures, ChunkLabel};
use object_allocator::{CacheFigures, CacheFlags};
use page_allocator::Hooks;
use platform::Platform;
use proc_files::percpu_stats::{self, ChunkStats, PercpuStats};
use proc_files::slabinfo::{Heading, SlabCache, UnreclaimableCache, UnreclaimableHeading};

use crate::proc_view::ProcView;

impl<P: Platform, H: Hooks> ProcView<'_, P, H> {
    /// Writes /proc/slabinfo: the caches that the machine has, the newest first.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_slabinfo(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{Heading}")?;
        self.write_caches(|cache| {
            let line = SlabCache {
                name: cache.name.as_str(),
                active_objs: cache.usage.active(),
                num_objs: cache.usage.objects,
                objsize: cache.stride as u64,
                objperslab: cache.objects.into(),
                pagesperslab: cache.order.nr_pages(),
                active_slabs: cache.usage.slabs,
                num_slabs: cache.usage.slabs,
                tunables: [0; 3],
                sharedavail: 0,
            };
            writeln!(out, "{line}")
        })
    }

    /// Writes the caches that no shrinker can free, as the report of an OOM kill does when slab holds more than the LRU lists.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_unreclaimable_slab(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{UnreclaimableHeading}")?;
        self.write_caches(|cache| {
            if cache.flags.contains(CacheFlags::RECLAIM_ACCOUNT) || cache.usage.objects == 0 {
                return Ok(());
            }
            let bytes = |objects: u64| objects * cache.stride as u64;
            let (used_bytes, total_bytes) = (bytes(cache.usage.active()), bytes(cache.usage.objects));
            writeln!(out, "{}", UnreclaimableCache { name: cache.name.as_str(), used_bytes, total_bytes })
        })
    }

    /// Returns true if slab that no shrinker can free holds more pages than the LRU lists (Linux: should_dump_unreclaim_slab).
    pub fn is_slab_the_largest_user(&self) -> bool {
        const LRU: [&str; 7] = [
            "nr_active_anon",
            "nr_inactive_anon",
            "nr_active_file",
            "nr_inactive_file",
            "nr_isolated_anon",
            "nr_isolated_file",
            "nr_unevictable",
        ];
        let lru: u64 = LRU.iter().map(|name| self.all_nodes_stat(name)).sum();
        self.all_nodes_stat("nr_slab_unreclaimable") > lru
    }

    fn write_caches(&self, mut write: impl FnMut(&CacheFigures) -> fmt::Result) -> fmt::Result {
        let mut result = Ok(());
        self.kernel.objects().for_each_cache(self.cpu, |cache| {
            if result.is_ok() {
                result = write(cache);
            }
        });
        result
    }

    /// Writes /sys/kernel/debug/percpu_stats.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_percpu_stats(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let percpu = self.kernel.objects().percpu();
        let figures = percpu.figures(self.cpu);
        let size = |of: &dyn Fn(&object_allocator::percpu::UnitSizes) -> usize| {
            figures.sizes.map_or(0, |sizes| of(&sizes) as u64)
        };
        let stats = PercpuStats {
            unit_size: size(&|sizes| sizes.unit_size),
            static_size: size(&|sizes| sizes.static_size),
            reserved_size: size(&|sizes| sizes.reserved_size),
            dyn_size: size(&|sizes| sizes.dyn_size),
            atom_size: size(&|sizes| sizes.atom_size),
            alloc_size: size(&|sizes| sizes.alloc_size),
            nr_alloc: figures.nr_alloc,
            nr_dealloc: figures.nr_dealloc,
            nr_cur_alloc: figures.nr_alloc - figures.nr_dealloc,
            nr_max_alloc: figures.nr_max_alloc,
            nr_chunks: figures.nr_chunks as u64,
            nr_max_chunks: figures.nr_max_chunks as u64,
            min_alloc_size: figures.min_alloc_size as u64,
            max_alloc_size: figures.max_alloc_size as u64,
            empty_pop_pages: figures.empty_pop_pages as u64,
        };
        write!(out, "{stats}")?;
        let mut result = Ok(());
        percpu.for_each_chunk(self.cpu, |chunk| {
            if result.is_ok() {
                result = write!(out, "{}", chunk_stats(&chunk));
            }
        });
        result
    }
}

fn chunk_stats(chunk: &ChunkFigures) -> ChunkStats {
    let [cur_min_alloc, cur_med_alloc, cur_max_alloc] = chunk.cur_alloc.map(|size| size as u64);
    ChunkStats {
        label: match chunk.label {
            ChunkLabel::Reserved => percpu_stats::ChunkLabel::Reserved,
            ChunkLabel::First => percpu_stats::ChunkLabel::First,
            ChunkLabel::ToDepopulate => percpu_stats::ChunkLabel::ToDepopulate,
            ChunkLabel::Sidelined => percpu_stats::ChunkLabel::Sidelined,
            ChunkLabel::Plain => percpu_stats::ChunkLabel::Plain,
        },
        nr_alloc: chunk.nr_alloc as u64,
        max_alloc_size: chunk.max_alloc_size as u64,
        empty_pop_pages: chunk.empty_pop_pages as u64,
        first_bit: chunk.first_bit as u64,
        free_bytes: chunk.free_bytes as u64,
        contig_bytes: chunk.contig_bytes as u64,
        sum_frag: chunk.sum_frag as u64,
        max_frag: chunk.max_frag as u64,
        cur_min_alloc,
        cur_med_alloc,
        cur_max_alloc,
    }
}
