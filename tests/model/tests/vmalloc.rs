//! vmalloc against a simple model, step by step on one thread, and under stress on several CPUs of the hosted machine.
//!
//! Every byte goes through the CPUs' TLBs, so a flush that is missing, a page that has two owners or a table that was freed too early
//! shows as a wrong word or as a stale translation.

use std::collections::BTreeMap;
use std::sync::Mutex;

use object_allocator::{ObjectAllocator, RamMapping, VmallocArea, VmallocError, VmallocRequest, VmapArea};
use page_allocator::NoPressure;
use platform::Attributes;
use proptest::prelude::*;
use sim::description::Machine;
use sim::{Rng, SimMachine, SimOptions, SimPlatform, VirtFault};
use sync::Cpu;
use units::{CpuId, Gfp, NodeMask, Order, Pfn, VirtAddr, VirtRange};

const PAGE: u64 = 4096;

type Objects = ObjectAllocator<SimPlatform, NoPressure>;

fn boot() -> SimMachine {
    let machine = SimMachine::boot(&Machine::ready("laptop").unwrap(), &SimOptions::default()).unwrap();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    machine.kernel().objects().start(&cpu).unwrap();
    drop(cpu);
    machine
}

/// Writes the page's own number above `stamp` to both ends of every page.
fn stamp(machine: &SimMachine, cpu: &Cpu, range: VirtRange, stamp: u64) {
    for page in 0..range.len() / PAGE {
        for offset in [0, PAGE - 8] {
            let at = range.start.saturating_add(page * PAGE + offset);
            // SAFETY: the test holds the area and is its only user.
            unsafe { machine.platform().write_virt(cpu, at, &(stamp + page).to_le_bytes()) }.unwrap();
        }
    }
}

#[track_caller]
fn check_stamp(machine: &SimMachine, cpu: &Cpu, range: VirtRange, stamp: u64) {
    for page in 0..range.len() / PAGE {
        for offset in [0, PAGE - 8] {
            let at = range.start.saturating_add(page * PAGE + offset);
            let mut word = [0; 8];
            // SAFETY: the test holds the area and is its only user.
            unsafe { machine.platform().read_virt(cpu, at, &mut word) }.unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(u64::from_le_bytes(word), stamp + page, "{at:?}");
        }
    }
}

/// Pages that are free, in slabs, or tables: what all memory is once no area is left.
fn accounted(machine: &SimMachine, cpu: &Cpu) -> u64 {
    let (pages, objects) = (machine.pages(), machine.kernel().objects());
    pages.drain_all_pages(cpu, NodeMask::ALL);
    let slab = |node| objects.node_stats(node).slab_reclaimable() + objects.node_stats(node).slab_unreclaimable();
    let slabs: u64 = pages.nodes().iter().map(slab).sum();
    pages.check_invariants(cpu).unwrap() + slabs + objects.vmalloc_figures(cpu).table_pages
}

#[derive(Clone, Debug)]
enum Step {
    Alloc { pages: u64, huge: bool, align: u32 },
    Vmap { pages: usize },
    MapRam { pages: usize },
    Free { which: usize },
    Check { which: usize },
    Purge,
}

fn any_step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => (1u64..40, 0u32..3).prop_map(|(pages, align)| Step::Alloc { pages, huge: false, align }),
        1 => (500u64..1100).prop_map(|pages| Step::Alloc { pages, huge: true, align: 0 }),
        2 => (1usize..12).prop_map(|pages| Step::Vmap { pages }),
        3 => (1usize..40).prop_map(|pages| Step::MapRam { pages }),
        8 => any::<usize>().prop_map(|which| Step::Free { which }),
        3 => any::<usize>().prop_map(|which| Step::Check { which }),
        1 => Just(Step::Purge),
    ];
    (0usize..2, step)
}

#[derive(Debug)]
enum Handle {
    Own(VmallocArea),
    Vmap(VmapArea),
    Ram(RamMapping),
}

#[derive(Debug)]
struct Held {
    handle: Handle,
    range: VirtRange,
    stamp: u64,
    has_guard: bool,
}

