//! Counters of nodes, zones and events, with per-CPU differences.
//!
//! A CPU keeps what it adds to a counter to itself until that exceeds a threshold, so that counting touches no shared cache line. The
//! differences and the events lie in per-CPU memory; [`VmStat::refresh_cpu`] folds them, driven by the machine once a second or so.
//! Locking: none; an interrupt may count in the middle of the count that it interrupts.
//! Linux 6.12: mm/vmstat.c (`mod_node_state`, `mod_zone_state`, `refresh_cpu_vm_stats`, `cpu_vm_stats_fold`, `all_vm_events`).

mod items;
mod tables;
#[cfg(all(test, not(loom)))]
mod tests;

use core::sync::atomic::{AtomicI8, AtomicI64, AtomicPtr, AtomicU8, AtomicU64, Ordering};

use page_allocator::layout::normal_threshold;
use page_allocator::{Hooks, PageAllocator};
use platform::Platform;
use sync::Cpu;
use units::{CpuId, Gfp, NodeId, ZoneType};

use crate::error::ObjectError;
use crate::percpu::{PercpuAllocator, PercpuError};
use tables::Tables;

pub use items::{NodeItem, VmEvent, ZoneItem};

/// The counters of a machine. Before [`VmStat::start`] nothing is counted.
///
/// # Invariants
/// `tables` is null, or points to tables that stay for ever.
#[derive(Debug, Default)]
pub struct VmStat {
    tables: AtomicPtr<Tables>,
}

/// How far a difference goes past zero when it is folded (Linux: overstep_mode).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Overstep {
    /// To zero.
    None,
    /// Half a threshold beyond, for counters that go the same way for a while.
    Half,
}

/// One counter: the shared part, its threshold and a CPU's difference.
struct Counter<'a> {
    shared: &'a AtomicI64,
    threshold: &'a AtomicU8,
    difference: &'a AtomicI8,
}

impl Counter<'_> {
    /// Adds to the CPU's difference, or moves it to the shared part if that would exceed the threshold.
    fn add(&self, delta: i64, overstep: Overstep) {
        // Relaxed, here and below: statistics order nothing.
        let threshold = i64::from(self.threshold.load(Ordering::Relaxed));
        let mut old = self.difference.load(Ordering::Relaxed);
        loop {
            let sum = i64::from(old).saturating_add(delta);
            let (rest, moved) = match i8::try_from(sum) {
                Ok(kept) if sum.abs() <= threshold => (kept, 0),
                _ => {
                    let beyond = if overstep == Overstep::Half { sum.signum() * (threshold >> 1) } else { 0 };
                    // The threshold is 125 at most.
                    (i8::try_from(-beyond).unwrap_or(0), sum.saturating_add(beyond))
                }
            };
            match self.difference.compare_exchange_weak(old, rest, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if moved == 0 => return,
                Ok(_) => {
                    self.shared.fetch_add(moved, Ordering::Relaxed);
                    return;
                }
                // An interrupt counted in between.
                Err(seen) => old = seen,
            }
        }
    }

    /// Moves the difference to the shared part. Returns true if there was one.
    fn fold(&self) -> bool {
        let difference = self.difference.swap(0, Ordering::Relaxed);
        if difference != 0 {
            self.shared.fetch_add(difference.into(), Ordering::Relaxed);
        }
        difference != 0
    }
}

