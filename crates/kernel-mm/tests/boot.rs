//! Booting small machines on the host's heap.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use boot_memory::memblock::{BootContext, BootLog, Memblock, MemblockConfig, SilentLog};
use frame_table::{BootArena, HeapMemory, MemoryModel, PageFlags};
use mmkit_kernel_mm::{BootConfig, BootError, Deferral, HandOver, Kernel};
use object_allocator::vmstat::NodeItem;
use page_allocator::layout::{ArchRules, MovableRule, Release, ZoneLimits};
use page_allocator::{AllocRequest, Checks, Geometry, Tunables, Untraced};
use proc_files::parse::{BuddyInfo, MemInfo, PageTypeInfo, SlabInfo, VmStat, ZoneInfo};
use proc_files::{Config, Profile};
use sync::{Cpu, IrqControl};
use units::{CpuId, Gfp, NodeId, Order, Pfn, PfnRange, PhysAddr, PhysRange, ZoneType};

const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Lines(Vec<String>);

impl BootLog for Lines {
    fn line(&mut self, args: fmt::Arguments<'_>) {
        self.0.push(args.to_string());
    }
}

fn boot_cpu() -> Cpu {
    static MACHINES: AtomicU32 = AtomicU32::new(2000);
    // SAFETY: each machine number is used once, for its CPU 0.
    unsafe { Cpu::new(MACHINES.fetch_add(1, Ordering::Relaxed), CpuId::ZERO, IrqControl::NONE) }
}

fn memblock(ranges: &[(u64, u64, u64)]) -> Memblock {
    let mut memblock = Memblock::new(MemblockConfig::new());
    for &(start, bytes, node) in ranges {
        let mut silent = SilentLog;
        let context = &mut BootContext::new(&(), &mut silent, "test");
        let node = NodeId::try_new(node).unwrap();
        memblock.add_node(PhysAddr::new(start), bytes, node, Default::default(), context).unwrap();
    }
    memblock
}

fn config<'a>(end: u64, distance: &'a dyn Fn(NodeId, NodeId) -> u8, cpu_nodes: &'a [NodeId]) -> BootConfig<'a> {
    BootConfig {
        geometry: Geometry::FOUR_KIB,
        memory_model: MemoryModel::SPARSE_4K,
        arch: ArchRules::X86_64,
        limits: ZoneLimits::x86_64(PfnRange::new(Pfn::ZERO, PhysAddr::new(end).pfn_up(12))),
        movable: MovableRule::NONE,
        cpu_nodes,
        distance,
        tunables: Tunables::default(),
        release: Release::V6_12,
        checks: Checks::BAD_PAGE,
        page_owner: false,
        deferral: Deferral::None,
        hand_over: HandOver::Release,
        slab: Default::default(),
        described: None,
    }
}

fn distance(from: NodeId, to: NodeId) -> u8 {
    if from == to { 10 } else { 20 }
}

fn boot(memblock: &mut Memblock, end: u64, log: &mut Lines, cpu: &Cpu) -> Result<Kernel<HeapMemory>, BootError> {
    let memory = HeapMemory::new(PhysRange::new(PhysAddr::ZERO, PhysAddr::new(end))).unwrap();
    // SAFETY: the memory was just made for this memblock and lives until the process ends.
    let arena = unsafe { BootArena::new(memblock, &(), log) };
    Kernel::boot(memory, Untraced, arena, &config(end, &distance, &[NodeId::ZERO]), cpu)
}

#[test]
fn a_booted_machine_hands_out_what_memblock_left() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let mut memblock = memblock(&[(0x1000, 0x9e000, 0), (MIB, 63 * MIB, 0)]);
    let kernel = boot(&mut memblock, 64 * MIB, &mut log, &cpu).unwrap();
    let pages = kernel.pages();
    let managed: u64 = pages.zones().iter().map(|zone| zone.managed()).sum();
    assert_eq!(pages.check_invariants(&cpu), Ok(managed));
    let free: u64 = memblock.free_ranges(Pfn::new(u64::MAX)).map(PfnRange::nr_pages).sum();
    assert_eq!(managed, free);
    let dma = pages.zone(NodeId::ZERO, ZoneType::Dma).unwrap();
    assert_eq!((dma.span().start, dma.present()), (Pfn::new(1), 0x9e + (16 * 256 - 256)));
    let block = pages.alloc(&cpu, Gfp::KERNEL | Gfp::DMA, Order::new_truncate(4)).unwrap();
    assert!(block.pfn() < Pfn::new(0x1000));
    pages.free(&cpu, block);
    assert!(log.0.iter().any(|line| line == "Zone ranges:"));
    assert!(log.0.iter().any(|line| line.starts_with("Built 1 zonelists, mobility grouping on.")));
}

