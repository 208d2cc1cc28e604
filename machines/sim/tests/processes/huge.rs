//! Large pages where areas end, and where memory is locked.

use address_space::{Advice, LockAllFlags, MapFlags, MapRequest, MmRef, Process, Prot};
use kernel_mm::KhugepagedScan;
use page_fault::KhugepagedLimits;
use sync::Cpu;
use units::{CpuId, Order, VirtAddr, VirtRange};

use super::{Manager, machine, manager, map_request, mm};

pub(crate) const HUGE: u64 = 2 << 20;
pub(crate) const START: VirtAddr = VirtAddr::new(0x7fff_0000_0000);

fn at(bytes: u64) -> VirtAddr {
    START.saturating_add(bytes)
}

/// Maps memory that may have large pages at [`START`], and touches the first `large` of them.
pub(crate) fn map_large<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, len: u64, large: u64) {
    let process = Process::default();
    let prot = Prot::READ | Prot::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    map_request(manager, cpu, mm, &MapRequest { addr: START, len, prot, flags, file: None, offset: 0 });
    manager.call(cpu, mm, &process).madvise(START, len, Advice::HugePage).unwrap();
    for number in 0..large {
        manager.write_user(cpu, mm, &process, at(number * HUGE), b"parent").unwrap();
    }
    assert_eq!(manager.rss(mm).anon, large * 512);
}

#[test]
fn locking_everything_brings_in_what_is_missing_between_large_pages() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &parent, 4 * HUGE, 3);
    manager.call(&cpu, &parent, &process).madvise(at(HUGE + 4096), 4096, Advice::DontNeed).unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    assert_eq!(manager.rss(&child).anon, 3 * 512 - 1);
    manager.call(&cpu, &child, &process).mlockall(LockAllFlags::CURRENT).unwrap();
    assert_eq!(manager.rss(&child).anon, 4 * 512);
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}

#[test]
fn a_border_that_moves_into_a_large_page_splits_it() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &mm, 2 * HUGE, 2);
    let orders = |range: VirtRange| {
        let mut orders = Vec::new();
        manager.tables(&cpu, &mm).for_each_mapped(range, |page| orders.push(page.order));
        orders
    };
    let (first, second) = (VirtRange::with_len(START, HUGE), VirtRange::with_len(at(HUGE), HUGE));
    // Advice for core dumps changes areas and no page, so nothing else looks at the tables. At the border of two large pages there is nothing to split.
    manager.call(&cpu, &mm, &process).madvise(second.start, HUGE, Advice::DontDump).unwrap();
    assert_eq!((orders(first).len(), orders(second).len()), (1, 1));
    // The second half of the first joins the area behind.
    manager.call(&cpu, &mm, &process).madvise(at(HUGE / 2), HUGE / 2, Advice::DontDump).unwrap();
    let joined = VirtRange::new(at(HUGE / 2), second.end);
    assert_eq!(mm.read(&cpu).lookup(second.start).map(|area| area.range), Some(joined));
    assert_eq!(orders(first), [Order::ZERO; 512]);
    assert_eq!(orders(second).len(), 1);
    manager.call(&cpu, &mm, &process).munmap(at(HUGE / 2), HUGE + HUGE / 2).unwrap();
    assert_eq!(manager.rss(&mm).anon, 256);
    manager.mmput(&cpu, mm);
}

#[test]
fn khugepaged_gathers_what_is_used_and_writable_within_its_limits() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &mm, 4 * HUGE, 0);
    let advise = |start, len, advice| manager.call(&cpu, &mm, &process).madvise(start, len, advice).unwrap();
    advise(START, 4 * HUGE, Advice::NoHugePage);
    // Two pages in the first place, one in the second and in the third, which is read-only then, none in the last.
    for page in [3, 511, 512, 1024] {
        manager.write_user(&cpu, &mm, &process, at(page * 4096), b"parent").unwrap();
    }
    let limits = KhugepagedLimits { max_none: 510, ..KhugepagedLimits::DEFAULT };
    let scan = |from, blocks| manager.khugepaged_scan(&cpu, &mm, from, blocks, limits);
    assert_eq!(scan(START, 8), KhugepagedScan { next: None, blocks: 0, gathered: 0 }, "the area refuses");
    advise(START, 4 * HUGE, Advice::HugePage);
    manager.call(&cpu, &mm, &process).mprotect(at(2 * HUGE), HUGE, Prot::READ).unwrap();
    assert_eq!(scan(START, 1), KhugepagedScan { next: Some(at(HUGE)), blocks: 1, gathered: 1 });
    assert_eq!(manager.rss(&mm).anon, 512 + 2);
    assert_eq!(scan(at(HUGE), 8).gathered, 0, "one page is too few, and nothing is gathered that cannot be written");
    let generous = manager.khugepaged_scan(&cpu, &mm, START, 8, KhugepagedLimits::DEFAULT);
    assert_eq!(generous, KhugepagedScan { next: None, blocks: 4, gathered: 1 });
    assert_eq!(manager.rss(&mm).anon, 2 * 512 + 1);
    assert_eq!(super::read(&manager, &cpu, &mm, at(511 * 4096)), Ok(*b"parent"));
    manager.mmput(&cpu, mm);
}