impl VmStat {
    /// Makes counters that do not count yet.
    pub const fn new() -> Self {
        Self { tables: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Allocates the counters and starts counting (Linux: setup_per_cpu_pageset, init_mm_internals). Does nothing if they exist.
    ///
    /// # Errors
    /// [`ObjectError::OutOfMemory`]; nothing remains then.
    pub fn start<P: Platform, H: Hooks>(
        &self,
        pages: &PageAllocator<P, H>,
        percpu: &PercpuAllocator,
        cpu: &Cpu,
    ) -> Result<(), ObjectError> {
        if self.tables().is_none() {
            let node_slots = pages.nodes().iter().last().map_or(1, |node| node.index() + 1);
            let layout = Tables::area_layout(node_slots);
            let area = percpu.alloc(pages, cpu, layout, Gfp::KERNEL).map_err(|error| match error {
                PercpuError::OutOfMemory => ObjectError::OutOfMemory,
                PercpuError::BadLayout(_) | PercpuError::Foreign => ObjectError::Impossible,
            })?;
            let tables = Tables::create(pages, cpu, node_slots, area).map_err(|(error, area)| {
                // SAFETY: the area was just allocated here, and nobody uses it.
                let freed = unsafe { percpu.free(cpu, area) };
                debug_assert!(freed.is_ok(), "an area that was just allocated is no static memory");
                error
            })?;
            // Release: pairs with the Acquire load in `tables`.
            self.tables.store(tables.as_ptr(), Ordering::Release);
        }
        self.refresh_thresholds(pages);
        Ok(())
    }

    #[inline]
    fn tables(&self) -> Option<&Tables> {
        // Acquire: pairs with the Release store in `start`.
        let tables = self.tables.load(Ordering::Acquire);
        // SAFETY: by the type invariant it is null or points to tables that stay; they are changed through atomics only.
        unsafe { tables.as_ref() }
    }

    /// Computes how far the CPUs' differences may go, from the sizes of the zones (Linux: refresh_zone_stat_thresholds).
    pub fn refresh_thresholds<P: Platform, H: Hooks>(&self, pages: &PageAllocator<P, H>) {
        let Some(tables) = self.tables() else { return };
        let (cpus, shift) = (pages.nr_cpus() as u64, pages.map().geometry.page_shift);
        for node in pages.nodes().iter() {
            let mut largest = 0;
            for zone in pages.zones().iter().filter(|zone| zone.node() == node) {
                let threshold = u8::try_from(normal_threshold(zone.managed(), cpus, shift)).unwrap_or(0);
                // Relaxed: a hint.
                tables.zone_threshold(node, zone.kind()).store(threshold, Ordering::Relaxed);
                largest = largest.max(threshold);
            }
            tables.node_threshold(node).store(largest, Ordering::Relaxed);
        }
    }

    fn node_counter<'a>(tables: &'a Tables, cpu: CpuId, node: NodeId, item: NodeItem) -> Option<Counter<'a>> {
        Some(Counter {
            shared: tables.node_shared(node, item),
            threshold: tables.node_threshold(node),
            difference: tables.node_difference(cpu, node, item)?,
        })
    }

