//! Models of what address spaces share: locks of single areas against calls that change, split and unmap them, and the end of the last user.
#![cfg(loom)]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32 as HostAtomicU32;
use std::sync::atomic::Ordering::Relaxed as HostRelaxed;

use collections::RangeTree;
use collections::range_tree::{Node, NodeSource};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use sync::{Cpu, IrqControl, PartLock, RwSpinLock, TurnCount, UseCount, rank};
use units::{CpuId, VirtAddr, VirtRange};

/// Owners of areas.
const ONE: u64 = 1;
const OTHER: u64 = 2;

fn machine() -> u32 {
    static NEXT: HostAtomicU32 = HostAtomicU32::new(1);
    NEXT.fetch_add(1, HostRelaxed)
}

fn cpu(machine: u32, id: u64) -> Cpu {
    // SAFETY: each iteration of each model takes a machine number of its own, and its threads name distinct CPUs.
    unsafe { Cpu::new(machine, CpuId::try_new(id).unwrap(), IrqControl::NONE) }
}

/// Nodes of a tree that does not grow beyond one leaf.
struct OneNode(Option<NonNull<Node>>);

// SAFETY: the model's tree asks for one node, which lives as long as the model's threads.
unsafe impl NodeSource for OneNode {
    fn alloc(&mut self) -> Option<NonNull<Node>> {
        self.0.take()
    }

    fn free(&mut self, node: NonNull<Node>) {
        self.0 = Some(node);
    }
}

/// An area's object: its lock, its range, and what page tables hold for it, which loom checks for accesses at once.
struct Area {
    lock: PartLock<{ rank::VMA_LOCK }>,
    start: AtomicU64,
    end: AtomicU64,
    pages: UnsafeCell<bool>,
}

// SAFETY: `pages` is reached under the model's locks, which is what the model checks.
unsafe impl Sync for Area {}

impl Area {
    fn new() -> Self {
        let lock = PartLock::default();
        Self { lock, start: AtomicU64::new(0), end: AtomicU64::new(0), pages: UnsafeCell::new(false) }
    }

    fn set(&self, start: u64, end: u64) {
        self.start.store(start, Relaxed);
        self.end.store(end, Relaxed);
    }

    fn range(&self) -> (u64, u64) {
        (self.start.load(Relaxed), self.end.load(Relaxed))
    }

    fn unmap_pages(&self) {
        // SAFETY: the area is write-locked, so no fault is on it.
        self.pages.with_mut(|pages| unsafe { *pages = false });
    }

    fn has_pages(&self) -> bool {
        // SAFETY: the area is locked for reading, so nobody unmaps it.
        self.pages.with(|pages| unsafe { *pages })
    }
}

/// An address space with two objects for areas, the first of them entered from 0x10 to 0x30 with its pages.
struct Space {
    machine: u32,
    lock: RwSpinLock<{ rank::MMAP_LOCK }, ()>,
    turns: TurnCount,
    tree: RangeTree<usize>,
    areas: [Area; 2],
    node: NonNull<Node>,
}

// SAFETY: the node is reached through the tree, which is shared.
unsafe impl Send for Space {}
// SAFETY: as for `Send`.
unsafe impl Sync for Space {}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: leaked by `new`; the threads of the model have ended.
        drop(unsafe { Box::from_raw(self.node.as_ptr()) });
    }
}

impl Space {
    fn new() -> Arc<Self> {
        let node = NonNull::from(Box::leak(Box::new(Node::new())));
        let space = Self {
            machine: machine(),
            lock: RwSpinLock::new(()),
            turns: TurnCount::default(),
            tree: RangeTree::new(),
            areas: [Area::new(), Area::new()],
            node,
        };
        let cpu = cpu(space.machine, 0);
        let own = space.turns.own();
        space.areas[0].lock.attach(&cpu, ONE, own);
        space.areas[0].set(0x10, 0x30);
        // SAFETY: nobody else has the area.
        space.areas[0].pages.with_mut(|pages| unsafe { *pages = true });
        space.tree.insert(range(0x10, 0x30), 0, &mut OneNode(Some(node))).unwrap();
        space.turns.end(own);
        Arc::new(space)
    }

    /// Runs a call, with the number of its turn.
    fn call(&self, cpu: &Cpu, call: impl FnOnce(u64)) {
        let held = self.lock.write(cpu);
        let own = self.turns.own();
        call(own);
        self.turns.end(own);
        drop(held);
    }

    /// Finds and locks the area at `addr` as a fault does; returns its range and whether its pages are there.
    fn fault(&self, cpu: &Cpu, addr: u64) -> Option<((u64, u64), bool)> {
        let found = self.tree.try_find(VirtAddr::new(addr)).ok()??;
        let area = &self.areas[found.value];
        let _hold = area.lock.try_read(cpu, ONE, &self.turns)?;
        let (start, end) = area.range();
        (start <= addr && addr < end).then(|| ((start, end), area.has_pages()))
    }
}

fn range(start: u64, end: u64) -> VirtRange {
    VirtRange::new(VirtAddr::new(start), VirtAddr::new(end))
}

