//! vmalloc on the hosted machine, seen through the CPUs' TLBs: every byte goes through the page tables in the machine's memory.

use mmkit_sim::description::{Machine, READY_MACHINES};
use mmkit_sim::{SimMachine, SimOptions, VirtFault};
use object_allocator::{AreaKind, ObjectAllocator, VmallocError, VmallocRequest};
use platform::{Attributes, MemoryType};
use sync::Cpu;
use units::{CpuId, Gfp, NodeId, NodeMask, Order, Pfn, PhysAddr, PhysRange, VirtAddr};

const PAGE: u64 = 4096;

fn boot(name: &str) -> SimMachine {
    SimMachine::boot(&Machine::ready(name).unwrap(), &SimOptions::default()).unwrap()
}

type Objects = ObjectAllocator<mmkit_sim::SimPlatform, page_allocator::NoPressure>;

fn objects<'m>(machine: &'m SimMachine, cpu: &Cpu) -> &'m Objects {
    let objects = machine.kernel().objects();
    objects.start(cpu).unwrap();
    objects
}

fn write(machine: &SimMachine, cpu: &Cpu, virt: VirtAddr, bytes: &[u8]) -> Result<(), VirtFault> {
    // SAFETY: tests write to areas that they hold, and nobody else uses them.
    unsafe { machine.platform().write_virt(cpu, virt, bytes) }
}

fn read(machine: &SimMachine, cpu: &Cpu, virt: VirtAddr, len: usize) -> Result<Vec<u8>, VirtFault> {
    let mut bytes = vec![0; len];
    // SAFETY: as in `write`.
    unsafe { machine.platform().read_virt(cpu, virt, &mut bytes) }.map(|()| bytes)
}

/// Free pages after all per-CPU lists were drained.
fn free_pages(machine: &SimMachine, cpu: &Cpu) -> u64 {
    machine.pages().drain_all_pages(cpu, NodeMask::ALL);
    machine.pages().check_invariants(cpu).unwrap()
}

/// Free pages once a first area brought up what stays: slabs and the tables under the root.
fn settled_pages(machine: &SimMachine, cpu: &Cpu) -> u64 {
    let objects = objects(machine, cpu);
    for _ in 0..2 {
        let area = objects.vmalloc(cpu, PAGE, "settle").unwrap();
        objects.vfree(cpu, area);
        objects.purge_vmap_areas(cpu);
    }
    free_pages(machine, cpu)
}

#[test]
fn an_area_is_contiguous_and_ends_in_a_guard_page() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let area = objects.vmalloc(&cpu, 5 * PAGE - 7, "test").unwrap();
    assert_eq!(area.start(), VirtAddr::new(0xffff_c900_0000_0000));
    assert_eq!(area.range().len(), 5 * PAGE);
    let text: Vec<u8> = (0..5 * PAGE).map(|at| (at % 251) as u8).collect();
    write(&machine, &cpu, area.start(), &text).unwrap();
    assert_eq!(read(&machine, &cpu, area.start(), text.len()).unwrap(), text);
    let guard = area.range().end;
    assert_eq!(read(&machine, &cpu, guard, 1), Err(VirtFault::NotMapped(guard)));
    let next = objects.vmalloc(&cpu, PAGE, "test").unwrap();
    assert_eq!(next.start(), guard.saturating_add(PAGE));
    let mut seen = vec![0; text.len()];
    objects.read_area(&cpu, &area, 0, &mut seen).unwrap();
    assert_eq!(seen, text);
    objects.vfree(&cpu, area);
    objects.vfree(&cpu, next);
}

#[test]
fn zeroed_areas_are_zero_on_every_ready_machine() {
    for name in READY_MACHINES.iter().map(|ready| ready.name) {
        let machine = boot(name);
        let cpu = machine.cpu(CpuId::ZERO).unwrap();
        let objects = objects(&machine, &cpu);
        let bytes = 9 << machine.pages().map().geometry.page_shift;
        for _ in 0..3 {
            let area = objects.vzalloc(&cpu, bytes, "test").unwrap();
            let found = read(&machine, &cpu, area.start(), bytes as usize).unwrap();
            assert!(found.iter().all(|&byte| byte == 0), "{name}");
            write(&machine, &cpu, area.start(), &vec![0x5a; bytes as usize]).unwrap();
            objects.vfree(&cpu, area);
        }
    }
}

