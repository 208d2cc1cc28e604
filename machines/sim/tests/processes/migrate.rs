//! Pages that move to other frames under their processes.

use address_space::{Access, LockWhen, MapFlags, Process, Reserve};
use frame_table::{OwnedBlock, PageFlags};
use kernel_mm::{Dirtied, MigrateError};
use mmkit_sim::SimMachine;
use page_cache::FileKind;
use sync::Cpu;
use units::{CpuId, Gfp, Order, Pfn};

use super::huge::{HUGE, START, map_large};
use super::reverse::{frame, hold, map_file, mapped};
use super::{Manager, machine, manager, map, mm, read};

const PAGE: u64 = 4096;
const PRIVATE: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

/// Moves the page in frame `from`; returns the frame that it was to move to.
fn migrate(
    machine: &SimMachine,
    manager: &Manager<'_>,
    cpu: &Cpu,
    from: Pfn,
    order: Order,
) -> (Pfn, Result<(), MigrateError>) {
    let to: OwnedBlock = machine.pages().alloc(cpu, Gfp::HIGHUSER_MOVABLE, order).unwrap();
    let (target, page) = (to.pfn(), hold(machine, from));
    let outcome = manager.migrate_page(cpu, &page, to);
    machine.pages().put(cpu, page);
    (target, outcome)
}

#[test]
fn a_page_of_one_process_moves_and_stays_writable() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &mm, PAGE, PRIVATE).unwrap();
    manager.write_user(&cpu, &mm, &process, at, b"before").unwrap();
    let (from, prot) = mapped(&manager, &cpu, &mm, at).unwrap();
    let (to, outcome) = migrate(&machine, &manager, &cpu, from, Order::ZERO);
    assert_eq!(outcome, Ok(()));
    assert_eq!(mapped(&manager, &cpu, &mm, at), Some((to, prot)));
    assert_eq!(read(&manager, &cpu, &mm, at), Ok(*b"before"));
    manager.write_user(&cpu, &mm, &process, at, b"behind").unwrap();
    assert_eq!((frame(&manager, &cpu, &mm, at), manager.rss(&mm).anon), (to, 1));
    // Nobody has the old frame any more: it is free, not counted.
    assert!(machine.pages().map().frames.at(from).page_type().is_some());
    manager.mmput(&cpu, mm);
    assert!(machine.pages().map().frames.at(to).page_type().is_some());
}

#[test]
fn a_page_that_a_family_shares_moves_in_all_of_it_and_is_still_shared() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &parent, PAGE, PRIVATE).unwrap();
    manager.write_user(&cpu, &parent, &process, at, b"before").unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    let (to, outcome) = migrate(&machine, &manager, &cpu, frame(&manager, &cpu, &parent, at), Order::ZERO);
    assert_eq!(outcome, Ok(()));
    assert_eq!((frame(&manager, &cpu, &parent, at), frame(&manager, &cpu, &child, at)), (to, to));
    manager.write_user(&cpu, &child, &process, at, b"child!").unwrap();
    assert_eq!(read(&manager, &cpu, &parent, at), Ok(*b"before"));
    assert_ne!(frame(&manager, &cpu, &child, at), to);
    manager.write_user(&cpu, &parent, &process, at, b"parent").unwrap();
    assert_eq!(frame(&manager, &cpu, &parent, at), to, "alone with it again");
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}

#[test]
fn what_somebody_holds_or_changes_stays() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    let at = map(&manager, &cpu, &mm, PAGE, PRIVATE).unwrap();
    manager.write_user(&cpu, &mm, &process, at, b"before").unwrap();
    let from = frame(&manager, &cpu, &mm, at);
    let free = machine.pages().check_invariants(&cpu).unwrap();
    let mut pins = [None];
    manager.pin_user_pages(&cpu, &mm, &process, at, Access::Write, &mut pins).unwrap();
    assert_eq!(migrate(&machine, &manager, &cpu, from, Order::ZERO).1, Err(MigrateError::Held));
    let [pin] = pins;
    manager.unpin_user_page(&cpu, pin.unwrap(), Dirtied::No);
    let call = manager.call(&cpu, &mm, &process);
    assert_eq!(migrate(&machine, &manager, &cpu, from, Order::ZERO).1, Err(MigrateError::Busy));
    drop(call);
    let small = machine.pages().alloc(&cpu, Gfp::HIGHUSER_MOVABLE, Order::new_truncate(1)).unwrap();
    let page = hold(&machine, from);
    assert_eq!(manager.migrate_page(&cpu, &page, small), Err(MigrateError::WrongBlock));
    machine.pages().put(&cpu, page);
    assert_eq!(frame(&manager, &cpu, &mm, at), from);
    assert_eq!(machine.pages().check_invariants(&cpu), Ok(free), "what the page was to move to is free again");
    manager.mmput(&cpu, mm);
}

#[test]
fn a_large_page_moves_whole() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (mm, process) = (mm(&manager, &cpu), Process::default());
    map_large(&manager, &cpu, &mm, HUGE, 1);
    let last = START.saturating_add(HUGE - PAGE);
    manager.write_user(&cpu, &mm, &process, last, b"before").unwrap();
    let (from, order) = (frame(&manager, &cpu, &mm, START), Order::new_truncate(9));
    let (to, outcome) = migrate(&machine, &manager, &cpu, from, order);
    assert_eq!((outcome, frame(&manager, &cpu, &mm, START)), (Ok(()), to));
    assert_eq!((read(&manager, &cpu, &mm, last), manager.rss(&mm).anon), (Ok(*b"before"), 512));
    // In parts it stays.
    manager.call(&cpu, &mm, &process).munmap(START, PAGE).unwrap();
    assert_eq!(migrate(&machine, &manager, &cpu, to, order).1, Err(MigrateError::Busy));
    assert_eq!(read(&manager, &cpu, &mm, last), Ok(*b"before"));
    manager.mmput(&cpu, mm);
}

#[test]
fn a_page_of_a_file_moves_with_what_was_written_through_mappings() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (one, two, process) = (mm(&manager, &cpu), mm(&manager, &cpu), Process::default());
    let file = manager.files(&cpu, &process).create(FileKind::Shmem(Reserve::OnUse), PAGE).unwrap();
    let [first, second] = [&one, &two].map(|mm| map_file(&manager, &cpu, mm, file, MapFlags::SHARED));
    manager.write_user(&cpu, &one, &process, first, b"before").unwrap();
    read(&manager, &cpu, &two, second).unwrap();
    manager.call(&cpu, &two, &process).mlock(second, PAGE, LockWhen::Now).unwrap();
    let from = frame(&manager, &cpu, &one, first);
    let (to, outcome) = migrate(&machine, &manager, &cpu, from, Order::ZERO);
    assert_eq!(outcome, Ok(()));
    assert!(machine.pages().map().frames.at(to).flags().contains(PageFlags::DIRTY | PageFlags::UPTODATE));
    assert_eq!(read(&manager, &cpu, &two, second), Ok(*b"before"));
    manager.write_user(&cpu, &two, &process, second, b"behind").unwrap();
    assert_eq!(read(&manager, &cpu, &one, first), Ok(*b"behind"));
    assert_eq!((frame(&manager, &cpu, &one, first), frame(&manager, &cpu, &two, second)), (to, to));
    manager.files(&cpu, &process).check_invariants(file).unwrap();
    manager.mmput(&cpu, one);
    manager.mmput(&cpu, two);
    manager.files(&cpu, &process).put(file).unwrap();
}
