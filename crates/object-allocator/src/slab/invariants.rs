//! The laws of slab caches, checked by walking everything.
//!
//! For tests and debug machines: takes time in proportion to frames times caches. Nothing else may run meanwhile.

use core::fmt;

use frame_table::Frame;
use page_allocator::Hooks;
use platform::Platform;
use sync::Cpu;
use units::{NodeId, Order, Pfn};

use super::cache::{Cache, NodeSlabs};
use super::params::CacheName;
use crate::ObjectAllocator;

/// A law that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokenSlab {
    /// The law.
    pub law: &'static str,
    /// The cache.
    pub cache: CacheName,
    /// The slab, if it concerns one.
    pub slab: Option<Pfn>,
}

impl fmt::Display for BrokenSlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cache {}", self.cache)?;
        if let Some(slab) = self.slab {
            write!(f, ", slab at pfn {slab:#x}")?;
        }
        write!(f, ": {}", self.law)
    }
}

impl<P: Platform, H: Hooks> ObjectAllocator<P, H> {
    /// Checks all caches; returns the pages of their slabs.
    ///
    /// # Errors
    /// The first law that is broken.
    pub fn check_slab_invariants(&self, cpu: &Cpu) -> Result<u64, BrokenSlab> {
        self.caches.caches().map(|cache| self.check_cache(cpu, cache.get())).sum()
    }

    fn check_cache(&self, cpu: &Cpu, cache: &Cache) -> Result<u64, BrokenSlab> {
        let mut pages = 0;
        for (number, node) in cache.nodes.iter().enumerate() {
            let slabs = node.0.lock(cpu);
            let Some(node) = NodeId::try_new(number as u64) else { continue };
            self.check_partial(cache, &slabs, node)?;
            pages += self.check_node(cache, &slabs, node)?;
        }
        Ok(pages)
    }

    fn check_partial(&self, cache: &Cache, slabs: &NodeSlabs, node: NodeId) -> Result<(), BrokenSlab> {
        let mut listed = 0;
        for head in slabs.partial.iter(self.frames()) {
            let broken = |law| Err(BrokenSlab { law, cache: cache.name, slab: Some(head) });
            let frame = self.frame(head);
            match frame.slab() {
                Some((number, order)) if number == cache.number => {
                    if self.free_bits(cache, head, order).count() == 0 {
                        broken("a listed slab has free objects")?;
                    }
                }
                _ => broken("a listed slab belongs to the cache")?,
            }
            if frame.place().node() != node {
                broken("a slab is listed on its own node")?;
            }
            listed += 1;
        }
        if listed != slabs.partial.len() {
            let law = "a list is as long as it says";
            return Err(BrokenSlab { law, cache: cache.name, slab: None });
        }
        Ok(())
    }

    /// Finds all slabs of the cache on a node in the frame table and compares them with the node's counts.
    fn check_node(&self, cache: &Cache, slabs: &NodeSlabs, node: NodeId) -> Result<u64, BrokenSlab> {
        let (mut nr_slabs, mut objects, mut with_free, mut pages) = (0, 0, 0, 0);
        for (head, order) in self.slabs_on(cache, node) {
            let bits = self.free_bits(cache, head, order);
            let counted = (0..bits.objects()).filter(|&index| bits.is_free(index)).count() as u32;
            if counted != bits.count() {
                let law = "the count of free objects is that of the bits";
                return Err(BrokenSlab { law, cache: cache.name, slab: Some(head) });
            }
            nr_slabs += 1;
            objects += u64::from(bits.objects());
            with_free += u32::from(counted > 0);
            pages += order.nr_pages();
        }
        let free_somewhere = slabs.partial.len() + slabs.waiting_slabs;
        if (nr_slabs, objects, with_free) != (slabs.nr_slabs, slabs.total_objects, free_somewhere) {
            let law = "a node counts its slabs and objects and lists the slabs with free ones";
            return Err(BrokenSlab { law, cache: cache.name, slab: None });
        }
        Ok(pages)
    }

    /// Returns head and order of each slab of the cache whose memory is on `node`.
    pub(crate) fn slabs_on(&self, cache: &Cache, node: NodeId) -> impl Iterator<Item = (Pfn, Order)> {
        let zones = self.pages().zones().iter().filter(move |zone| zone.node() == node);
        let number = cache.number;
        zones.flat_map(|zone| zone.span().iter()).filter_map(move |pfn| {
            let frame = self.frames().get_valid(pfn)?;
            let (_, order) = frame.slab().filter(|&(of, order)| of == number && pfn.is_aligned(order))?;
            (Frame::place(frame).node() == node).then_some((pfn, order))
        })
    }
}