/// Runs a fault at `addr` against `write`, and checks what it found with `law`.
fn fault_against(addr: u64, write: fn(&Space, &Cpu), law: fn((u64, u64), bool)) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let space = Space::new();
        let reader = {
            let space = Arc::clone(&space);
            thread::spawn(move || space.fault(&cpu(space.machine, 1), addr))
        };
        write(&space, &cpu(space.machine, 0));
        if let Some((range, has_pages)) = reader.join().unwrap() {
            law(range, has_pages);
        }
    });
}

#[test]
fn a_fault_that_has_its_area_finds_its_pages_whatever_is_unmapped_meanwhile() {
    fault_against(
        0x18,
        |space, cpu| {
            space.call(cpu, |own| {
                space.areas[0].lock.start_write(cpu, own);
                space.areas[0].unmap_pages();
                space.tree.remove(VirtAddr::new(0x10), &mut OneNode(None)).unwrap();
                space.areas[0].lock.detach();
            });
        },
        |range, has_pages| assert_eq!((range, has_pages), ((0x10, 0x30), true)),
    );
}

#[test]
fn a_fault_does_not_take_an_object_that_became_another_s_area() {
    fault_against(
        0x18,
        |space, cpu| {
            space.call(cpu, |own| {
                space.areas[0].lock.start_write(cpu, own);
                space.areas[0].unmap_pages();
                space.tree.remove(VirtAddr::new(0x10), &mut OneNode(None)).unwrap();
                space.areas[0].lock.detach();
            });
            // Another address space takes the freed object, in a turn of the same number as the last one here.
            let turns = TurnCount::default();
            space.areas[0].lock.attach(cpu, OTHER, turns.own());
            space.areas[0].set(0x10, 0x20);
            turns.end(turns.own());
        },
        |range, has_pages| assert_eq!((range, has_pages), ((0x10, 0x30), true)),
    );
}

#[test]
fn a_fault_finds_a_split_area_whole_or_the_part_that_it_is_in() {
    fault_against(
        0x28,
        |space, cpu| {
            space.call(cpu, |own| {
                space.areas[1].lock.attach(cpu, ONE, own);
                space.areas[1].set(0x20, 0x30);
                // SAFETY: nobody else has the area.
                space.areas[1].pages.with_mut(|pages| unsafe { *pages = true });
                space.areas[0].lock.start_write(cpu, own);
                space.tree.split(VirtAddr::new(0x20), 1, &mut OneNode(None)).unwrap();
                space.areas[0].set(0x10, 0x20);
            });
        },
        |range, has_pages| assert!(has_pages && [(0x10, 0x30), (0x20, 0x30)].contains(&range), "{range:x?}"),
    );
}

#[test]
fn a_fault_stays_on_its_area_while_a_call_changes_it_after_a_downgrade() {
    fault_against(
        0x18,
        |space, cpu| {
            let held = space.lock.write(cpu);
            let own = space.turns.own();
            space.areas[0].lock.start_write(cpu, own);
            space.areas[0].set(0x10, 0x20);
            space.turns.end(own);
            drop(held.downgrade());
        },
        |range, has_pages| assert!(has_pages && [(0x10, 0x30), (0x10, 0x20)].contains(&range), "{range:x?}"),
    );
}

/// Runs `other` on another CPU against a writer who reads on after a downgrade; both halves of the value always agree.
fn writer_against(other: fn(&RwSpinLock<{ rank::MMAP_LOCK }, [u64; 2]>, &Cpu), result: u64) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let machine = machine();
        let lock = Arc::new(RwSpinLock::new([0; 2]));
        let thread = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || other(&lock, &cpu(machine, 1)))
        };
        let cpu = cpu(machine, 0);
        let mut held = lock.write(&cpu);
        held.iter_mut().for_each(|half| *half += 1);
        let read = held.downgrade();
        let [one, other] = *read;
        assert_eq!(one, other);
        drop(read);
        thread.join().unwrap();
        assert_eq!(*lock.read(&cpu), [result; 2]);
    });
}

#[test]
fn a_writer_and_a_writer_exclude_each_other() {
    writer_against(|lock, cpu| lock.write(cpu).iter_mut().for_each(|half| *half += 1), 2);
}

#[test]
fn a_reader_meets_no_writer() {
    writer_against(
        |lock, cpu| {
            let [one, other] = *lock.read(cpu);
            assert_eq!(one, other);
        },
        1,
    );
}

#[test]
fn who_becomes_a_user_finds_the_areas_there_and_the_last_user_alone_empties_them() {
    loom::model(|| {
        // The content is emptied by the last user, and the object goes with the last reference.
        let shared = Arc::new((UseCount::default(), UnsafeCell::new(1)));
        shared.0.begin(1);
        shared.0.grab();
        let end = |uses: &(UseCount, UnsafeCell<i32>)| {
            if uses.0.put() {
                // SAFETY: the last user is alone.
                uses.1.with_mut(|areas| unsafe { *areas -= 1 });
                return uses.0.release();
            }
            false
        };
        let visitor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut was_last = false;
                if shared.0.get_not_zero() {
                    // SAFETY: a user keeps the content.
                    assert_eq!(shared.1.with(|areas| unsafe { *areas }), 1);
                    was_last |= end(&shared);
                }
                was_last | shared.0.release()
            })
        };
        let was_last = end(&shared);
        assert!(was_last ^ visitor.join().unwrap(), "one of them frees the object");
        // SAFETY: the other thread has ended.
        assert_eq!(shared.1.with(|areas| unsafe { *areas }), 0);
    });
}