#[test]
fn pages_of_high_memory_are_reached_through_their_mapping_alone() {
    let machine = boot("i386-highmem");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let area = objects.vmalloc(&cpu, 2 * PAGE, "test").unwrap();
    let pfn = objects.vmalloc_to_pfn(&cpu, area.start()).unwrap();
    assert_eq!(machine.pages().zone_of(pfn).unwrap().kind(), units::ZoneType::HighMem);
    write(&machine, &cpu, area.start(), b"high").unwrap();
    assert_eq!(read(&machine, &cpu, area.start(), 4).unwrap(), b"high");
    assert!(objects.read_area(&cpu, &area, 0, &mut [0; 4]).is_err());
    objects.vfree(&cpu, area);
}

#[test]
fn large_areas_have_large_leaves_and_small_ones_at_the_end() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let before = settled_pages(&machine, &cpu);
    let objects = objects(&machine, &cpu);
    let bytes = (4 << 20) + 3 * PAGE;
    let area = objects.vmalloc_huge(&cpu, bytes, "test").unwrap();
    assert_eq!(area.start().raw() % (2 << 20), 0);
    let first = objects.vmalloc_to_pfn(&cpu, area.start()).unwrap();
    assert!(first.is_aligned(Order::new_truncate(9)));
    assert_eq!(objects.vmalloc_to_pfn(&cpu, area.start().saturating_add(511 * PAGE)), Some(first.add(511)));
    write(&machine, &cpu, area.start().saturating_add(bytes - 4), b"last").unwrap();
    assert_eq!(objects.vmalloc_figures(&cpu).used_pages, bytes / PAGE);
    objects.vfree(&cpu, area);
    objects.purge_vmap_areas(&cpu);
    assert_eq!(free_pages(&machine, &cpu), before);
}

#[test]
fn given_pages_show_in_their_order_and_stay_whose_they_are() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let blocks: Vec<_> = (0..3).map(|_| machine.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap()).collect();
    let pages: Vec<Pfn> = blocks.iter().rev().map(|block| block.pfn()).collect();
    let area = objects.vmap(&cpu, &pages, Attributes::KERNEL_DATA, "test").unwrap();
    for (page, &pfn) in (0..).zip(&pages) {
        assert_eq!(objects.vmalloc_to_pfn(&cpu, area.start().saturating_add(page * PAGE)), Some(pfn));
    }
    let (start, free) = (area.start(), free_pages(&machine, &cpu));
    objects.vunmap(&cpu, area);
    assert_eq!(objects.vmalloc_to_pfn(&cpu, start), None);
    assert_eq!(free_pages(&machine, &cpu), free);
    blocks.into_iter().for_each(|block| machine.pages().free(&cpu, block));
    let read_only = objects.vmap(&cpu, &pages, Attributes::KERNEL_READ_ONLY, "test").unwrap();
    assert_eq!(write(&machine, &cpu, read_only.start(), b"x"), Err(VirtFault::ReadOnly(read_only.start())));
    objects.vunmap(&cpu, read_only);
}

#[test]
fn devices_are_mapped_from_their_first_byte_and_memory_is_refused() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let registers = PhysRange::with_len(PhysAddr::new(0xfed0_0010), 0x400);
    let mapped = objects.ioremap(&cpu, registers, MemoryType::Device, "hpet_enable").unwrap();
    assert_eq!(mapped.start().raw() % PAGE, 0x10);
    assert_eq!(objects.vmalloc_to_pfn(&cpu, mapped.start()), Some(Pfn::new(0xfed00)));
    assert_eq!(read(&machine, &cpu, mapped.start(), 1), Err(VirtFault::NoMemory(registers.start)));
    let mut found = None;
    objects.for_each_area(&cpu, |area| found = Some(*area));
    let found = found.unwrap();
    assert_eq!(
        (found.kind, found.phys, found.caller),
        (Some(AreaKind::Ioremap), Some(PhysAddr::new(0xfed0_0000)), "hpet_enable")
    );
    objects.vunmap(&cpu, mapped.into_area());
    let large = PhysRange::with_len(PhysAddr::new(0x1_0000_0000), 6 << 20);
    let mapped = objects.ioremap(&cpu, large, MemoryType::WriteCombining, "framebuffer").unwrap();
    assert_eq!(mapped.start().raw() % (2 << 20), 0);
    objects.vunmap(&cpu, mapped.into_area());
    let memory = PhysRange::with_len(PhysAddr::new(64 << 20), PAGE);
    assert_eq!(objects.ioremap(&cpu, memory, MemoryType::Device, "test"), Err(VmallocError::IsMemory(memory)));
}

