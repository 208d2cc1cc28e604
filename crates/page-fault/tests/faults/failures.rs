//! Faults when memory runs out: the access fails, nothing leaks, and it works again when there is memory.

use object_allocator::mmu::UserTables;

use crate::*;

/// Takes all free pages but `left`.
fn take_all_but(objects: &Objects, cpu: &Cpu, left: usize) -> Vec<frame_table::OwnedBlock> {
    let gfp = Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN;
    let mut taken = Vec::new();
    while let Ok(block) = objects.pages().alloc(cpu, gfp, Order::ZERO) {
        taken.push(block);
    }
    for block in taken.drain(taken.len() - left..) {
        objects.pages().free(cpu, block);
    }
    // The lists of a CPU serve their own type of memory only.
    objects.pages().drain_local_pages(cpu);
    taken
}

#[test]
fn a_fault_that_runs_out_of_memory_at_any_point_fails_whole() {
    for (flags, behind) in [(WRITE, None), (WRITE, Some(file())), (SHARED, Some(file()))] {
        let mut succeeded = false;
        for left in 0..12 {
            let (objects, cpu) = machine(128);
            let (tables, files) = (UserTables::new(), Files::new(&objects, &cpu, 4));
            let space = Space::new(&objects, &cpu, &tables, &files);
            let vma = area(flags, 4, behind);
            let taken = take_all_but(&objects, &cpu, left);
            let outcome = space.access(&vma, 1, Some(9));
            assert!(matches!(outcome, Ok(_) | Err(FaultError::NoMemory)), "{outcome:?}");
            succeeded |= outcome.is_ok();
            let rss = space.rss();
            assert_eq!(rss.anon + rss.file + rss.shmem, u64::from(outcome.is_ok()));
            for block in taken {
                objects.pages().free(&cpu, block);
            }
            assert_eq!(space.access(&vma, 1, Some(8)).unwrap().0, 8, "with memory it works again");
            space.end();
            files.end();
        }
        assert!(succeeded, "with a dozen pages the fault succeeds");
    }
}