    fn zone_counter<'a>(
        tables: &'a Tables,
        cpu: CpuId,
        (node, kind): (NodeId, ZoneType),
        item: ZoneItem,
    ) -> Option<Counter<'a>> {
        Some(Counter {
            shared: tables.zone_shared(node, kind, item),
            threshold: tables.zone_threshold(node, kind),
            difference: tables.zone_difference(cpu, node, kind, item)?,
        })
    }

    /// Adds to a node's counter (Linux: mod_node_page_state).
    pub fn mod_node(&self, cpu: &Cpu, node: NodeId, item: NodeItem, delta: i64) {
        self.add_to_node(cpu, node, item, delta, Overstep::None);
    }

    /// Adds one to a node's counter (Linux: inc_node_state).
    pub fn inc_node(&self, cpu: &Cpu, node: NodeId, item: NodeItem) {
        self.add_to_node(cpu, node, item, 1, Overstep::Half);
    }

    /// Takes one from a node's counter (Linux: dec_node_page_state).
    pub fn dec_node(&self, cpu: &Cpu, node: NodeId, item: NodeItem) {
        self.add_to_node(cpu, node, item, -1, Overstep::Half);
    }

    fn add_to_node(&self, cpu: &Cpu, node: NodeId, item: NodeItem, delta: i64, overstep: Overstep) {
        let counter = self.tables().and_then(|tables| Self::node_counter(tables, cpu.id(), node, item));
        if let Some(counter) = counter {
            counter.add(delta, overstep);
        }
    }

    /// Adds to the counter of the zone of a kind on a node (Linux: mod_zone_page_state).
    pub fn mod_zone(&self, cpu: &Cpu, zone: (NodeId, ZoneType), item: ZoneItem, delta: i64) {
        let counter = self.tables().and_then(|tables| Self::zone_counter(tables, cpu.id(), zone, item));
        if let Some(counter) = counter {
            counter.add(delta, Overstep::None);
        }
    }

    /// Counts events (Linux: count_vm_events).
    pub fn count_events(&self, cpu: &Cpu, event: VmEvent, nr: u64) {
        let Some(count) = self.tables().and_then(|tables| tables.event(cpu.id(), event)) else { return };
        // Relaxed: a statistic.
        count.fetch_add(nr, Ordering::Relaxed);
    }

    /// Returns a node's counter, what CPUs keep to themselves included (Linux: node_page_state_snapshot).
    pub fn node(&self, node: NodeId, item: NodeItem) -> u64 {
        let Some(tables) = self.tables() else { return 0 };
        let differences = tables.cpus().filter_map(|cpu| tables.node_difference(cpu, node, item));
        sum(tables.node_shared(node, item), differences)
    }

    /// Returns a zone's counter, what CPUs keep to themselves included (Linux: zone_page_state_snapshot).
    pub fn zone(&self, (node, kind): (NodeId, ZoneType), item: ZoneItem) -> u64 {
        let Some(tables) = self.tables() else { return 0 };
        let differences = tables.cpus().filter_map(|cpu| tables.zone_difference(cpu, node, kind, item));
        sum(tables.zone_shared(node, kind, item), differences)
    }

    /// Returns a node's counter without what CPUs keep to themselves (Linux: node_page_state).
    pub fn node_estimate(&self, node: NodeId, item: NodeItem) -> u64 {
        self.tables().map_or(0, |tables| sum(tables.node_shared(node, item), core::iter::empty()))
    }

    /// Returns the events of all CPUs (Linux: all_vm_events).
    pub fn events(&self, event: VmEvent) -> u64 {
        let Some(tables) = self.tables() else { return 0 };
        // Relaxed: a statistic.
        tables.cpus().filter_map(|cpu| tables.event(cpu, event)).map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Folds what this CPU keeps to itself into the shared counters; returns how many changed (Linux: refresh_cpu_vm_stats).
    pub fn refresh_cpu(&self, cpu: &Cpu) -> u64 {
        self.fold(cpu.id())
    }

    /// Folds the differences of a CPU that is offline, and moves its events to this one (Linux: cpu_vm_stats_fold, vm_events_fold_cpu).
    pub fn cpu_dead(&self, cpu: &Cpu, dead: CpuId) {
        self.fold(dead);
        let Some(tables) = self.tables() else { return };
        for &event in VmEvent::ALL {
            let Some(count) = tables.event(dead, event) else { continue };
            // Relaxed: a statistic.
            self.count_events(cpu, event, count.swap(0, Ordering::Relaxed));
        }
    }

    fn fold(&self, of: CpuId) -> u64 {
        let Some(tables) = self.tables() else { return 0 };
        let of_node = |node| NodeItem::ALL.iter().filter_map(move |&item| Self::node_counter(tables, of, node, item));
        let of_zone = |zone| ZoneItem::ALL.iter().filter_map(move |&item| Self::zone_counter(tables, of, zone, item));
        let zones = tables.nodes().flat_map(|node| ZoneType::ALL.into_iter().map(move |kind| (node, kind)));
        let folded = tables.nodes().flat_map(of_node).chain(zones.flat_map(of_zone)).filter(Counter::fold);
        folded.count() as u64
    }
}

/// Adds up a counter; a sum below zero, which a reader may see while CPUs count, is 0.
fn sum<'a>(shared: &AtomicI64, differences: impl Iterator<Item = &'a AtomicI8>) -> u64 {
    // Relaxed: statistics.
    let differences: i64 = differences.map(|difference| i64::from(difference.load(Ordering::Relaxed))).sum();
    u64::try_from(shared.load(Ordering::Relaxed) + differences).unwrap_or(0)
}

/// A count of events of one CPU.
type EventCount = AtomicU64;
