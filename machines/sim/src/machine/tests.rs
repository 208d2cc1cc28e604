//! Tests of `SimMachine`: every ready machine boots, large ones cheaply, impossible ones are refused.

use units::{Gfp, NodeMask, Order, ZoneType};

use super::*;
use crate::description::READY_MACHINES;

fn boot(name: &str, options: &SimOptions) -> Result<SimMachine, MachineError> {
    SimMachine::boot(&Machine::ready(name).unwrap(), options)
}

#[test]
fn every_ready_machine_boots_and_serves_pages_from_each_node() {
    for ready in READY_MACHINES {
        let machine = boot(ready.name, &SimOptions::default()).unwrap();
        let (cpu, pages) = (machine.cpu(CpuId::ZERO).unwrap(), machine.pages());
        let managed = pages.zones().iter().map(|zone| zone.managed()).sum();
        assert_eq!(pages.check_invariants(&cpu), Ok(managed), "{}", ready.name);
        for node in pages.nodes().iter() {
            let block = pages.alloc_on_node(&cpu, Gfp::HIGHUSER_MOVABLE, Order::ZERO, node).unwrap();
            assert_eq!(pages.zone_of(block.pfn()).unwrap().node(), node, "{}", ready.name);
            pages.free(&cpu, block);
        }
        assert!(machine.boot_log().iter().any(|line| line == "Zone ranges:"), "{}", ready.name);
    }
}

#[test]
fn the_largest_machine_boots_in_little_host_memory() {
    let description = Machine::ready("huge-16t").unwrap();
    assert!(description.usable_bytes() > 15 << 40 && description.nodes.len() == 64);
    let start = std::time::Instant::now();
    let machine = SimMachine::boot(&description, &SimOptions::default()).unwrap();
    let (time, used) = (start.elapsed(), machine.host_use().unwrap());
    println!("16 TiB, 64 nodes: booted in {time:?} with {} KiB of host memory", (used.ram + used.memmap) >> 10);
    assert!(used.ram + used.memmap < 1 << 30, "{used:?}");
}

#[test]
fn options_reach_the_kernel() {
    let options = SimOptions { append: "mem=256M movablecore=64M".into(), ..SimOptions::default() };
    let machine = boot("small", &options).unwrap();
    let zone = machine.pages().zone(NodeId::ZERO, ZoneType::Movable).unwrap();
    assert_eq!(zone.span().end.raw(), (256 << 20) >> 12);
    let refused = boot("small", &SimOptions { append: "mem=lots".into(), ..SimOptions::default() });
    assert!(matches!(refused, Err(MachineError::CommandLine(_))));
}

#[test]
fn only_memory_that_is_mirrored_or_below_4_gib_is_the_kernels_under_kernelcore_mirror() {
    let text = r#"
        arch = "x86-64"
        nodes = [{ cpus = 1, memory = ["0+1G", "4G+1G"] }]
        firmware = [
            { range = "0+1G", kind = "usable" },
            { range = "4G+256M", kind = "usable", mirror = true },
            { range = "0x110000000-0x13fffffff", kind = "usable" },
        ]"#;
    let warns = |machine: &SimMachine, words: &str| machine.boot_log().iter().any(|line| line.contains(words));
    let machine = boot_text(text, "kernelcore=mirror");
    let zone = |kind| machine.pages().zone(NodeId::ZERO, kind).unwrap().present();
    assert_eq!((zone(ZoneType::Normal), zone(ZoneType::Movable)), ((256 << 20) >> 12, (768 << 20) >> 12));
    assert!(warns(&machine, "unmirrored kernel memory"), "{:?}", machine.boot_log());
    let plain = boot_text(&text.replace(", mirror = true", ""), "kernelcore=mirror");
    assert!(plain.pages().zone(NodeId::ZERO, ZoneType::Movable).is_none_or(|zone| zone.present() == 0));
    assert!(warns(&plain, "no mirror memory"), "{:?}", plain.boot_log());
}