#[test]
fn reserved_memory_is_marked_and_never_handed_out() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let mut memblock = memblock(&[(MIB, 63 * MIB, 0)]);
    let mut silent = SilentLog;
    let context = &mut BootContext::new(&(), &mut silent, "test");
    memblock.reserve(PhysAddr::new(8 * MIB + 100), 5000, context).unwrap();
    let kernel = boot(&mut memblock, 64 * MIB, &mut log, &cpu).unwrap();
    let frames = &kernel.pages().map().frames;
    for pfn in [0x800, 0x801].map(Pfn::new) {
        assert!(frames.get(pfn).unwrap().flags().contains(PageFlags::RESERVED), "{pfn:?}");
    }
    assert!(!frames.get(Pfn::new(0x802)).unwrap().flags().contains(PageFlags::RESERVED));
    while let Ok(block) = kernel.pages().alloc(&cpu, Gfp::ATOMIC | Gfp::NOWARN, Order::ZERO) {
        assert!(!frames.get(block.pfn()).unwrap().flags().contains(PageFlags::RESERVED));
    }
}

#[test]
fn a_machine_without_memory_or_with_one_page_is_refused() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    assert_eq!(boot(&mut memblock(&[]), MIB, &mut log, &cpu).unwrap_err(), BootError::NoMemory);
    let one_page = boot(&mut memblock(&[(0x1000, 0x1000, 0)]), MIB, &mut log, &cpu);
    assert!(matches!(one_page, Err(BootError::Arena(_))), "{one_page:?}");
}

#[test]
fn two_nodes_fall_back_to_each_other() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let mut memblock = memblock(&[(0, 64 * MIB, 0), (64 * MIB, 64 * MIB, 1)]);
    let kernel = boot(&mut memblock, 128 * MIB, &mut log, &cpu).unwrap();
    assert!(log.0.iter().any(|line| line.trim_end() == "Fallback order for Node 1: 1 0"), "{:#?}", log.0);
    let pages = kernel.pages();
    let mut nodes = [false; 2];
    while let Ok(block) = pages.alloc(&cpu, Gfp::KERNEL | Gfp::NOWARN, Order::new_truncate(9)) {
        nodes[pages.zone_of(block.pfn()).unwrap().node().index()] = true;
    }
    assert_eq!(nodes, [true, true]);
}

/// Boots two nodes whose memory interleaves, and checks that each zone got its own node's memory once.
fn check_interleaved_nodes(deferral: Deferral) {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let pieces = [(0, 0), (256, 1), (512, 0), (768, 1)].map(|(start, node)| (start * MIB, 256 * MIB, node));
    let mut memblock = memblock(&pieces);
    let memory = HeapMemory::new(PhysRange::new(PhysAddr::ZERO, PhysAddr::new(1024 * MIB))).unwrap();
    // SAFETY: the memory was just made for this memblock and lives until the process ends.
    let arena = unsafe { BootArena::new(&mut memblock, &(), &mut log) };
    let cpu_nodes = [NodeId::ZERO];
    let config = BootConfig { deferral, ..config(1024 * MIB, &distance, &cpu_nodes) };
    let kernel = Kernel::boot(memory, Untraced, arena, &config, &cpu).unwrap();
    let pages = kernel.pages();
    while pages.alloc(&cpu, Gfp::KERNEL | Gfp::NOWARN, Order::new_truncate(9)).is_ok() {}
    let node_of = |pfn: Pfn| NodeId::try_new(pfn.raw() >> 16 & 1);
    let frames = &pages.map().frames;
    for pfn in (0..4 << 16).step_by(512).map(Pfn::new) {
        if frames.get(pfn).is_some_and(|frame| frame.page_type().is_none() && frame.count() == 0) {
            continue;
        }
        assert_eq!(pages.zone_of(pfn).map(|zone| zone.node()), node_of(pfn), "{pfn:?}");
    }
    let managed: u64 = pages.zones().iter().map(|zone| zone.managed()).sum();
    let free: u64 = memblock.free_ranges(Pfn::new(u64::MAX)).map(PfnRange::nr_pages).sum();
    assert!(managed <= free && managed > free / 2, "{managed} of {free} pages");
    if deferral == Deferral::None {
        assert_eq!(managed, free);
    }
}

#[test]
fn memory_of_interleaved_nodes_goes_to_its_own_node() {
    check_interleaved_nodes(Deferral::None);
    check_interleaved_nodes(Deferral::UntilNeeded);
}

