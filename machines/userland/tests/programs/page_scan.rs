//! The scan of /proc/PID/pagemap by category: what it finds, where it stops, what it refuses.

use sync::Cpu;
use units::CpuId;
use userland::{ManagedMemory, Memory};

use crate::abi::{EBADF, EFAULT, EINVAL, EPERM, IOCTL, MADV_DONTNEED, MMAP, OPEN};
use crate::common::{DATA, Host, Task, machine};

const PAGE: u64 = 0x1000;
const PAGEMAP_SCAN: u64 = 0xc060_6610;
const MADVISE: u64 = 28;
/// Where arguments and regions lie.
const ARGUMENT: u64 = DATA + 0x100;
const REGIONS: u64 = DATA + 0x800;
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const PFNZERO: u64 = 1 << 5;
const HUGE: u64 = 1 << 6;
const SOFT_DIRTY: u64 = 1 << 7;

/// What is asked of a scan; everything that is not said is 0.
#[derive(Clone, Copy, Default)]
struct Asked {
    flags: u64,
    start: u64,
    pages: u64,
    room: u64,
    max_pages: u64,
    inverted: u64,
    all: u64,
    any: u64,
    shown: u64,
}

/// A program with eight private pages and one shared one behind them, of which the first four were written, the fifth read, and the seventh written.
struct Scanned<'c, M: Memory> {
    host: Host<'c, M>,
    task: Task<M>,
    area: u64,
}

fn with_area<'c, M: Memory>(memory: M, cpu: &'c Cpu) -> Scanned<'c, M> {
    let (host, mut task) = Host::with(memory, cpu);
    let area = host.call(&mut task, MMAP, &[0x10_0000_0000, 8 * PAGE, 3, 0x32, u64::MAX, 0]) as u64;
    let shared = host.call(&mut task, MMAP, &[area + 8 * PAGE, PAGE, 3, 0x31, u64::MAX, 0]) as u64;
    for page in [0, 1, 2, 3, 6] {
        host.poke(&task, area + page * PAGE, b"own");
    }
    host.peek(&task, area + 4 * PAGE, 1);
    host.poke(&task, shared, b"all");
    let path = host.text(&task, DATA, "/proc/self/pagemap");
    assert_eq!(host.call(&mut task, OPEN, &[path, 0]), 3);
    Scanned { host, task, area }
}

impl<M: Memory> Scanned<'_, M> {
    /// Scans; returns the result, the regions as numbers of pages with what they are, and the page where it stopped.
    fn scan(&mut self, asked: Asked) -> (i64, Vec<[u64; 3]>, u64) {
        let Asked { flags, start, pages, room, max_pages, inverted, all, any, shown } = asked;
        let start = self.area + start;
        let words = [96, flags, start, start + pages * PAGE, 7, REGIONS, room, max_pages, inverted, all, any, shown];
        self.host.words(&self.task, ARGUMENT, &words);
        let result = self.host.call(&mut self.task, IOCTL, &[3, PAGEMAP_SCAN, ARGUMENT]);
        let page = |addr: u64| (addr - self.area) / PAGE;
        let word = |at| self.host.peek_word(&self.task, at);
        let region = |at| [page(word(at)), page(word(at + 8)), word(at + 16)];
        let regions = (0..result.max(0) as u64).map(|index| region(REGIONS + 24 * index)).collect();
        let stopped = word(ARGUMENT + 32);
        (result, regions, if stopped == 7 { 7 } else { page(stopped) })
    }
}

const ALL: Asked = Asked {
    pages: 9,
    room: 20,
    all: PRESENT,
    shown: PRESENT | PFNZERO | FILE,
    flags: 0,
    start: 0,
    max_pages: 0,
    inverted: 0,
    any: 0,
};

#[test]
fn pages_that_are_alike_are_told_as_one_region() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let mut it = with_area(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let found = vec![[0, 4, PRESENT], [4, 5, PRESENT | PFNZERO], [6, 7, PRESENT], [8, 9, PRESENT | FILE]];
    assert_eq!(it.scan(ALL), (4, found, 9));
    let absent = Asked { inverted: PRESENT, ..ALL };
    assert_eq!(it.scan(absent), (2, vec![[5, 6, 0], [7, 8, 0]], 9), "areas' pages that are not there, and no others");
    assert_eq!(it.scan(Asked { pages: 90, any: FILE, ..ALL }), (1, vec![[8, 9, PRESENT | FILE]], 90));
    let area = it.area;
    assert_eq!(it.host.call(&mut it.task, MADVISE, &[area, 2 * PAGE, MADV_DONTNEED]), 0);
    let marked = Asked { pages: 4, all: SOFT_DIRTY, shown: SOFT_DIRTY | PRESENT, ..ALL };
    assert_eq!(
        it.scan(marked),
        (2, vec![[0, 2, SOFT_DIRTY], [2, 4, SOFT_DIRTY | PRESENT]], 4),
        "a new area is written to"
    );
}