#[test]
fn node_bound_pages_are_counted_on_their_node() {
    let machine = boot("server-2node");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let one = NodeId::try_new(1).unwrap();
    let area = objects.vmalloc_node(&cpu, 6 * PAGE, one, "test").unwrap();
    objects.for_each_area(&cpu, |area| assert_eq!((area.nr_pages, area.node_pages[1]), (6, 6)));
    objects.vfree(&cpu, area);
}

#[test]
fn nothing_is_flushed_before_enough_waits_and_then_all_at_once() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let digits = u64::from(usize::BITS - machine.platform().nr_cpus().leading_zeros());
    let may_wait = digits * (32 << 20);
    let before = machine.platform().tlb_flushes();
    let mut waiting = 0;
    while waiting + (1 << 20) + PAGE <= may_wait {
        let area = objects.vmalloc(&cpu, 1 << 20, "test").unwrap();
        write(&machine, &cpu, area.start(), b"used").unwrap();
        objects.vfree(&cpu, area);
        waiting += (1 << 20) + PAGE;
        assert_eq!(objects.vmalloc_figures(&cpu).lazy_bytes, waiting);
    }
    assert_eq!(machine.platform().tlb_flushes(), before);
    let area = objects.vmalloc(&cpu, 1 << 20, "test").unwrap();
    objects.vfree(&cpu, area);
    assert_eq!(machine.platform().tlb_flushes(), before + 1);
    assert_eq!((objects.vmalloc_figures(&cpu).lazy_bytes, objects.vmalloc_figures(&cpu).areas), (0, 0));
    let area = objects.vmalloc(&cpu, PAGE, "test").unwrap();
    assert_eq!(area.start(), VirtAddr::new(0xffff_c900_0000_0000));
    write(&machine, &cpu, area.start(), b"again").unwrap();
    objects.vfree(&cpu, area);
}

#[test]
fn use_after_vfree_is_found_by_the_cpu_that_still_knows_the_translation() {
    let machine = boot("laptop");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let other = machine.cpu(CpuId::try_new(1).unwrap()).unwrap();
    let objects = objects(&machine, &cpu);
    let area = objects.vmalloc(&cpu, PAGE, "test").unwrap();
    let start = area.start();
    write(&machine, &other, start, b"mine").unwrap();
    objects.vfree(&cpu, area);
    assert!(matches!(read(&machine, &other, start, 1), Err(VirtFault::Stale(_))));
    objects.purge_vmap_areas(&cpu);
    assert_eq!(read(&machine, &other, start, 1), Err(VirtFault::NotMapped(start)));
    let again = objects.vmalloc(&cpu, PAGE, "test").unwrap();
    assert_eq!(again.start(), start);
    write(&machine, &other, start, b"next").unwrap();
    objects.vfree(&cpu, again);
}

#[test]
fn short_mappings_come_from_one_block_a_cpu_and_cost_one_flush() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let before = settled_pages(&machine, &cpu);
    let objects = objects(&machine, &cpu);
    let blocks: Vec<_> = (0..4).map(|_| machine.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap()).collect();
    let pages: Vec<Pfn> = blocks.iter().map(|block| block.pfn()).collect();
    let flushes = machine.platform().tlb_flushes();
    let first = objects.vm_map_ram(&cpu, &pages).unwrap();
    let mut seen = first.range().end;
    objects.vm_unmap_ram(&cpu, first).unwrap();
    for _ in 0..2000 {
        let mapping = objects.vm_map_ram(&cpu, &pages).unwrap();
        assert!(mapping.range().start >= seen, "an address was handed out twice");
        seen = mapping.range().end;
        write(&machine, &cpu, mapping.range().start, b"ram").unwrap();
        objects.vm_unmap_ram(&cpu, mapping).unwrap();
    }
    assert_eq!(machine.platform().tlb_flushes(), flushes, "eight blocks of 4 MiB may wait");
    let many: Vec<Pfn> = pages.iter().copied().cycle().take(40).collect();
    let long = objects.vm_map_ram(&cpu, &many).unwrap();
    assert_eq!(objects.vmalloc_to_pfn(&cpu, long.range().start.saturating_add(39 * PAGE)), Some(pages[3]));
    objects.vm_unmap_ram(&cpu, long).unwrap();
    objects.purge_vmap_areas(&cpu);
    assert_eq!(objects.vmalloc_figures(&cpu).areas, 0);
    blocks.into_iter().for_each(|block| machine.pages().free(&cpu, block));
    assert_eq!(free_pages(&machine, &cpu), before);
}