#[test]
fn deferred_sections_come_when_they_are_needed() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let mut memblock = memblock(&[(0, 512 * MIB, 0)]);
    let memory = HeapMemory::new(PhysRange::new(PhysAddr::ZERO, PhysAddr::new(512 * MIB))).unwrap();
    // SAFETY: the memory was just made for this memblock and lives until the process ends.
    let arena = unsafe { BootArena::new(&mut memblock, &(), &mut log) };
    let config = BootConfig { deferral: Deferral::UntilNeeded, ..config(512 * MIB, &distance, &[NodeId::ZERO]) };
    let kernel = Kernel::boot(memory, Untraced, arena, &config, &cpu).unwrap();
    let pages = kernel.pages();
    let managed = || pages.zones().iter().map(|zone| zone.managed()).sum::<u64>();
    let early = managed();
    assert!(early < 320 << 8, "{early} pages at boot");
    let mut taken = 0;
    while let Ok(block) = pages.alloc(&cpu, Gfp::KERNEL | Gfp::NOWARN, Order::new_truncate(8)) {
        taken += block.order().nr_pages();
    }
    assert!(taken > 400 << 8, "{taken} pages in all");
    let free: u64 = memblock.free_ranges(Pfn::new(u64::MAX)).map(PfnRange::nr_pages).sum();
    assert_eq!(managed(), free);
    assert_eq!(pages.check_invariants(&cpu), Ok(free - taken));
}

#[test]
fn the_files_of_a_booted_machine_read_back_with_its_figures() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let mut memblock = memblock(&[(0x1000, 0x9e000, 0), (MIB, 63 * MIB, 0)]);
    let kernel = boot(&mut memblock, 64 * MIB, &mut log, &cpu).unwrap();
    let kept = kernel.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap();
    let proc = kernel.proc(&cpu, Profile::new(proc_files::Release::V6_18, Config::X86_64));
    let text = |write: &dyn Fn(&mut String) -> fmt::Result| {
        let mut text = String::new();
        write(&mut text).unwrap();
        text
    };
    let buddyinfo = text(&|out| proc.write_buddyinfo(out));
    let parsed = BuddyInfo::parse(&buddyinfo).unwrap();
    assert_eq!(parsed.to_string(), buddyinfo);
    let zoneinfo = text(&|out| proc.write_zoneinfo(out));
    assert_eq!(ZoneInfo::parse(&zoneinfo).unwrap().to_string(), zoneinfo);
    let pagetypeinfo = text(&|out| proc.write_pagetypeinfo(out));
    assert_eq!(PageTypeInfo::parse(&pagetypeinfo).unwrap().to_string(), pagetypeinfo);
    let vmstat = text(&|out| proc.write_vmstat(out));
    assert_eq!(VmStat::parse(&vmstat).unwrap().to_string(), vmstat);
    assert!(vmstat.contains("\npgalloc_dma32 1\n"), "{vmstat}");
    let meminfo = text(&|out| proc.write_meminfo(out));
    assert_eq!(MemInfo::parse(&meminfo).unwrap().to_string(), meminfo);
    kernel.pages().free(&cpu, kept);
}

#[test]
fn a_failed_allocation_is_reported_in_linuxs_words() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let kernel = boot(&mut memblock(&[(MIB, 63 * MIB, 0)]), 64 * MIB, &mut log, &cpu).unwrap();
    let request = AllocRequest::new(Gfp::KERNEL, Order::new_truncate(4));
    let proc = kernel.proc(&cpu, Profile::new(proc_files::Release::V6_12, Config::X86_64));
    let mut report = String::new();
    proc.write_allocation_failure(&mut report, "worker", &request).unwrap();
    assert!(
        report.starts_with("worker: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL), nodemask=(null)"),
        "{report}"
    );
    let free = kernel.pages().zones().iter().map(|zone| zone.free_pages()).sum::<u64>();
    assert!(report.contains(&format!(" free:{free} free_pcp:0 free_cma:0")), "{report}");
    assert!(report.contains("Node 0 DMA32: "), "{report}");
    assert!(report.lines().any(|line| line == format!("{} pages RAM", 63 << 8)), "{report}");
}

#[test]
fn every_cpu_has_a_unit_of_per_cpu_memory_before_there_are_pages() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let kernel = boot(&mut memblock(&[(MIB, 63 * MIB, 0)]), 64 * MIB, &mut log, &cpu).unwrap();
    let embedded = log.0.iter().find(|line| line.starts_with("percpu: Embedded ")).unwrap();
    let figures = kernel.objects().percpu().figures(&cpu);
    let sizes = figures.sizes.unwrap();
    assert_eq!((sizes.reserved_size, sizes.unit_size), (8192, 2 << 20));
    assert!(embedded.ends_with(&format!("pages/cpu s{} r8192 d{} u2097152", sizes.static_size, sizes.dyn_size)));
    assert_eq!(figures.populated, sizes.used() >> 12);
    kernel.objects().percpu().check_invariants(&cpu).unwrap();
}

