//! Files under stress: two CPUs that make, read, write, cut and free pages of the same files, with interrupts in every section.
//!
//! Each page is written with bytes that follow from its index, so whatever a CPU finds is zeros or those bytes, never another page's.

use std::sync::Mutex;
use std::time::Instant;

use address_space::{Access, CommitRules, FileId, MmError, Overcommit, Process, Reserve};
use fixture::Built;
use frame_table::PageBytes;
use model_tests::{machine, shape, stress_time};
use object_allocator::ObjectAllocator;
use object_allocator::vmstat::NodeItem;
use page_allocator::{DebugOptions, NoPressure};
use page_cache::{FileCall, FileKind, Files};
use sim::{InterruptRate, Rng, SimPlatform};
use sync::Cpu;
use units::{CpuId, NodeId};

type Objects = Built<ObjectAllocator<SimPlatform>>;
type Call<'a, 'k> = FileCall<'a, 'k, SimPlatform, NoPressure>;

const PAGE: u64 = 4096;
/// Pages of each file.
const PAGES: u64 = 200;

/// A file, and the lock that Linux has in its inode: held by who changes the size.
struct Shared {
    file: FileId,
    size_lock: Mutex<()>,
}

fn byte_of(index: u64) -> u8 {
    index as u8 | 1
}

#[track_caller]
fn check_bytes(bytes: &[u8], index: u64) {
    let known = [0, byte_of(index)];
    assert!(bytes.iter().all(|byte| known.contains(byte)), "page {index} holds another one's bytes");
}

fn touch(call: &Call<'_, '_>, shared: &Shared, index: u64, access: Access) {
    let page = match call.page(shared.file, index, access) {
        Ok(page) => page,
        Err(error) => return assert!([MmError::BadAddress, MmError::NoMemory].contains(&error), "{error}"),
    };
    let bytes = PageBytes::new(call.files.objects().pages().platform(), &page, 12).unwrap();
    let mut seen = [9; 64];
    bytes.read(index as usize % 60 * 64, &mut seen);
    check_bytes(&seen, index);
    if access == Access::Write {
        bytes.write(17, &[byte_of(index); 100]);
    }
    call.put_page(page);
}

fn step(call: &Call<'_, '_>, shared: &Shared, rng: &mut Rng) {
    let index = rng.next_u64() % PAGES;
    match rng.next_u64() % 16 {
        0..=5 => touch(call, shared, index, Access::Read),
        6..=9 => touch(call, shared, index, Access::Write),
        10 => {
            let mut found = [const { None }; 16];
            call.resident_pages(shared.file, index, &mut found).unwrap();
            found.into_iter().flatten().for_each(|page| call.put_page(page));
        }
        11 => {
            let mut bytes = [9; 1000];
            let read = call.read(shared.file, index * PAGE + 1500, &mut bytes).unwrap();
            check_bytes(&bytes[..read], index);
        }
        12 | 13 => {
            let _inode = shared.size_lock.lock().unwrap();
            let _ = call.write(shared.file, index * PAGE, &[byte_of(index); 4096]);
        }
        14 => {
            let _inode = shared.size_lock.lock().unwrap();
            let punched = call.punch_hole(shared.file, index * PAGE + 7, 9 * PAGE);
            assert!([Ok(()), Err(MmError::NotSupported)].contains(&punched));
        }
        _ => {
            let _inode = shared.size_lock.lock().unwrap();
            call.set_size(shared.file, index * PAGE + index).unwrap();
        }
    }
}

/// What each CPU does: works on the shared files, and makes and frees files of its own between.
fn churn(call: &Call<'_, '_>, shared: &[Shared], until: Instant) -> u64 {
    let mut rng = Rng::for_part(23, u64::from(call.cpu.id().raw()));
    let mut done = 0;
    while Instant::now() < until {
        for _ in 0..100 {
            let which = rng.next_u64() as usize % shared.len();
            step(call, &shared[which], &mut rng);
            done += 1;
        }
        if let Ok(file) = call.create(FileKind::Shmem(Reserve::OnUse), PAGES * PAGE) {
            let own = Shared { file, size_lock: Mutex::new(()) };
            (0..20).for_each(|_| step(call, &own, &mut rng));
            call.check_invariants(file).unwrap();
            call.put(file).unwrap();
        }
    }
    done
}

fn free_or_slab(objects: &Objects, cpu: &Cpu) -> u64 {
    let stats = objects.pages().nodes().iter().map(|node| objects.node_stats(node));
    let slabs: u64 = stats.map(|stats| stats.slab_reclaimable() + stats.slab_unreclaimable()).sum();
    objects.pages().check_invariants(cpu).unwrap() + slabs
}

#[test]
fn two_cpus_share_files_and_leave_no_page_behind() {
    let rate = Some(InterruptRate { one_in: 50, seed: 5 });
    let built: Objects = machine(shape(2, 2), rate, DebugOptions::default()).unwrap().build(ObjectAllocator::new);
    let platform = built.pages().platform();
    let start = platform.cpu(CpuId::ZERO).unwrap();
    built.start(&start).unwrap();
    let files = Files::new(&built, &start).unwrap();
    let (commit, process) = (Overcommit::new(CommitRules::for_ram(1 << 20)), Process::default());
    let before = free_or_slab(&built, &start);
    let kinds = [FileKind::Regular, FileKind::Shmem(Reserve::OnUse), FileKind::Shmem(Reserve::Whole)];
    let call = FileCall { files: &files, cpu: &start, commit: &commit, process: &process, total_vm: 0 };
    let shared = kinds.map(|kind| {
        let file = call.create(kind, PAGES * PAGE).unwrap();
        Shared { file, size_lock: Mutex::new(()) }
    });
    drop(start);
    let until = Instant::now() + stress_time();
    let work = |cpu: &Cpu| {
        let call = FileCall { files: &files, cpu, commit: &commit, process: &process, total_vm: 0 };
        churn(&call, &shared, until)
    };
    let done = platform.run_on_cpus(2, work).unwrap();
    assert!(done.iter().all(|&done| done > 1000), "{done:?}");
    let cpu = platform.cpu(CpuId::ZERO).unwrap();
    let call = FileCall { files: &files, cpu: &cpu, commit: &commit, process: &process, total_vm: 0 };
    for shared in &shared {
        call.check_invariants(shared.file).unwrap();
        call.put(shared.file).unwrap();
    }
    assert_eq!(free_or_slab(&built, &cpu), before);
    assert_eq!(commit.committed(), 0);
    let counted = |item| built.pages().nodes().iter().map(|node: NodeId| built.vmstat().node(node, item)).sum::<u64>();
    assert_eq!((counted(NodeItem::NrFilePages), counted(NodeItem::NrShmem)), (0, 0));
}