#[test]
fn large_memory_of_either_kind_is_freed_by_one_call() {
    use object_allocator::KvMemory;
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let small = objects.kvmalloc(&cpu, 100, Gfp::KERNEL, "test").unwrap();
    assert!(matches!(small, KvMemory::Kmalloc(_)));
    let large = objects.kvzalloc(&cpu, 32 << 20, Gfp::KERNEL, "test").unwrap();
    let KvMemory::Vmalloc(area) = &large else { panic!("no block has 32 MiB") };
    assert_eq!(read(&machine, &cpu, area.start(), 4096).unwrap(), vec![0; 4096]);
    assert!(objects.kvmalloc(&cpu, 32 << 20, Gfp::ATOMIC, "test").is_err());
    for memory in [small, large] {
        // SAFETY: nobody uses it any more.
        unsafe { objects.kvfree(&cpu, memory) };
    }
}

#[test]
fn addresses_that_are_freed_twice_or_unknown_are_refused() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let area = objects.vmalloc(&cpu, 3 * PAGE, "test").unwrap();
    let start = objects.vmalloc_into_raw(area);
    assert!(objects.is_vmalloc_addr(start));
    // SAFETY: nobody uses the area.
    let free = |virt| unsafe { objects.vfree_raw(&cpu, virt) };
    assert!(free(start.saturating_add(PAGE)).is_err());
    assert_eq!(free(start), Ok(()));
    assert!(free(start).is_err());
}

#[test]
fn impossible_areas_are_refused() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    assert_eq!(objects.vmalloc(&cpu, 0, "test"), Err(VmallocError::BadSize(0)));
    assert_eq!(objects.vmalloc(&cpu, 1 << 40, "test"), Err(VmallocError::BadSize(1 << 40)));
    let odd = VmallocRequest { align: 3 * PAGE, ..VmallocRequest::new(PAGE, "test") };
    assert_eq!(objects.vmalloc_request(&cpu, &odd), Err(VmallocError::BadAlign(3 * PAGE)));
    let aligned = VmallocRequest { align: 1 << 30, ..VmallocRequest::new(PAGE, "test") };
    let taken = objects.vmalloc(&cpu, PAGE, "test").unwrap();
    let area = objects.vmalloc_request(&cpu, &aligned).unwrap();
    assert_eq!(area.start().raw() % (1 << 30), 0);
    objects.vfree(&cpu, area);
    objects.vfree(&cpu, taken);
}

#[test]
fn a_purge_makes_room_when_no_gap_is_left() {
    let machine = boot("i386-highmem");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    // 120 MiB of addresses: 7 areas of 16 MiB fit, and all of them may wait.
    for _ in 0..7 {
        let area = objects.vmalloc(&cpu, 15 << 20, "test").unwrap();
        objects.vfree(&cpu, area);
    }
    let large = objects.vmalloc(&cpu, 100 << 20, "test").unwrap();
    assert_eq!(objects.vmalloc(&cpu, 30 << 20, "test"), Err(VmallocError::NoAddresses));
    objects.vfree(&cpu, large);
}

#[test]
fn a_failure_of_any_allocation_leaves_nothing_behind() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let before = settled_pages(&machine, &cpu);
    let objects = objects(&machine, &cpu);
    let requests = [
        VmallocRequest::new(70 * PAGE, "test"),
        VmallocRequest::new((2 << 20) + 66 * PAGE, "test").huge(),
        VmallocRequest::new(3 * PAGE, "test").on_node(NodeId::ZERO).with(Gfp::KERNEL | Gfp::ZERO),
        VmallocRequest { align: 1 << 40, ..VmallocRequest::new(3 * PAGE, "test") },
    ];
    for request in requests {
        let mut failures = 0;
        for skip in 0.. {
            machine.pages().arm_faults(skip, 1);
            let outcome = objects.vmalloc_request(&cpu, &request);
            machine.pages().arm_faults(u64::MAX, 0);
            match outcome {
                Ok(area) => {
                    objects.vfree(&cpu, area);
                    if failures > 0 && skip > 200 {
                        break;
                    }
                }
                Err(error) => {
                    assert!(matches!(error, VmallocError::Memory(_)), "{error}");
                    failures += 1;
                }
            }
            objects.purge_vmap_areas(&cpu);
            let figures = objects.vmalloc_figures(&cpu);
            assert_eq!((figures.areas, figures.used_pages, figures.lazy_bytes), (0, 0, 0));
        }
        assert!(failures > 0);
        let kept = objects.vmalloc_figures(&cpu).table_pages - 1;
        assert_eq!(free_pages(&machine, &cpu) + kept, before, "{request:?}");
    }
}

