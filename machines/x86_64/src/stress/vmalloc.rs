//! Areas of vmalloc on all CPUs at once, written and read through their mappings on the real MMU.
//!
//! Areas change hands between CPUs, so that every CPU remembers translations of areas that others free. A second part maps different
//! memory at the same addresses, with every CPU having used the old mapping, and looks that none still sees it.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use frame_table::OwnedBlock;
use object_allocator::{VmallocArea, VmallocError, VmallocRequest};
use platform::Attributes;
use sync::{Cpu, SpinLock, rank};
use units::{Gfp, Order, Pfn, VirtAddr};

use super::rng::Rng;
use super::worker::Fault;
use super::{add, report, sum};
use crate::console::print_line;
use crate::cpu_area::this_cpu;
use crate::instructions::{interrupts_enable, interrupts_save};
use crate::kernel::{BareKernel, booted};
use crate::smp;

const PAGE: u64 = 4096;
/// Areas that wait for another CPU at most.
const EXCHANGE: usize = 16;
/// One of so many steps purges.
const PURGE: u64 = 64;
/// One of so many areas is large enough for large leaves.
const LARGE: u64 = 32;
/// Rounds of the second part for each size.
const REMAPS: u64 = 20;
/// Pages of a mapping of the second part: flushed one by one, and all at once.
const REMAPPED_PAGES: [usize; 2] = [3, 40];

/// An area on its way, with the stamp in its pages.
struct Held {
    area: VmallocArea,
    stamp: u64,
}

static AREAS: [SpinLock<{ rank::LEAF }, Option<Held>>; EXCHANGE] = [const { SpinLock::new(None) }; EXCHANGE];
static STEPS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// Where the mapping of the second part starts, how many pages it has and the stamp of its first; each page's is one more.
static MAPPED: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Runs both parts; true if nothing was found wrong and all memory came back.
pub(super) fn run(kernel: &BareKernel, steps: u64) -> bool {
    let cpu = this_cpu();
    let objects = kernel.objects();
    if let Err(error) = objects.start(cpu) {
        print_line!(cpu, "stress: vmalloc: {error}");
        return false;
    }
    // Relaxed: read in jobs, which synchronise.
    STEPS.store(steps, Ordering::Relaxed);
    let before = accounted_pages(kernel, cpu);
    smp::run_on_all(|_| with_interrupts(work));
    for place in &AREAS {
        let held = place.lock(cpu).take();
        if let Some(Err(fault)) = held.map(|held| free(kernel, cpu, held)) {
            found(fault);
        }
    }
    let remapped = REMAPPED_PAGES.into_iter().all(|nr_pages| remap(kernel, cpu, nr_pages));
    objects.purge_vmap_areas(cpu);
    let figures = objects.vmalloc_figures(cpu);
    let after = accounted_pages(kernel, cpu);
    print_line!(
        cpu,
        "stress: vmalloc: {} areas allocated, {} purges, {} areas and {} pages left, {} pages of tables",
        sum(&ALLOCATED),
        figures.purges,
        figures.areas,
        figures.used_pages,
        figures.table_pages
    );
    let is_empty = figures.areas == 0 && figures.used_pages == 0;
    if before != after {
        print_line!(cpu, "stress: vmalloc: {before} pages accounted for before and {after} after");
    }
    remapped && is_empty && before == after && sum(&FAULTS) == 0
}

/// Counts free pages, and those of slabs and page tables, which may stay.
fn accounted_pages(kernel: &BareKernel, cpu: &Cpu) -> u64 {
    let free = kernel.pages().check_invariants(cpu).unwrap_or(0);
    let stats = |node| {
        let stats = kernel.objects().node_stats(node);
        stats.slab_reclaimable() + stats.slab_unreclaimable()
    };
    let slabs: u64 = kernel.pages().nodes().iter().map(stats).sum();
    free + slabs + kernel.objects().vmalloc_figures(cpu).table_pages
}

fn found(fault: Fault) {
    add(&FAULTS, 1);
    report(fault);
}

