//! Users' addresses in the CPUs' TLBs, on page tables that the test writes itself.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use mmkit_sim::{Access, MemoryLayout, SimPlatform, Space, Stale, UserFault, VirtFault};
use platform::{
    AnyFormat, Attributes, Entry, KernelTables, Level, MemoryType, PhysMemory, Platform, Prot, TableFormat,
};
use sync::Cpu;
use units::{CpuId, PhysAddr, PhysRange, VirtAddr, VirtRange};

const FORMAT: AnyFormat = AnyFormat::X86_64;
const PAGE: u64 = 4096;
const DATA: u64 = 0x10_0000;

fn machine() -> SimPlatform {
    let layout = MemoryLayout { ram: vec![PhysRange::with_len(PhysAddr::ZERO, 4 << 20)], ..MemoryLayout::default() };
    let machine = SimPlatform::new(&layout, 2, None).unwrap();
    assert!(machine.set_kernel_tables(KernelTables { root: PhysAddr::new(0x1000), format: FORMAT }));
    machine
}

/// Tables of one process at `root` and the three pages behind it, for the low 2 MiB.
#[derive(Clone, Copy)]
struct Process<'m> {
    machine: &'m SimPlatform,
    root: PhysAddr,
}

impl<'m> Process<'m> {
    fn new(machine: &'m SimPlatform, root: u64) -> Self {
        let process = Self { machine, root: PhysAddr::new(root) };
        for (number, level) in [Level::P4D, Level::PUD, Level::PMD].into_iter().enumerate() {
            let below = PhysAddr::new(root + (number as u64 + 1) * PAGE);
            process.slot(number as u64, 0).store(FORMAT.encode_table(level, below), Ordering::Relaxed);
        }
        process
    }

    fn slot(&self, table: u64, index: u64) -> &AtomicU64 {
        let at = self.root.saturating_add(table * PAGE + index * 8);
        let entry = self.machine.direct_map(PhysRange::with_len(at, 8)).unwrap();
        // SAFETY: an aligned word of the machine's memory that is only reached as an atomic.
        unsafe { AtomicU64::from_ptr(entry.cast().as_ptr()) }
    }

    fn pte(&self, page: u64) -> &AtomicU64 {
        self.slot(3, page)
    }

    fn set(&self, page: u64, frame: u64, prot: Prot) {
        let attributes = Attributes { prot: prot | Prot::USER, memory_type: MemoryType::Normal };
        let value = FORMAT.encode_leaf(Level::PTE, PhysAddr::new(DATA + frame * PAGE), attributes);
        self.pte(page).store(value, Ordering::Release);
    }

    fn prot(&self, page: u64) -> Prot {
        match FORMAT.decode(Level::PTE, self.pte(page).load(Ordering::Relaxed)) {
            Entry::Leaf(_, attributes) => attributes.prot,
            other => panic!("{other:?}"),
        }
    }

    fn touch(&self, cpu: &Cpu, page: u64, access: Access) -> Result<u64, VirtFault> {
        let phys = self.machine.translate_user(cpu, self.root, at(page), access)?;
        Ok((phys.raw() - DATA) / PAGE)
    }

    fn flush(&self, page: u64) {
        self.machine.flush_user_range(self.root, VirtRange::with_len(at(page), PAGE));
    }
}

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(page * PAGE)
}

fn cpu(machine: &SimPlatform, number: u64) -> mmkit_sim::CpuGuard<'_> {
    machine.cpu(CpuId::try_new(number).unwrap()).unwrap()
}

#[test]
fn a_walk_marks_the_entry_as_used_and_the_first_write_as_written() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::WRITE);
    assert_eq!(process.touch(&cpu, 1, Access::Read), Ok(5));
    assert_eq!(process.prot(1), Prot::USER | Prot::WRITE | Prot::ACCESSED);
    assert_eq!(process.touch(&cpu, 1, Access::Write), Ok(5));
    assert_eq!(process.prot(1), Prot::USER | Prot::WRITE | Prot::ACCESSED | Prot::DIRTY);
}

#[test]
fn an_entry_allows_what_it_says_and_nothing_else() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::empty());
    process.set(2, 6, Prot::EXECUTE);
    process.set(3, 7, Prot::WRITE);
    process.pte(3).fetch_and(!4, Ordering::Relaxed);
    assert_eq!(process.touch(&cpu, 1, Access::Write), Err(VirtFault::ReadOnly(at(1))));
    assert_eq!(process.touch(&cpu, 1, Access::Fetch), Err(VirtFault::NoExecute(at(1))));
    assert_eq!(process.touch(&cpu, 2, Access::Fetch), Ok(6));
    assert_eq!(process.touch(&cpu, 3, Access::Read), Err(VirtFault::KernelOnly(at(3))));
    assert_eq!(process.touch(&cpu, 4, Access::Read), Err(VirtFault::NotMapped(at(4))));
    let kernels = VirtAddr::new(0xffff_c900_0000_0000);
    let refused = machine.translate_user(&cpu, process.root, kernels, Access::Read);
    assert_eq!(refused, Err(VirtFault::NotMapped(kernels)));
}

#[test]
fn rights_that_were_added_need_no_flush() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::empty());
    process.touch(&cpu, 1, Access::Read).unwrap();
    process.set(1, 5, Prot::WRITE);
    assert_eq!(process.touch(&cpu, 1, Access::Write), Ok(5));
}

