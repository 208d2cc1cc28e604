//! Pages that something beside the process's page tables holds on to.

use address_space::{Access, Advice, MapFlags, MmError, MmRef, Process};
use kernel_mm::{Dirtied, PinnedPage};
use object_allocator::vmstat::NodeItem;
use sync::Cpu;
use units::{CpuId, NodeId, Order, VirtAddr, VirtRange};

use super::huge::{HUGE, START, map_large};
use super::reverse::{frame, mapped};
use super::{Manager, machine, manager, map, mm, read};

const PAGE: u64 = 4096;
const PRIVATE: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

fn pin<'k>(manager: &Manager<'k>, cpu: &Cpu, mm: &MmRef<'k>, addr: VirtAddr, access: Access) -> PinnedPage {
    let mut pages = [None];
    assert_eq!(manager.pin_user_pages(cpu, mm, &Process::default(), addr, access, &mut pages), Ok(1));
    let [page] = pages;
    page.unwrap()
}

#[test]
fn fork_leaves_a_pinned_page_to_the_parent_and_copies_it_for_the_child() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &parent, 2 * PAGE, PRIVATE).unwrap();
    let beside = at.saturating_add(PAGE);
    manager.write_user(&cpu, &parent, &process, at, b"before").unwrap();
    manager.write_user(&cpu, &parent, &process, beside, b"beside").unwrap();
    let pinned = pin(&manager, &cpu, &parent, at, Access::Write);
    let prot = mapped(&manager, &cpu, &parent, at).unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    assert_eq!(mapped(&manager, &cpu, &parent, at).unwrap(), prot, "the parent may go on writing, without a fault");
    assert_ne!(frame(&manager, &cpu, &child, at), pinned.frame());
    assert_eq!(frame(&manager, &cpu, &child, beside), frame(&manager, &cpu, &parent, beside), "not pinned: shared");
    manager.write_user(&cpu, &parent, &process, at, b"parent").unwrap();
    assert_eq!(frame(&manager, &cpu, &parent, at), pinned.frame());
    assert_eq!(read(&manager, &cpu, &child, at), Ok(*b"before"));
    manager.write_user(&cpu, &child, &process, at, b"child!").unwrap();
    assert_eq!((manager.rss(&parent).anon, manager.rss(&child).anon), (2, 2));
    manager.unpin_user_page(&cpu, pinned, Dirtied::Yes);
    // No longer pinned, it is shared as any other.
    let second = manager.dup_mm(&cpu, &parent, &process).unwrap();
    assert_eq!(frame(&manager, &cpu, &second, at), frame(&manager, &cpu, &parent, at));
    for mm in [parent, child, second] {
        manager.mmput(&cpu, mm);
    }
}

#[test]
fn a_page_that_a_child_has_too_is_copied_before_it_is_pinned_for_reading() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &parent, PAGE, PRIVATE).unwrap();
    manager.write_user(&cpu, &parent, &process, at, b"before").unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    let pinned = pin(&manager, &cpu, &parent, at, Access::Read);
    assert_eq!(frame(&manager, &cpu, &parent, at), pinned.frame());
    assert_ne!(frame(&manager, &cpu, &child, at), pinned.frame());
    // Writing makes no other page of it, so the reader sees what is written.
    manager.write_user(&cpu, &parent, &process, at, b"parent").unwrap();
    assert_eq!(frame(&manager, &cpu, &parent, at), pinned.frame());
    // The child is alone with the first page now: pinning takes that.
    let first = frame(&manager, &cpu, &child, at);
    let other = pin(&manager, &cpu, &child, at, Access::Read);
    assert_eq!((other.frame(), read(&manager, &cpu, &child, at)), (first, Ok(*b"before")));
    manager.unpin_user_page(&cpu, pinned, Dirtied::No);
    manager.unpin_user_page(&cpu, other, Dirtied::No);
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}

#[test]
fn a_pinned_part_of_a_large_page_stays_and_the_child_gets_copies_of_all_parts() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &parent, HUGE, 1);
    let inside = START.saturating_add(7 * PAGE);
    manager.write_user(&cpu, &parent, &process, inside, b"before").unwrap();
    let pinned = pin(&manager, &cpu, &parent, inside, Access::Write);
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    manager.write_user(&cpu, &parent, &process, inside, b"parent").unwrap();
    assert_eq!(frame(&manager, &cpu, &parent, inside), pinned.frame());
    assert_eq!(read(&manager, &cpu, &child, inside), Ok(*b"before"));
    assert_eq!((manager.rss(&parent).anon, manager.rss(&child).anon), (512, 512));
    manager.unpin_user_page(&cpu, pinned, Dirtied::Yes);
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}

#[test]
fn pinned_pages_are_not_gathered_into_a_large_one() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &mm, HUGE, 0);
    manager.call(&cpu, &mm, &process).madvise(START, HUGE, Advice::NoHugePage).unwrap();
    manager.write_user(&cpu, &mm, &process, START, b"before").unwrap();
    manager.call(&cpu, &mm, &process).madvise(START, HUGE, Advice::HugePage).unwrap();
    let pinned = pin(&manager, &cpu, &mm, START, Access::Write);
    let collapse = || manager.call(&cpu, &mm, &process).madvise(START, HUGE, Advice::Collapse);
    assert_eq!(collapse(), Err(MmError::TryAgain));
    assert_eq!(frame(&manager, &cpu, &mm, START), pinned.frame());
    manager.unpin_user_page(&cpu, pinned, Dirtied::No);
    assert_eq!(collapse(), Ok(()));
    let mut order = Order::ZERO;
    manager.tables(&cpu, &mm).for_each_mapped(VirtRange::with_len(START, HUGE), |page| order = page.order);
    assert_eq!(order.raw(), 9);
    manager.mmput(&cpu, mm);
}