/// The machine beside the list of what must be mapped.
struct Model<'m> {
    machine: &'m SimMachine,
    /// By first address.
    held: BTreeMap<u64, Held>,
    lent: Vec<Pfn>,
    next_stamp: u64,
}

impl Model<'_> {
    fn objects(&self) -> &Objects {
        self.machine.kernel().objects()
    }

    fn step(&mut self, cpus: &[&Cpu], on: usize, step: &Step) {
        let (cpu, other) = (cpus[on], cpus[1 - on]);
        match *step {
            Step::Alloc { pages, huge, align } => {
                let request =
                    VmallocRequest { align: PAGE << (3 * align), ..VmallocRequest::new(pages * PAGE, "model") };
                let request = if huge { request.huge() } else { request };
                let area = self.objects().vmalloc_request(cpu, &request).unwrap();
                assert_eq!(area.start().raw() % request.align, 0);
                let range = area.range();
                self.next_stamp += 1 << 20;
                stamp(self.machine, cpu, range, self.next_stamp);
                self.hold(Held { handle: Handle::Own(area), range, stamp: self.next_stamp, has_guard: true });
            }
            Step::Vmap { pages } => {
                let area = self.objects().vmap(cpu, &self.lent[..pages], Attributes::KERNEL_DATA, "model").unwrap();
                let range = area.range();
                self.hold(Held { handle: Handle::Vmap(area), range, stamp: 0, has_guard: true });
            }
            Step::MapRam { pages } => {
                let mapping = self.objects().vm_map_ram(cpu, &self.lent[..pages]).unwrap();
                let range = mapping.range();
                self.hold(Held { handle: Handle::Ram(mapping), range, stamp: 0, has_guard: false });
            }
            Step::Free { which } => {
                if let Some(start) = self.held.keys().nth(which % self.held.len().max(1)).copied() {
                    let held = self.held.remove(&start).unwrap();
                    self.free(cpu, held);
                }
            }
            Step::Check { which } => {
                if let Some(held) = self.held.values().nth(which % self.held.len().max(1)) {
                    check_stamp(self.machine, other, held.range, held.stamp);
                }
            }
            Step::Purge => {
                self.objects().purge_vmap_areas(cpu);
            }
        }
    }

    /// Checks that nothing held overlaps, guard pages included, and that the guard page faults.
    fn hold(&mut self, held: Held) {
        let end = |held: &Held| held.range.end.raw() + if held.has_guard { PAGE } else { 0 };
        let start = held.range.start.raw();
        if let Some((_, below)) = self.held.range(..=start).next_back() {
            assert!(end(below) <= start, "{held:?} overlaps {below:?}");
        }
        if let Some((&above, _)) = self.held.range(start..).next() {
            assert!(end(&held) <= above, "{held:?} overlaps {above:#x}");
        }
        self.held.insert(start, held);
    }

    fn check_guards(&self, cpu: &Cpu) {
        for held in self.held.values().filter(|held| held.has_guard) {
            let guard = held.range.end;
            assert_eq!(self.objects().vmalloc_to_pfn(cpu, guard), None);
            // SAFETY: nothing is mapped there, so nothing is read.
            let read = unsafe { self.machine.platform().read_virt(cpu, guard, &mut [0]) };
            assert_eq!(read, Err(VirtFault::NotMapped(guard)));
        }
    }

    fn free(&self, cpu: &Cpu, held: Held) {
        check_stamp(self.machine, cpu, held.range, held.stamp);
        match held.handle {
            Handle::Own(area) => self.objects().vfree(cpu, area),
            Handle::Vmap(area) => self.objects().vunmap(cpu, area),
            Handle::Ram(mapping) => self.objects().vm_unmap_ram(cpu, mapping).unwrap(),
        }
    }
}