#[test]
fn a_missing_flush_is_named_when_no_other_cpu_can_be_in_its_kernel() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::WRITE);
    process.touch(&cpu, 1, Access::Write).unwrap();
    for change in [
        |process: Process<'_>| process.set(1, 6, Prot::WRITE | Prot::DIRTY),
        |process: Process<'_>| process.set(1, 5, Prot::DIRTY),
    ] {
        change(process);
        let Err(VirtFault::Stale(stale)) = process.touch(&cpu, 1, Access::Read) else { panic!("not reported") };
        assert_eq!((stale.space, stale.range), (Space::User(process.root), VirtRange::with_len(at(1), PAGE)));
        assert!(stale.to_string().ends_with("of the tables under 0x2000"), "{stale}");
        assert_eq!(machine.stale_user_translation(), Some(stale));
    }
    process.flush(1);
    assert_eq!(machine.stale_user_translation(), None);
    assert_eq!(process.touch(&cpu, 1, Access::Read), Ok(5));
}

#[test]
fn a_dirty_mark_that_was_taken_away_without_a_flush_is_a_missing_flush() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::WRITE);
    process.touch(&cpu, 1, Access::Write).unwrap();
    process.set(1, 5, Prot::WRITE);
    assert!(matches!(process.touch(&cpu, 1, Access::Write), Err(VirtFault::Stale(_))));
}

#[test]
fn a_table_that_was_taken_out_without_a_flush_is_reported() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::empty());
    process.set(2, 6, Prot::empty());
    process.touch(&cpu, 1, Access::Read).unwrap();
    process.slot(2, 0).store(0, Ordering::Relaxed);
    let fault = process.touch(&cpu, 2, Access::Read);
    assert!(matches!(fault, Err(VirtFault::Stale(Stale { table: Some(Level::PTE), found: None, .. }))), "{fault:?}");
}

#[test]
fn a_cpu_uses_what_it_remembers_while_another_may_be_about_to_flush() {
    let machine = machine();
    let process = Process::new(&machine, 0x2000);
    process.set(1, 5, Prot::WRITE);
    process.set(2, 7, Prot::empty());
    let barrier = Barrier::new(2);
    let results = machine.run_on_cpus(2, |cpu| {
        let mut found = Vec::new();
        for round in 0..4 {
            barrier.wait();
            if cpu.id() == CpuId::ZERO {
                found.push(process.touch(cpu, 1, Access::Read));
            }
            barrier.wait();
            match (cpu.id().raw(), round) {
                (1, 0) => process.set(1, 6, Prot::WRITE),
                // Back in user mode without a flush.
                (1, 2) => drop(process.touch(cpu, 2, Access::Read)),
                _ => {}
            }
        }
        found
    });
    let found = &results.unwrap()[0];
    assert_eq!(found[..3], [Ok(5), Ok(5), Ok(5)]);
    assert!(matches!(found[3], Err(VirtFault::Stale(Stale { cpu: CpuId::ZERO, .. }))), "{found:?}");
}

#[test]
fn a_switch_forgets_the_process_before() {
    let machine = machine();
    let (first, second, cpu) = (Process::new(&machine, 0x2000), Process::new(&machine, 0x8000), cpu(&machine, 0));
    first.set(1, 5, Prot::empty());
    second.set(1, 6, Prot::empty());
    assert_eq!(first.touch(&cpu, 1, Access::Read), Ok(5));
    assert_eq!(second.touch(&cpu, 1, Access::Read), Ok(6));
    first.set(1, 7, Prot::empty());
    assert_eq!(first.touch(&cpu, 1, Access::Read), Ok(7));
    // A root that another process has now is found out, unless it was flushed when the first one ended.
    first.set(1, 8, Prot::empty());
    assert!(matches!(first.touch(&cpu, 1, Access::Read), Err(VirtFault::Stale(_))));
    machine.flush_user_range(first.root, VirtRange::new(VirtAddr::ZERO, VirtAddr::new(u64::MAX)));
    assert_eq!(first.touch(&cpu, 1, Access::Read), Ok(8));
}

#[test]
fn bytes_move_page_by_page_up_to_the_fault() {
    let machine = machine();
    let (process, cpu) = (Process::new(&machine, 0x2000), cpu(&machine, 0));
    process.set(1, 5, Prot::WRITE);
    process.set(2, 9, Prot::WRITE);
    let virt = VirtAddr::new(2 * PAGE - 3);
    machine.write_user(&cpu, process.root, virt, b"across").unwrap();
    let mut bytes = [0; 6];
    machine.read_user(&cpu, process.root, virt, Access::Read, &mut bytes).unwrap();
    assert_eq!(&bytes, b"across");
    process.pte(2).store(0, Ordering::Relaxed);
    process.flush(2);
    let fault = VirtFault::NotMapped(at(2));
    let stopped = machine.write_user(&cpu, process.root, virt, b"ACROSS");
    assert_eq!(stopped, Err(UserFault { done: 3, virt: at(2), fault }));
    machine.read_user(&cpu, process.root, virt, Access::Read, &mut bytes[..3]).unwrap();
    assert_eq!(&bytes, b"ACRoss");
}
