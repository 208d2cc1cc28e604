//! One process on three CPUs of the hosted machine, under stress: two read and write through their TLBs while its areas come, go, change and move; one reads, and moves
//! pages to other frames.
//!
//! Every word that is written says which area, page and CPU it is for, and has a number that only grows, so a page that belongs to somebody else, a write that was
//! lost and a translation that was not flushed are noticed by whoever reads next. Each CPU changes its own areas only and knows exactly what they hold.

mod lane;
mod layout;
mod view;

use std::time::Instant;

use address_space::{CommitRules, Direction, MmapLayout, Process, ProgramRanges, Settings};
use kernel_mm::MemoryManager;
use object_allocator::mmu::Rss;
use page_allocator::NoPressure;
use sim::description::Machine;
use sim::{Rng, SimMachine, SimOptions, SimPlatform};
use sync::Cpu;
use units::{CpuId, NodeMask};

use lane::{Lane, check_published};
use layout::{AREAS, Areas, SAMPLES, part};
use view::View;

type Manager<'k> = MemoryManager<'k, SimPlatform, NoPressure>;

const MACHINE: &str = r#"
arch = "x86-64"
kernel = { image = "16M+40M" }
nodes = [{ cpus = 3, memory = ["0+512M"] }]
firmware = [{ range = "0x0-0x9fbff", kind = "usable" }, { range = "0x100000-0x1fffffff", kind = "usable" }]
"#;

fn boot() -> SimMachine {
    let description = Machine::parse("stress", MACHINE).unwrap();
    let machine = SimMachine::boot(&description, &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().start_objects(&cpu).unwrap();
    drop(cpu);
    machine
}

/// Pages that are free or in slabs: what all memory is while there is no process.
fn accounted(machine: &SimMachine, cpu: &Cpu) -> u64 {
    let (pages, objects) = (machine.pages(), machine.kernel().objects());
    pages.drain_all_pages(cpu, NodeMask::ALL);
    let slab = |node| objects.node_stats(node).slab_reclaimable() + objects.node_stats(node).slab_unreclaimable();
    pages.check_invariants(cpu).unwrap() + pages.nodes().iter().map(slab).sum::<u64>()
}

/// Reads what the others say they wrote, and moves it to other frames under them.
fn read_and_migrate(view: &View<'_, '_>, areas: &Areas, deadline: Instant) {
    let mut rng = Rng::for_part(11, 2);
    let mut migrated = 0;
    while Instant::now() < deadline {
        let (area, sample) = (rng.index(2 * AREAS), rng.index(SAMPLES));
        check_published(view, areas, area, sample);
        if rng.index(4) == 0 {
            migrated += u64::from(view.migrate(part(area, areas.0[area].slot(), sample, sample).start));
        }
    }
    assert_ne!(migrated, 0, "some page is not in somebody's hands");
}

#[test]
fn cpus_of_a_process_see_their_own_pages_and_every_write() {
    let machine = boot();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager: Manager<'_> =
        MemoryManager::new(machine.kernel().objects(), &cpu, Settings::X86_64, CommitRules::for_ram(1 << 17)).unwrap();
    // It stays once it is there.
    machine.kernel().objects().start_mmu(&cpu).unwrap().on(&cpu).huge_zero_page().unwrap();
    let before = accounted(&machine, &cpu);
    let layout = MmapLayout::new(manager.spaces().settings(), Direction::TopDown, 8 << 20);
    let mm = manager.mm_alloc(&cpu, layout, ProgramRanges::default()).unwrap();
    drop(cpu);

    let areas = Areas::default();
    let deadline = Instant::now() + model_tests::stress_time();
    let process = Process::default();
    let ended = machine.run_on_cpus(3, |cpu| {
        let view = View { platform: machine.platform(), manager: &manager, cpu, mm: &mm, process: &process };
        if cpu.id().index() == 2 {
            return read_and_migrate(&view, &areas, deadline);
        }
        let mut lane = Lane::new(view, &areas);
        let mut steps = 0u64;
        while Instant::now() < deadline || steps < 200 {
            lane.step();
            steps += 1;
        }
        lane.check_all();
    });
    assert!(ended.is_ok());

    assert_eq!(machine.platform().stale_user_translation().map(|stale| stale.to_string()), None);
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let view = View { platform: machine.platform(), manager: &manager, cpu: &cpu, mm: &mm, process: &process };
    (0..2 * AREAS).for_each(|area| view.unmap_slots(area));
    assert_eq!(manager.rss(&mm), Rss::default());
    manager.mmput(&cpu, mm);
    assert_eq!(accounted(&machine, &cpu), before);
}