#[test]
fn memory_that_can_be_unplugged_is_movable_under_movable_node() {
    let text = r#"
        arch = "x86-64"
        nodes = [{ cpus = 1, memory = ["0+1G"] }, { memory = ["4G+1G"], hotplug = true }]"#;
    let one = NodeId::try_new(1).unwrap();
    let movable =
        |append| boot_text(text, append).pages().zone(one, ZoneType::Movable).map_or(0, |zone| zone.present());
    assert_eq!([movable("movable_node"), movable("")], [(1 << 30) >> 12, 0]);
}

#[test]
fn options_that_do_nothing_are_named_in_the_log() {
    let options = SimOptions { append: "mem=256M cma=16M mmkit.seed=1 bogus".into(), ..SimOptions::default() };
    let machine = boot("small", &options).unwrap();
    let expected = "Unknown kernel command line parameters \"cma=16M bogus\", will be passed to user space.";
    assert_eq!(machine.boot_log().iter().filter(|line| line.starts_with("Unknown")).collect::<Vec<_>>(), [expected]);
    let quiet = boot("small", &SimOptions::default()).unwrap();
    assert!(!quiet.boot_log().iter().any(|line| line.starts_with("Unknown")));
}

#[test]
fn requests_fail_after_the_boot_as_often_as_the_option_says() {
    let append = |option: &str| SimOptions { append: option.into(), ..SimOptions::default() };
    let machine = boot("small", &append("fail_page_alloc=1,100,0,2")).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let alloc = |gfp| machine.pages().alloc(&cpu, gfp, Order::ZERO).map(|block| machine.pages().free(&cpu, block));
    let flags = [Gfp::KERNEL, Gfp::KERNEL | Gfp::NOFAIL, Gfp::ATOMIC, Gfp::KERNEL, Gfp::KERNEL];
    assert_eq!(flags.map(|gfp| alloc(gfp).is_ok()), [false, true, false, true, true]);
    assert!(!machine.boot_log().iter().any(|line| line.starts_with("Unknown")));
    let refused = boot("small", &append("fail_page_alloc=10,100,0,2")).unwrap_err().to_string();
    assert!(refused.contains("`fail_page_alloc=10,100,0,2`: expected interval 0 or 1"), "{refused}");
}

#[test]
fn less_memory_is_refused_or_works_but_never_panics() {
    let mut booted = 0;
    for pages in (1..64).chain((64..2048).step_by(61)).chain([4096, 16384]) {
        let append = format!("memmap=exactmap memmap={}K@1M", pages * 4);
        match boot("small", &SimOptions { append, ..SimOptions::default() }) {
            Ok(machine) => {
                booted += 1;
                let cpu = machine.cpu(CpuId::ZERO).unwrap();
                let managed = machine.pages().zones().iter().map(|zone| zone.managed()).sum();
                assert_eq!(machine.pages().check_invariants(&cpu), Ok(managed), "{pages} pages");
            }
            Err(MachineError::Kernel(_) | MachineError::Memblock(_)) => {}
            Err(other) => panic!("{pages} pages: {other}"),
        }
    }
    assert!(booted > 2);
}