/// Runs `job` with interrupts on, so that this CPU answers at any time.
fn with_interrupts(job: fn(&'static BareKernel) -> Result<(), Fault>) {
    let Some(kernel) = booted() else { return };
    let enabled = interrupts_save();
    interrupts_enable();
    if let Err(fault) = job(kernel) {
        found(fault);
    }
    if !enabled {
        interrupts_save();
    }
}

/// Allocates areas, and frees those that other CPUs left.
fn work(kernel: &'static BareKernel) -> Result<(), Fault> {
    let cpu = this_cpu();
    let number = u64::from(cpu.id().raw()) + 1;
    let mut rng = Rng::new(number + 77);
    for step in 0..sum(&STEPS) {
        if rng.below(PURGE) == 0 {
            kernel.objects().purge_vmap_areas(cpu);
        }
        let Some(place) = AREAS.get(rng.below(EXCHANGE as u64) as usize) else { continue };
        let new = allocate(kernel, cpu, &mut rng, number << 32 | step)?;
        let old = core::mem::replace(&mut *place.lock(cpu), new);
        old.map_or(Ok(()), |held| free(kernel, cpu, held))?;
    }
    Ok(())
}

fn allocate(kernel: &BareKernel, cpu: &Cpu, rng: &mut Rng, stamp: u64) -> Result<Option<Held>, Fault> {
    let large = rng.below(LARGE) == 0;
    let pages = if large { 512 + rng.below(20) } else { 1 + rng.below(16) };
    let request = VmallocRequest::new(pages * PAGE, "stress").with(Gfp::KERNEL | Gfp::NOWARN);
    let request = if large { request.huge() } else { request };
    let area = match kernel.objects().vmalloc_request(cpu, &request) {
        Ok(area) => area,
        Err(VmallocError::Memory(_)) => return Ok(None),
        Err(error) => return Err(Fault::NoArea(error)),
    };
    add(&ALLOCATED, 1);
    for_each_page(&area, |page, word| {
        // SAFETY: the area is mapped for writing and this CPU's alone.
        unsafe { word.write_volatile(stamp ^ page << 48) };
        Ok(())
    })?;
    Ok(Some(Held { area, stamp }))
}

fn free(kernel: &BareKernel, cpu: &Cpu, held: Held) -> Result<(), Fault> {
    let Held { area, stamp } = held;
    for_each_page(&area, |page, word| {
        // SAFETY: the area is mapped and this CPU's alone.
        let seen = unsafe { word.read_volatile() };
        if seen == stamp ^ page << 48 { Ok(()) } else { Err(Fault::WrongArea(VirtAddr::new(word.addr() as u64), seen)) }
    })?;
    kernel.objects().vfree(cpu, area);
    Ok(())
}

fn for_each_page(area: &VmallocArea, mut visit: impl FnMut(u64, *mut u64) -> Result<(), Fault>) -> Result<(), Fault> {
    (0..area.range().len() / PAGE).try_for_each(|page| visit(page, word_at(area.start(), page)))
}

/// Returns the last word of a page behind `start`.
fn word_at(start: VirtAddr, page: u64) -> *mut u64 {
    ptr::with_exposed_provenance_mut((start.raw() + page * PAGE + PAGE - 8) as usize)
}

/// Shows one set of pages, then another at the same addresses, and has every CPU look each time.
fn remap(kernel: &BareKernel, cpu: &Cpu, nr_pages: usize) -> bool {
    let objects = kernel.objects();
    objects.purge_vmap_areas(cpu);
    let mut blocks = [const { None }; 2 * 40];
    for block in blocks.iter_mut().take(2 * nr_pages) {
        *block = kernel.pages().alloc(cpu, Gfp::KERNEL, Order::ZERO).ok();
    }
    let mut pages = [Pfn::ZERO; 2 * 40];
    for (slot, block) in pages.iter_mut().zip(blocks.iter().flatten()) {
        *slot = block.pfn();
    }
    let mut first = None;
    let mut passed = true;
    for round in 0..REMAPS {
        let half = (round % 2) as usize * nr_pages;
        let set = pages.get(half..half + nr_pages).unwrap_or_default();
        stamp(kernel, blocks.get(half..half + nr_pages).unwrap_or_default(), round << 16);
        let Ok(area) = objects.vmap(cpu, set, Attributes::KERNEL_DATA, "stress") else { return false };
        passed &= *first.get_or_insert(area.start()) == area.start();
        let told = [area.start().raw(), nr_pages as u64, round << 16];
        // Relaxed: read in jobs, which synchronise.
        MAPPED.iter().zip(told).for_each(|(place, value)| place.store(value, Ordering::Relaxed));
        smp::run_on_all(|_| with_interrupts(look));
        objects.vunmap(cpu, area);
        objects.purge_vmap_areas(cpu);
    }
    blocks.into_iter().flatten().for_each(|block| kernel.pages().free(cpu, block));
    if !passed {
        print_line!(cpu, "stress: vmalloc: the lowest addresses were not taken again");
    }
    passed
}

/// Writes each page's number above `stamp` to it, through the direct map.
fn stamp(kernel: &BareKernel, blocks: &[Option<OwnedBlock>], stamp: u64) {
    for (page, block) in (0..).zip(blocks.iter().flatten()) {
        if let Some(start) = kernel.pages().address(block) {
            // SAFETY: the last word of an owned page.
            let word = unsafe { start.add(PAGE as usize - 8) }.cast::<u64>();
            // SAFETY: the direct map shows it, and the mapping of it is used by nobody at the moment.
            unsafe { word.write_volatile(stamp + page) };
        }
    }
}

/// Reads every page of the mapping on this CPU.
fn look(_: &'static BareKernel) -> Result<(), Fault> {
    let [start, nr_pages, stamp] = MAPPED.each_ref().map(sum);
    for page in 0..nr_pages {
        let word = word_at(VirtAddr::new(start), page);
        // SAFETY: mapped by the CPU that told where.
        let seen = unsafe { word.read_volatile() };
        if seen != stamp + page {
            return Err(Fault::Stale(VirtAddr::new(word.addr() as u64), seen));
        }
    }
    Ok(())
}
