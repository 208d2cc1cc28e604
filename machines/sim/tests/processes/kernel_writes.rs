//! What the kernel writes to a process while the process forks.

use std::sync::atomic::{AtomicBool, Ordering};

use address_space::{MapFlags, Process};
use units::CpuId;

use super::{booted, manager, map, mm};

const PAGE: usize = 4096;
/// More than the host is likely to have, so that it stops some in the middle of a write.
const CPUS: usize = 5;
const FORKS: usize = 2000;

#[test]
fn a_child_s_memory_stays_as_it_was_while_the_kernel_writes_to_its_parent() {
    let machine = booted("laptop");
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let parent = mm(&manager, &cpu);
    let process = Process::default();
    let addr = map(&manager, &cpu, &parent, (CPUS * PAGE) as u64, MapFlags::PRIVATE | MapFlags::ANONYMOUS).unwrap();
    drop(cpu);

    let is_over = AtomicBool::new(false);
    let changed = machine.run_on_cpus(CPUS, |cpu| {
        if cpu.id() != CpuId::ZERO {
            let page = addr.saturating_add((cpu.id().index() * PAGE) as u64);
            for byte in (0..=u8::MAX).cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                manager.write_user(cpu, &parent, &process, page, &[byte; PAGE]).unwrap();
            }
            return 0;
        }
        let changed = (0..FORKS).filter(|_| {
            let child = manager.dup_mm(cpu, &parent, &process).unwrap();
            let [first, second] = [(); 2].map(|()| {
                let mut bytes = [0; CPUS * PAGE];
                manager.read_user(cpu, &child, &process, addr, &mut bytes).unwrap();
                bytes
            });
            manager.mmput(cpu, child);
            first != second
        });
        let changed = changed.count();
        is_over.store(true, Ordering::Relaxed);
        changed
    });
    assert_eq!(changed.unwrap(), [0; CPUS]);
    manager.mmput(&machine.cpu(CpuId::ZERO).unwrap(), parent);
}