#[test]
fn high_memory_is_handed_out_unmapped() {
    let machine = boot("i386-highmem", &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let block = machine.pages().alloc(&cpu, Gfp::HIGHUSER, Order::ZERO).unwrap();
    assert_eq!(machine.pages().zone_of(block.pfn()).unwrap().kind(), ZoneType::HighMem);
    assert_eq!(machine.pages().address(&block), None);
    machine.pages().free(&cpu, block);
}

#[test]
fn zeroed_pages_are_zero_after_they_were_written() {
    let machine = boot("small", &SimOptions { checks: Checks::POISON, ..SimOptions::default() }).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    for _ in 0..4 {
        let block = machine.pages().alloc(&cpu, Gfp::KERNEL | Gfp::ZERO, Order::ZERO).unwrap();
        let start = machine.pages().address(&block).unwrap();
        // SAFETY: the block is owned, mapped and 4096 bytes long.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), 4096) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(0x5a);
        machine.pages().free(&cpu, block);
    }
}

#[test]
fn interrupts_allocate_from_the_kernel_that_they_interrupt() {
    let rate = Some(InterruptRate { one_in: 3, seed: 5 });
    let machine = boot("small", &SimOptions { interrupts: rate, ..SimOptions::default() }).unwrap();
    machine.on_interrupt(|kernel, cpu, _| {
        let block = kernel.pages().alloc(cpu, Gfp::ATOMIC, Order::ZERO).unwrap();
        kernel.pages().free(cpu, block);
    });
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    for order in (0..=10).cycle().take(500) {
        let block = machine.pages().alloc(&cpu, Gfp::KERNEL, Order::new_truncate(order)).unwrap();
        machine.pages().free(&cpu, block);
    }
    assert!(machine.platform().interrupts_delivered() > 10);
    // An interrupt between the looks at two lists would move pages from one to the other.
    machine.on_interrupt(|_, _, _| {});
    machine.pages().drain_all_pages(&cpu, NodeMask::ALL);
    let managed = machine.pages().zones().iter().map(|zone| zone.managed()).sum();
    assert_eq!(machine.pages().check_invariants(&cpu), Ok(managed));
}

#[test]
fn two_machines_share_nothing() {
    let (first, second) =
        (boot("small", &SimOptions::default()).unwrap(), boot("small", &SimOptions::default()).unwrap());
    let (one, two) = (first.cpu(CpuId::ZERO).unwrap(), second.cpu(CpuId::ZERO).unwrap());
    let before = second.pages().check_invariants(&two);
    let block = first.pages().alloc(&one, Gfp::KERNEL, Order::new_truncate(10)).unwrap();
    assert_eq!(second.pages().check_invariants(&two), before);
    first.pages().free(&one, block);
}

#[test]
fn a_released_block_costs_no_host_memory_and_reads_as_zeros() {
    let machine = boot("small", &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let mut block = machine.pages().alloc(&cpu, Gfp::KERNEL, Order::new_truncate(4)).unwrap();
    let start = machine.pages().address(&block).unwrap();
    // SAFETY: the block is owned, mapped and 16 pages long.
    unsafe { start.write_bytes(7, 16 << 12) };
    let before = machine.host_use().unwrap();
    assert_eq!(machine.release(&mut block).unwrap(), 16 << 12);
    assert_eq!(before.ram - machine.host_use().unwrap().ram, 16 << 12);
    // SAFETY: as for the write.
    assert_eq!(unsafe { start.read() }, 0);
    machine.pages().free(&cpu, block);
}

fn boot_text(text: &str, append: &str) -> SimMachine {
    let options = SimOptions { append: append.to_owned(), ..SimOptions::default() };
    SimMachine::boot(&Machine::parse("test", text).unwrap(), &options).unwrap()
}

#[test]
fn a_node_of_cpus_alone_is_set_up_without_memory() {
    const NODES: &str = "arch = \"x86-64\"\nnodes = [{ cpus = 1, memory = [\"0+128M\"] }, { cpus = 1 }]\n";
    let memoryless = |text: &str| -> Vec<String> {
        let machine = boot_text(text, "");
        machine.boot_log().iter().filter(|line| line.ends_with("as memoryless")).cloned().collect()
    };
    assert_eq!(memoryless(NODES), ["Initmem setup node 1 as memoryless"]);
    let older = memoryless(&format!("linux = \"6.1\"\n{NODES}"));
    assert_eq!(older, ["Initializing node 1 as memoryless", "Initmem setup node 1 as memoryless"]);
    let machine = boot_text(NODES, "");
    let cpu = machine.cpu(CpuId::try_new(1).unwrap()).unwrap();
    let mut files = [const { String::new() }; 2];
    machine.proc(&cpu).write_pagetypeinfo(&mut files[0]).unwrap();
    machine.proc(&cpu).write_zoneinfo(&mut files[1]).unwrap();
    assert!(!files[0].contains("Node    1") && files[1].contains("Node 1, zone   Normal\n"), "{files:?}");
    assert!(machine.boot_log().iter().any(|line| line.starts_with("Built 2 zonelists")));
    assert_eq!(
        machine.pages().alloc(&cpu, Gfp::KERNEL, Order::ZERO).map(|block| machine.pages().free(&cpu, block)),
        Ok(())
    );
}

#[test]
fn the_pages_that_6_1_counts_leave_out_descriptors_and_reserved_low_memory() {
    let total = |linux: &str| -> u64 {
        let small = Machine::ready("small").unwrap();
        let release = if linux == "6.1" { LinuxVersion::V6_1 } else { LinuxVersion::V6_12 };
        let machine = SimMachine::boot(&Machine { linux: release, ..small }, &SimOptions::default()).unwrap();
        let line = machine.boot_log().iter().find(|line| line.contains("Total pages: ")).unwrap().clone();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let present = 0x9e + (0x1ffe0 - 0x100);
    assert_eq!(total("6.12"), present);
    // 64 bytes a frame of each zone, and the 16 pages at the bottom that are always reserved, less page 0 which is no memory.
    let descriptors = (0xfff * 64u64).div_ceil(4096) + ((0x1ffe0 - 0x1000) * 64u64).div_ceil(4096);
    assert_eq!(total("6.1"), present - descriptors - 15);
}

#[test]
fn huge_pages_raise_the_reserve_unless_they_are_off() {
    let min = |append: &str| -> u64 {
        let options = SimOptions { append: append.to_owned(), ..SimOptions::default() };
        let machine = boot("laptop", &options).unwrap();
        machine.pages().zones().iter().map(|zone| zone.watermark(page_allocator::Watermark::Min)).sum()
    };
    // Three zones of 11 pageblocks each.
    assert!((3 * 11 * 512 - 3..=3 * 11 * 512).contains(&min("")), "{}", min(""));
    assert!(min("transparent_hugepage=never") < min("transparent_hugepage=madvise"));
}

#[test]
fn kernel_options_switch_checks_on() {
    let freed_byte = |append: &str| {
        let options = SimOptions { append: append.to_owned(), ..SimOptions::default() };
        let machine = boot("small", &options).unwrap();
        let (pages, cpu) = (machine.pages(), machine.cpu(CpuId::ZERO).unwrap());
        let block = pages.alloc(&cpu, Gfp::KERNEL, Order::ZERO).unwrap();
        let (pfn, start) = (block.pfn(), pages.address(&block).unwrap());
        // SAFETY: the block is owned and mapped.
        unsafe { start.write(0x5a) };
        let index = pfn.since(pages.map().frames.span().start);
        assert_eq!(pages.debug().owner(index).is_some(), append == "page_owner=on");
        pages.free(&cpu, block);
        // SAFETY: the page is mapped as long as the machine lives, and lies on this CPU's list: nobody writes it.
        unsafe { start.read() }
    };
    assert_eq!(freed_byte(""), 0x5a);
    assert_eq!(freed_byte("page_poison=1"), page_allocator::PAGE_POISON);
    assert_eq!(freed_byte("debug_pagealloc=on"), page_allocator::PAGE_POISON);
    assert_eq!(freed_byte("init_on_free=1"), 0);
    assert_eq!(freed_byte("page_owner=on"), 0x5a);
}

#[test]
fn slab_debug_poisons_freed_objects() {
    let freed_byte = |append: &str| {
        let options = SimOptions { append: append.to_owned(), ..SimOptions::default() };
        let machine = boot("small", &options).unwrap();
        let (objects, cpu) = (machine.kernel().objects(), machine.cpu(CpuId::ZERO).unwrap());
        objects.start(&cpu).unwrap();
        let object = objects.kmalloc(&cpu, 64, Gfp::KERNEL).unwrap();
        // SAFETY: byte 40 of an object of 64 bytes that this test owns.
        let byte = unsafe { object.add(40) };
        // SAFETY: as above.
        unsafe { byte.write(0x11) };
        // SAFETY: the object came from kmalloc and is freed once.
        unsafe { objects.kfree(&cpu, object) };
        // SAFETY: the page of the object's slab stays mapped, and no other CPU runs.
        unsafe { byte.read() }
    };
    assert_eq!(freed_byte(""), 0x11);
    assert_eq!(freed_byte("slab_debug=P"), 0x6b, "POISON_FREE");
}