#[test]
fn pins_stop_at_the_first_page_that_is_not_there_and_are_counted() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &mm, 3 * PAGE, PRIVATE).unwrap();
    manager.call(&cpu, &mm, &process).munmap(at.saturating_add(2 * PAGE), PAGE).unwrap();
    let count = |item| manager.objects().vmstat().node(NodeId::ZERO, item);
    let (acquired, released) = (count(NodeItem::NrFollPinAcquired), count(NodeItem::NrFollPinReleased));
    let mut pages = [const { None }; 3];
    assert_eq!(manager.pin_user_pages(&cpu, &mm, &process, at, Access::Write, &mut pages), Ok(2));
    assert!(pages[2].is_none());
    let behind = at.saturating_add(2 * PAGE);
    assert!(manager.pin_user_pages(&cpu, &mm, &process, behind, Access::Read, &mut pages[2..]).is_err());
    // What is only read and never was written is the page of zeros, which needs no pin.
    let zeros = map(&manager, &cpu, &mm, PAGE, PRIVATE).unwrap();
    let zero = pin(&manager, &cpu, &mm, zeros, Access::Read);
    assert_eq!(manager.rss(&mm).anon, 2);
    for page in pages.into_iter().flatten().chain([zero]) {
        manager.unpin_user_page(&cpu, page, Dirtied::No);
    }
    manager.objects().vmstat().refresh_cpu(&cpu);
    assert_eq!(count(NodeItem::NrFollPinAcquired) - acquired, 2);
    assert_eq!(count(NodeItem::NrFollPinReleased) - released, 2);
    manager.mmput(&cpu, mm);
}

#[test]
fn a_droppable_page_goes_unless_somebody_has_it() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &mm, 3 * PAGE, MapFlags::DROPPABLE.union(MapFlags::ANONYMOUS)).unwrap();
    let place = |page| at.saturating_add(page * PAGE);
    (0..3).for_each(|page| manager.write_user(&cpu, &mm, &process, place(page), b"before").unwrap());
    let pinned = pin(&manager, &cpu, &mm, place(0), Access::Write);
    let held = manager.hold_page(&cpu, &mm, &process, place(2)).unwrap();
    let page_out = || manager.call(&cpu, &mm, &process).madvise(at, 3 * PAGE, Advice::PageOut).unwrap();
    page_out();
    assert_eq!(manager.rss(&mm).anon, 2);
    assert_eq!(
        [0, 1, 2].map(|page| read(&manager, &cpu, &mm, place(page))),
        [Ok(*b"before"), Ok([0; 6]), Ok(*b"before")]
    );
    assert_eq!(frame(&manager, &cpu, &mm, place(0)), pinned.frame(), "and may still be written to");
    manager.write_user(&cpu, &mm, &process, place(0), b"behind").unwrap();
    assert_eq!(frame(&manager, &cpu, &mm, place(0)), pinned.frame());
    manager.unpin_user_page(&cpu, pinned, Dirtied::No);
    manager.put_held_page(&cpu, held);
    page_out();
    assert_eq!((manager.rss(&mm).anon, read(&manager, &cpu, &mm, place(0))), (0, Ok([0; 6])));
    manager.mmput(&cpu, mm);
}

#[test]
fn parts_of_a_large_droppable_page_go_if_nobody_has_it() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    let area = map(&manager, &cpu, &mm, 2 * HUGE, MapFlags::DROPPABLE.union(MapFlags::ANONYMOUS)).unwrap();
    let at = VirtAddr::new(area.raw().next_multiple_of(HUGE));
    manager.write_user(&cpu, &mm, &process, at, b"before").unwrap();
    let nr_pages = manager.rss(&mm).anon;
    assert!(nr_pages > 1, "a large page");
    let page_out =
        |start: VirtAddr, len| manager.call(&cpu, &mm, &process).madvise(start, len, Advice::PageOut).unwrap();
    let pinned = pin(&manager, &cpu, &mm, at, Access::Write);
    page_out(at, HUGE);
    assert_eq!(manager.rss(&mm).anon, nr_pages);
    manager.unpin_user_page(&cpu, pinned, Dirtied::No);
    page_out(at, HUGE / 4);
    assert_eq!(manager.rss(&mm).anon, nr_pages - nr_pages / 4);
    page_out(at, HUGE);
    assert_eq!(manager.rss(&mm).anon, 0);
    let free = machine.pages().check_invariants(&cpu).unwrap();
    manager.write_user(&cpu, &mm, &process, at, b"again!").unwrap();
    page_out(at, HUGE);
    assert_eq!(machine.pages().check_invariants(&cpu).unwrap(), free);
    manager.mmput(&cpu, mm);
}
