//! Memory that is locked in a child of fork.

use address_space::{Advice, LockAllFlags, MapFlags, MapRequest, Process, Prot};
use units::{CpuId, VirtAddr};

use super::{machine, manager, map_request, mm};

const HUGE: u64 = 2 << 20;

#[test]
fn locking_everything_brings_in_what_is_missing_between_large_pages() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let manager = manager(&machine, &cpu);
    let (parent, process) = (mm(&manager, &cpu), Process::default());
    let start = VirtAddr::new(0x7fff_0000_0000);
    let prot = Prot::READ | Prot::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    let at = map_request(
        &manager,
        &cpu,
        &parent,
        &MapRequest { addr: start, len: 4 * HUGE, prot, flags, file: None, offset: 0 },
    );
    manager.call(&cpu, &parent, &process).madvise(at, 4 * HUGE, Advice::HugePage).unwrap();
    for large in 0..3 {
        manager.write_user(&cpu, &parent, &process, at.saturating_add(large * HUGE), b"parent").unwrap();
    }
    assert_eq!(manager.rss(&parent).anon, 3 * 512);
    manager.call(&cpu, &parent, &process).madvise(at.saturating_add(HUGE + 4096), 4096, Advice::DontNeed).unwrap();
    let child = manager.dup_mm(&cpu, &parent, &process).unwrap();
    assert_eq!(manager.rss(&child).anon, 3 * 512 - 1);
    manager.call(&cpu, &child, &process).mlockall(LockAllFlags::CURRENT).unwrap();
    assert_eq!(manager.rss(&child).anon, 4 * 512);
    manager.mmput(&cpu, parent);
    manager.mmput(&cpu, child);
}