#[test]
fn vmallocinfo_tells_areas_from_those_that_wait() {
    let machine = boot("server-2node");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let first = objects.vmalloc(&cpu, 3 * PAGE, "first_caller").unwrap();
    let second = objects.vmalloc_node(&cpu, 4 * PAGE, NodeId::try_new(1).unwrap(), "kernel_clone").unwrap();
    let device = PhysRange::with_len(PhysAddr::new(0xfed0_0000), PAGE);
    let device = objects.ioremap(&cpu, device, MemoryType::Device, "hpet_enable").unwrap();
    let ram = objects.vm_map_ram(&cpu, &[Pfn::new(0x1000)]).unwrap();
    objects.vfree(&cpu, first);
    let (mut text, mut meminfo) = (String::new(), String::new());
    machine.proc(&cpu).write_vmallocinfo(&mut text).unwrap();
    machine.proc(&cpu).write_meminfo(&mut meminfo).unwrap();
    assert_eq!(
        text,
        "0xffffc90000004000-0xffffc90000009000   20480 kernel_clone pages=4 vmalloc N1=4\n\
         0xffffc90000009000-0xffffc9000000b000    8192 hpet_enable phys=0x00000000fed00000 ioremap\n\
         0xffffc90000400000-0xffffc90000800000 4194304 vm_map_ram\n\
         0xffffc90000000000-0xffffc90000004000   16384 unpurged vm_area\n"
    );
    assert!(meminfo.contains("\nVmallocTotal:   34359738367 kB\nVmallocUsed:          16 kB\n"), "{meminfo}");
    objects.vm_unmap_ram(&cpu, ram).unwrap();
    objects.vunmap(&cpu, device.into_area());
    objects.vfree(&cpu, second);
}

#[test]
fn a_failure_of_any_allocation_maps_nothing_of_given_pages() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let pages: Vec<Pfn> = (0..600).map(|page| Pfn::new(0x1000 + page)).collect();
    let device = PhysRange::with_len(PhysAddr::new(0xfed0_0000), 3 * PAGE);
    let mut failures = [0; 3];
    for skip in 0..60 {
        machine.pages().arm_faults(skip, 1);
        let area = objects.vmap(&cpu, &pages, Attributes::KERNEL_DATA, "test");
        machine.pages().arm_faults(skip, 1);
        let mapping = objects.vm_map_ram(&cpu, &pages[..4]);
        machine.pages().arm_faults(skip, 1);
        let registers = objects.ioremap(&cpu, device, MemoryType::Device, "test");
        machine.pages().arm_faults(u64::MAX, 0);
        failures[0] += u64::from(area.is_err());
        failures[1] += u64::from(mapping.is_err());
        failures[2] += u64::from(registers.is_err());
        area.into_iter().for_each(|area| objects.vunmap(&cpu, area));
        mapping.into_iter().for_each(|mapping| objects.vm_unmap_ram(&cpu, mapping).unwrap());
        registers.into_iter().for_each(|mapped| objects.vunmap(&cpu, mapped.into_area()));
        objects.purge_vmap_areas(&cpu);
        let figures = objects.vmalloc_figures(&cpu);
        assert_eq!((figures.areas, figures.lazy_bytes), (0, 0));
        assert!(figures.table_pages <= 1, "the table under the root stays");
    }
    assert!(failures.iter().all(|&count| count > 0), "{failures:?}");
}

#[test]
fn kernel_bytes_are_read_across_holes_and_devices_read_as_zeros() {
    let machine = boot("small");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = objects(&machine, &cpu);
    let mut first = objects.vmalloc(&cpu, PAGE, "test").unwrap();
    let device = PhysRange::with_len(PhysAddr::new(0xfed0_0000), PAGE);
    let device = objects.ioremap(&cpu, device, MemoryType::Device, "test").unwrap();
    objects.write_area(&cpu, &mut first, PAGE - 4, b"last").unwrap();
    assert!(objects.write_area(&cpu, &mut first, PAGE - 3, b"last").is_err());
    let mut bytes = vec![0xff; 3 * PAGE as usize];
    // SAFETY: nobody writes to the area meanwhile.
    let read = unsafe { objects.vread(&cpu, first.start(), &mut bytes) };
    assert_eq!(read as u64, PAGE);
    assert_eq!(&bytes[PAGE as usize - 4..PAGE as usize], b"last");
    assert!(bytes[PAGE as usize..].iter().all(|&byte| byte == 0));
    objects.vunmap(&cpu, device.into_area());
    objects.vfree(&cpu, first);
}