#[test]
fn the_vmstat_worker_folds_counters_and_gives_pages_back_until_nothing_is_left_to_do() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let kernel = boot(&mut memblock(&[(MIB, 1023 * MIB, 0)]), 1024 * MIB, &mut log, &cpu).unwrap();
    kernel.start_objects(&cpu).unwrap();
    let (pages, counters) = (kernel.pages(), kernel.objects().vmstat());
    // More frees in a row than the lists of a calm CPU hold.
    let blocks: Vec<_> = (0..20_000).map(|_| pages.alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap()).collect();
    pages.free_bulk(&cpu, blocks);
    counters.mod_node(&cpu, NodeId::ZERO, NodeItem::NrKernelMiscReclaimable, 3);
    let (exact, estimate) = (counters.node(NodeId::ZERO, NodeItem::NrKernelMiscReclaimable), |item| {
        counters.node_estimate(NodeId::ZERO, item)
    });
    assert_eq!((exact, estimate(NodeItem::NrKernelMiscReclaimable)), (3, 0));
    let first = kernel.vmstat_update(&cpu);
    assert_eq!(estimate(NodeItem::NrKernelMiscReclaimable), 3);
    let rounds = (0..200).take_while(|_| kernel.vmstat_update(&cpu) > 0).count();
    assert!(first > 0 && rounds < 200, "{first} at first, then {rounds} rounds");
    let high = pages.zones().iter().map(|zone| u64::from(zone.pcp_limits().high_min)).sum::<u64>();
    let kept = pages.zones().iter().map(|zone| pages.pcp_pages(&cpu, zone)).sum::<u64>();
    assert!(kept <= high, "{kept} pages kept, {high} are the least high mark");
}

#[test]
fn the_first_objects_are_listed_and_counted() {
    let (cpu, mut log) = (boot_cpu(), Lines::default());
    let kernel = boot(&mut memblock(&[(MIB, 63 * MIB, 0)]), 64 * MIB, &mut log, &cpu).unwrap();
    kernel.start_objects(&cpu).unwrap();
    kernel.start_objects(&cpu).unwrap();
    let object = kernel.objects().kmalloc(&cpu, 100, Gfp::KERNEL).unwrap();
    let proc = kernel.proc(&cpu, Profile::new(proc_files::Release::V6_12, Config::X86_64));
    let text = |write: &dyn Fn(&mut String) -> fmt::Result| {
        let mut text = String::new();
        write(&mut text).unwrap();
        text
    };
    let slabinfo = text(&|out| proc.write_slabinfo(out));
    let parsed = SlabInfo::parse(&slabinfo).unwrap();
    assert_eq!((parsed.to_string(), parsed.nr_verbatim()), (slabinfo.clone(), 2));
    let names: Vec<&str> = parsed.caches().map(|cache| cache.name.as_str()).collect();
    let at = |name| names.iter().position(|&found| found == name).unwrap();
    let order = ["kmalloc-rcl-8", "kmalloc-256", "kmalloc-192", "kmalloc-128", "kmalloc-96", "kmalloc-8", "kmem_cache"];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{names:?}");
    let kmalloc = parsed.caches().find(|cache| cache.name == "kmalloc-128").unwrap();
    assert!(kmalloc.active_objs >= 1 && kmalloc.num_objs >= kmalloc.active_objs && kmalloc.num_slabs >= 1);

    let vmstat = text(&|out| proc.write_vmstat(out));
    let pages: u64 =
        vmstat.lines().find_map(|line| line.strip_prefix("nr_slab_unreclaimable ")).unwrap().parse().unwrap();
    let held: u64 = parsed.caches().map(|cache| cache.num_slabs * cache.pagesperslab).sum();
    assert!(pages > 0 && pages >= held, "{pages} pages counted, {held} in caches");
    let meminfo = text(&|out| proc.write_meminfo(out));
    let sizes = kernel.objects().percpu().figures(&cpu).populated * 4;
    for line in [format!("SUnreclaim:     {:8} kB", pages * 4), format!("Percpu:         {sizes:8} kB")] {
        assert!(meminfo.lines().any(|found| found == line), "{line}: {meminfo}");
    }
    let report = text(&|out| proc.write_mem_info(out));
    assert!(report.contains(&format!(" slab_reclaimable:0 slab_unreclaimable:{pages}\n")), "{report}");

    assert!(proc.is_slab_the_largest_user());
    let dump = text(&|out| proc.write_unreclaimable_slab(out));
    assert!(dump.starts_with("Unreclaimable slab info:\n") && dump.contains("\nkmalloc-128 "), "{dump}");
    let stats = text(&|out| proc.write_percpu_stats(out));
    assert!(stats.contains("\nChunk: <- Reserved Chunk\n") && stats.contains("\nChunk: <- First Chunk\n"), "{stats}");
    // SAFETY: allocated above.
    unsafe { kernel.objects().kfree(&cpu, object) };
}