fn run(machine: &SimMachine, steps: &[(usize, Step)]) {
    let guards = [machine.cpu(CpuId::ZERO).unwrap(), machine.cpu(CpuId::try_new(1).unwrap()).unwrap()];
    let cpus: Vec<&Cpu> = guards.iter().map(|guard| &**guard).collect();
    let before = accounted(machine, cpus[0]);
    let blocks: Vec<_> = (0..40).map(|_| machine.pages().alloc(cpus[0], Gfp::KERNEL, Order::ZERO).unwrap()).collect();
    let lent: Vec<Pfn> = blocks.iter().map(|block| block.pfn()).collect();
    let mut model = Model { machine, held: BTreeMap::new(), lent, next_stamp: 0 };
    let all = model.objects().vmap(cpus[0], &model.lent, Attributes::KERNEL_DATA, "lent").unwrap();
    stamp(machine, cpus[0], all.range(), 0);
    model.objects().vunmap(cpus[0], all);
    for (on, step) in steps {
        model.step(&cpus, *on, step);
        assert!(model.objects().vmalloc_is_sound(cpus[0]));
    }
    model.check_guards(cpus[0]);
    model.held.values().for_each(|held| check_stamp(machine, cpus[1], held.range, held.stamp));
    for held in std::mem::take(&mut model.held).into_values() {
        model.free(cpus[1], held);
    }
    blocks.into_iter().for_each(|block| machine.pages().free(cpus[0], block));
    machine.kernel().objects().purge_vmap_areas(cpus[0]);
    let figures = machine.kernel().objects().vmalloc_figures(cpus[0]);
    assert_eq!((figures.areas, figures.used_pages, figures.lazy_bytes), (0, 0, 0));
    assert!(figures.table_pages <= 1, "the table under the root stays");
    assert_eq!(accounted(machine, cpus[0]), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn areas_do_as_the_model_does(steps in prop::collection::vec(any_step(), 1..120)) {
        run(&boot(), &steps);
    }
}

/// Areas on their way from one CPU to another.
type Exchange = Vec<Mutex<Option<(VmallocArea, u64)>>>;

fn work(machine: &SimMachine, cpu: &Cpu, exchange: &Exchange, deadline: std::time::Instant) -> u64 {
    let objects = machine.kernel().objects();
    let mut rng = Rng::for_part(7, u64::from(cpu.id().raw()));
    let mut allocated = 0;
    while std::time::Instant::now() < deadline {
        let bytes = (1 + rng.index(24) as u64) * PAGE - 5;
        let (area, mark) = match objects.vmalloc(cpu, bytes, "stress") {
            Ok(area) => (area, u64::from(cpu.id().raw()) << 48 | allocated << 20),
            Err(VmallocError::Memory(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        allocated += 1;
        stamp(machine, cpu, area.range(), mark);
        let place = &exchange[rng.index(exchange.len())];
        let old = place.lock().unwrap().replace((area, mark));
        if let Some((area, mark)) = old {
            check_stamp(machine, cpu, area.range(), mark);
            objects.vfree(cpu, area);
        }
        if rng.index(50) == 0 {
            objects.purge_vmap_areas(cpu);
        }
        if rng.index(4) == 0 {
            let pages: Vec<Pfn> = (0..4).map(|page| Pfn::new(0x1000 + page)).collect();
            let mapping = objects.vm_map_ram(cpu, &pages).unwrap();
            objects.vm_unmap_ram(cpu, mapping).unwrap();
        }
    }
    allocated
}

#[test]
fn cpus_that_hand_areas_to_each_other_see_no_stale_translation() {
    let machine = boot();
    let before = accounted(&machine, &machine.cpu(CpuId::ZERO).unwrap());
    let exchange: Exchange = (0..16).map(|_| Mutex::new(None)).collect();
    let seconds = std::env::var("MMKIT_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let allocated = machine.run_on_cpus(4, |cpu| work(&machine, cpu, &exchange, deadline)).unwrap();
    assert!(allocated.iter().all(|&count| count > 0), "{allocated:?}");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let objects = machine.kernel().objects();
    for (area, mark) in exchange.into_iter().filter_map(|place| place.into_inner().unwrap()) {
        check_stamp(&machine, &cpu, area.range(), mark);
        objects.vfree(&cpu, area);
    }
    objects.purge_vmap_areas(&cpu);
    let figures = objects.vmalloc_figures(&cpu);
    assert_eq!((figures.areas, figures.used_pages), (0, 0));
    assert!(figures.purges > 1, "{figures:?}");
    assert_eq!(accounted(&machine, &cpu), before);
    assert_eq!(objects.vmalloc_to_pfn(&cpu, VirtAddr::new(0xffff_c900_0000_0000)), None);
}