#[test]
fn a_scan_stops_where_room_or_pages_end() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let mut it = with_area(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    assert_eq!(it.scan(Asked { max_pages: 3, ..ALL }), (1, vec![[0, 3, PRESENT]], 3));
    assert_eq!(it.scan(Asked { max_pages: 4, ..ALL }), (1, vec![[0, 4, PRESENT]], 4));
    assert_eq!(it.scan(Asked { room: 2, ..ALL }).2, 6, "where the next region begins");
    assert_eq!(it.scan(Asked { start: 2 * PAGE, room: 1, pages: 7, ..ALL }), (1, vec![[2, 4, PRESENT]], 4));
    assert_eq!(it.scan(Asked { room: 0, max_pages: 1, ..ALL }), (0, vec![], 9), "nothing is asked for");
}

#[test]
fn a_large_page_is_told_as_such_and_regions_go_on_over_many_blocks() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let mut it = with_area(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let start = it.area + (1 << 30);
    assert_eq!(it.host.call(&mut it.task, MMAP, &[start, 4 << 30, 3, 0x4032, u64::MAX, 0]) as u64, start);
    it.host.poke(&it.task, start + (64 << 20), b"large");
    let asked = Asked { start: 1 << 30, pages: 1 << 20, shown: HUGE | PRESENT, ..ALL };
    let first = (1 << 18) + (64 << 8);
    assert_eq!(it.scan(asked), (1, vec![[first, first + 512, HUGE | PRESENT]], (1 << 18) + (1 << 20)));
    let empty = Asked { inverted: PRESENT, ..asked };
    let found = vec![[1 << 18, first, 0], [first + 512, (1 << 18) + (1 << 20), 0]];
    assert_eq!(it.scan(empty), (2, found, (1 << 18) + (1 << 20)));
}

#[test]
fn odd_requests_are_refused_in_linux_s_order() {
    let machine = machine();
    let cpu = machine.cpu(CpuId::ZERO).unwrap();
    let mut it = with_area(ManagedMemory::new(&cpu, machine.kernel()).unwrap(), &cpu);
    let area = it.area;
    let mut scan = |words: [u64; 12]| {
        it.host.words(&it.task, ARGUMENT, &words);
        it.host.call(&mut it.task, IOCTL, &[3, PAGEMAP_SCAN, ARGUMENT])
    };
    let good = [96, 0, area, area + PAGE, 0, REGIONS, 9, 0, 0, 0, 0, PRESENT];
    let with = |index: usize, value| {
        let mut words = good;
        words[index] = value;
        words
    };
    assert_eq!(scan(good), 1);
    assert_eq!(scan(with(3, area + 1)), 1, "the end is rounded up");
    assert_eq!(scan(with(3, area)), 0);
    for (index, value) in
        [(0, 95), (1, 4), (2, area + 1), (5, 0), (8, 1 << 8), (9, 1 << 8), (10, 1 << 63), (11, 1 << 8)]
    {
        assert_eq!(scan(with(index, value)), EINVAL, "word {index}");
    }
    assert_eq!(scan(with(3, area - PAGE)), EFAULT);
    assert_eq!(scan(with(5, 1 << 47)), EFAULT);
    assert_eq!(scan(with(5, 0x1000)), EFAULT, "regions cannot be written there");
    assert_eq!(scan(with(1, 1)), 0, "writes to no area are watched");
    assert_eq!(scan(with(1, 3)), EPERM);
    assert_eq!(it.host.call(&mut it.task, IOCTL, &[3, PAGEMAP_SCAN, 0x1000]), EFAULT);
    assert_eq!(it.host.call(&mut it.task, IOCTL, &[3, 0x5401, ARGUMENT]), EINVAL);
    assert_eq!(it.host.call(&mut it.task, IOCTL, &[9, PAGEMAP_SCAN, ARGUMENT]), EBADF);
}
