//! Random calls, most of them sensible, some with arguments that must be refused.
//!
//! The calls for a seed are part of the interface. Ranges never reach what the process itself needs.

use address_space::{Advice, LockAllFlags, MapFlags, PAGE_SIZE, Prot, RemapFlags, SyncFlags};
use sim::Rng;

use super::marks::WriteMarks;
use super::operation::{ARENA, ARENA_PAGES, FILE_PAGES, FILES, Operation, Place, SLOTS};
use super::theme::Theme;

/// Pages that a table of the lowest level maps.
const TABLE_PAGES: u64 = 512;

/// Made only where the host's kernel tracks writes.
const CLEAR_MARKS: &str = "clear_refs";

/// Calls by how often they are made, of 125 without the last.
const WEIGHTS: [(&str, u64); 25] = [
    ("mmap", 22),
    ("munmap", 11),
    ("mprotect", 14),
    ("mremap", 11),
    ("madvise", 12),
    ("process_madvise", 2),
    ("mlock", 3),
    ("mlock2", 2),
    ("munlock", 3),
    ("mlockall", 1),
    ("munlockall", 1),
    ("brk", 4),
    ("msync", 2),
    ("mseal", 1),
    ("mincore", 2),
    ("remap_file_pages", 4),
    ("ftruncate", 1),
    ("write", 5),
    ("read", 3),
    ("store", 9),
    ("load", 5),
    ("fetch", 1),
    ("fork", 3),
    ("exit", 3),
    (CLEAR_MARKS, 3),
];

/// Names of all calls.
pub(super) fn calls() -> impl Iterator<Item = &'static str> {
    WEIGHTS.iter().map(|&(call, _)| call)
}

/// Source of calls.
pub(super) struct Generator {
    rng: Rng,
    only: Vec<String>,
    theme: Theme,
    marks: WriteMarks,
    /// Calls that come next, the last one first, whatever else would.
    pending: Vec<Operation>,
}

impl Generator {
    /// Starts the calls of a seed; `only` restricts them, unless it is empty.
    pub(super) fn new(seed: u64, part: u64, only: &[String], marks: WriteMarks) -> Self {
        let (rng, theme) = (Rng::for_part(seed, part), Theme::of(part));
        Self { rng, only: only.to_vec(), theme, marks, pending: Vec::new() }
    }

    /// Returns the next call.
    pub(super) fn next(&mut self) -> Operation {
        if let Some(pending) = self.pending.pop() {
            return pending;
        }
        let allowed: Vec<_> = WEIGHTS
            .iter()
            .filter(|(call, _)| self.theme.makes(call))
            .filter(|&&(call, _)| call != CLEAR_MARKS || self.marks == WriteMarks::Tracked)
            .filter(|(call, _)| self.only.is_empty() || self.only.iter().any(|one| one == call))
            .collect();
        let mut left = self.rng.below(allowed.iter().map(|(_, weight)| weight).sum());
        let mut chosen = "mmap";
        for (call, weight) in allowed {
            chosen = call;
            if left < *weight {
                break;
            }
            left -= weight;
        }
        self.make(chosen)
    }

    fn make(&mut self, call: &str) -> Operation {
        let (at, len) = self.range();
        match call {
            "munmap" => Operation::Munmap { at, len },
            "mprotect" => Operation::Mprotect { at, len, prot: self.prot() },
            "mremap" => self.mremap(),
            "madvise" => Operation::Madvise { at, len, advice: self.advice() },
            "mlock" => Operation::Mlock { at, len },
            "mlock2" => Operation::MlockOnFault { at, len },
            "munlock" => Operation::Munlock { at, len },
            "mlockall" => Operation::Mlockall { flags: LockAllFlags::from_bits_retain(self.rng.below(9) as u32) },
            "munlockall" => Operation::Munlockall,
            "brk" => Operation::Brk { bytes: self.rng.below(24 * PAGE_SIZE) },
            "msync" => Operation::Msync { at, len, flags: SyncFlags::from_bits_retain(self.rng.below(9) as u32) },
            // What is sealed stays until the process ends, so most processes seal nothing and the others little.
            "mseal" => Operation::Mseal { at, len: len.min(2 * PAGE_SIZE) },
            "remap_file_pages" => self.remap_file_pages(at, len),
            "write" => Operation::Write { at: self.byte(), byte: self.rng.below(255) as u8 + 1 },
            "read" => Operation::Read { at: self.byte() },
            "store" => Operation::Store { at: self.wild_byte(), byte: self.rng.below(255) as u8 + 1 },
            "load" => Operation::Load { at: self.wild_byte() },
            "fetch" => Operation::Fetch { at: self.wild_byte() },
            // No more than the host's side has room for, unless it is refused.
            "mincore" => Operation::Mincore { at, len: if len >> 32 == 0 { len.min(64 * PAGE_SIZE) } else { len } },
            "process_madvise" => self.process_madvise(),
            "ftruncate" => self.truncate(),
            CLEAR_MARKS => Operation::ClearMarks,
            "fork" => Operation::Fork,
            "exit" => Operation::Exit,
            _ => self.mmap(),
        }
    }

    fn page(&mut self) -> Place {
        let is_large = self.theme.is_large();
        if self.rng.one_in(if is_large { 2 } else { 4 }) {
            let pages = if is_large && self.rng.one_in(2) { 3 * TABLE_PAGES } else { 8 };
            Place::Slot(self.slot(), self.rng.below(pages) * PAGE_SIZE)
        } else {
            Place::Arena(self.rng.below(ARENA_PAGES) * PAGE_SIZE)
        }
    }

    fn byte(&mut self) -> Place {
        let in_page = self.rng.below(PAGE_SIZE);
        match self.page() {
            Place::Slot(slot, offset) => Place::Slot(slot, offset + in_page),
            Place::Arena(offset) => Place::Arena(offset + in_page),
            Place::Exact(addr) => Place::Exact(addr + in_page),
        }
    }

    /// A slot for an area; there are few for large ones, so that they are met again.
    fn slot(&mut self) -> usize {
        self.rng.index(if self.theme.is_large() { 3 } else { SLOTS })
    }

    /// An address for the process's own accesses, now and then where nothing can be.
    fn wild_byte(&mut self) -> Place {
        if self.theme == Theme::Huge && self.rng.one_in(2) {
            return Place::Slot(self.slot(), self.rng.below(2 * TABLE_PAGES * PAGE_SIZE));
        }
        if !self.rng.one_in(40) {
            return self.byte();
        }
        let edges = [0, 4095, 65535, (1 << 47) - 4096, (1 << 47) - 1, 0xffff_8000_0000_1000, u64::MAX - 4095];
        Place::Exact(edges[self.rng.index(edges.len())])
    }

    fn process_madvise(&mut self) -> Operation {
        let (first, second) = (self.page(), self.page());
        let ranges = [(first, self.len(8)), (second, self.len(8))];
        Operation::ProcessMadvise { ranges, advice: self.advice() }
    }

    fn truncate(&mut self) -> Operation {
        let pages = self.rng.below(FILE_PAGES + 1) * PAGE_SIZE;
        let bytes = if self.rng.one_in(2) { pages } else { pages + self.rng.below(PAGE_SIZE) };
        Operation::Truncate { file: self.rng.below(FILES), bytes }
    }

    fn range(&mut self) -> (Place, u64) {
        if self.theme.is_large() && self.rng.one_in(3) {
            return self.large_range();
        }
        let mut at = self.page();
        let mut len = self.len(match at {
            Place::Slot(..) => 8,
            _ => 16,
        });
        match self.rng.below(60) {
            0 => len = 0,
            1 => len = u64::MAX - self.rng.below(4096),
            2 => len = len.saturating_sub(self.rng.below(PAGE_SIZE)),
            3 => {
                if let Place::Arena(offset) = at {
                    at = Place::Arena(offset + self.rng.below(PAGE_SIZE));
                }
            }
            _ => {}
        }
        (at, len)
    }

    /// A range that begins with a slot, or near its begin, and holds whole tables.
    fn large_range(&mut self) -> (Place, u64) {
        let into = if self.rng.one_in(2) { 0 } else { self.rng.below(8) * PAGE_SIZE };
        let len = ((1 + self.rng.below(2)) * TABLE_PAGES + self.rng.below(3) * 4) * PAGE_SIZE - into;
        (Place::Slot(self.slot(), into), len)
    }

    fn len(&mut self, most: u64) -> u64 {
        (1 + self.rng.below(most)) * PAGE_SIZE
    }

    fn prot(&mut self) -> Prot {
        if self.theme == Theme::Huge {
            let kinds = [Prot::READ | Prot::WRITE, Prot::empty(), Prot::READ | Prot::WRITE | Prot::EXEC];
            return kinds[self.rng.index(8).saturating_sub(5)];
        }
        let mut prot = Prot::from_bits_retain(match self.rng.below(8) {
            0 => 0,
            1..3 => 1,
            3 => 5,
            4 => self.rng.below(8) as u32,
            _ => 3,
        });
        match self.rng.below(80) {
            0 => prot |= Prot::GROWSDOWN,
            1 => prot |= Prot::GROWSUP,
            2 => prot |= Prot::SEM,
            3 => prot |= Prot::from_bits_retain(1 << self.rng.below(32)),
            _ => {}
        }
        prot
    }

    fn mmap_large(&mut self) -> Operation {
        let pages = (1 + self.rng.below(3)) * TABLE_PAGES + self.rng.below(3) * 4;
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        let (len, prot, slot) = (pages * PAGE_SIZE, Prot::READ | Prot::WRITE, self.slot());
        if self.theme == Theme::Huge {
            let len = pages / TABLE_PAGES * TABLE_PAGES * PAGE_SIZE;
            self.pend_huge(slot, len);
        }
        Operation::Mmap { at: Place::Exact(0), len, prot, flags, file: None, offset: 0, slot }
    }

    /// Calls that get a slot, which is mapped now, huge pages: at once, or small ones first. Those pushed last are made first.
    fn pend_huge(&mut self, slot: usize, len: u64) {
        let at = Place::Slot(slot, 0);
        let is_gathered = self.rng.one_in(3);
        if is_gathered {
            self.pending.push(Operation::Madvise { at, len, advice: Advice::Collapse });
        }
        for _ in 0..self.rng.below(4) {
            let at = Place::Slot(slot, self.rng.below(len));
            self.pending.push(Operation::Store { at, byte: 1 });
        }
        if !is_gathered {
            self.pending.push(Operation::Madvise { at, len, advice: Advice::HugePage });
        }
    }

    fn mmap(&mut self) -> Operation {
        if self.theme.is_large() && self.rng.one_in(4) {
            return self.mmap_large();
        }
        let kind = match self.rng.below(20) {
            0 => self.rng.below(16) as u32,
            1..5 => 1,
            _ => 2,
        };
        let mut flags = MapFlags::from_bits_retain(kind);
        if self.theme == Theme::PagesOut && kind == MapFlags::DROPPABLE.bits() {
            flags = MapFlags::PRIVATE;
        }
        let mut file = self.rng.one_in(4).then(|| self.rng.below(FILES));
        if self.theme == Theme::Huge {
            // Linux collapses pages of memfds too.
            (flags, file) = (MapFlags::PRIVATE, None);
        }
        flags.set(MapFlags::ANONYMOUS, file.is_none());
        let rare = [
            (MapFlags::GROWSDOWN, 24),
            (MapFlags::LOCKED, 24),
            (MapFlags::NORESERVE, 16),
            (MapFlags::POPULATE, 16),
            (MapFlags::NONBLOCK, 40),
            (MapFlags::STACK, 24),
            (MapFlags::LOW_2GB, 30),
            (MapFlags::ABOVE_4GB, 30),
            (MapFlags::SYNC, 60),
            (MapFlags::DENYWRITE, 60),
        ];
        for (flag, chances) in rare {
            flags.set(flag, self.rng.one_in(chances));
        }
        let (at, mut len) = match self.rng.below(10) {
            0..2 => (Place::Exact(0), self.len(8)),
            2 => (Place::Exact(self.odd_address()), self.len(8)),
            _ => self.range(),
        };
        match self.rng.below(if matches!(at, Place::Slot(..)) { 7 } else { 10 }) {
            0 => flags |= MapFlags::FIXED_NOREPLACE,
            1..6 if !matches!(at, Place::Exact(_)) => flags |= MapFlags::FIXED,
            _ => {}
        }
        if at == Place::Exact(0) && self.rng.one_in(6) {
            len = (1 + self.rng.below(3)) << 21;
        }
        let offset = if file.is_some() { self.rng.below(FILE_PAGES + 4) * PAGE_SIZE } else { 0 };
        let offset = match self.rng.below(100) {
            0 => offset + 1 + self.rng.below(4095),
            1 => (u64::MAX - self.rng.below(1 << 16)) & !4095,
            _ => offset,
        };
        Operation::Mmap { at, len, prot: self.prot(), flags, file, offset, slot: self.rng.index(SLOTS) }
    }

    /// Hints at the edges of what may be mapped.
    fn odd_address(&mut self) -> u64 {
        let edges =
            [1, 4096, 65536, 65535, (1 << 47) - 4096, 1 << 47, u64::MAX - 4095, 0x7fff_ffff_f000 - 8192, 0x4000_0000];
        edges[self.rng.index(edges.len())]
    }

    /// Moves what fills tables, aligned like them or not.
    fn mremap_large(&mut self) -> Operation {
        let into = if self.rng.one_in(2) { 0 } else { self.rng.below(8) * PAGE_SIZE };
        let other = self.rng.below(8) * PAGE_SIZE;
        let old_len = ((1 + self.rng.below(3)) << 21) - into;
        let new_len = if self.rng.one_in(4) { (1 + self.rng.below(3)) << 21 } else { old_len };
        let flags = RemapFlags::from_bits_retain([1, 3, 3, 5, 7][self.rng.index(5)]);
        let beyond = ARENA + (1 << 30) + (self.rng.below(4) << 21);
        let to = Place::Exact(beyond + if self.rng.one_in(2) { into } else { other });
        let at = Place::Slot(self.slot(), into);
        Operation::Mremap { at, old_len, new_len, flags, to, slot: self.slot() }
    }

    fn mremap(&mut self) -> Operation {
        if self.theme.is_large() && self.rng.one_in(2) {
            return self.mremap_large();
        }
        let (at, old_len) = self.range();
        let new_len = match self.rng.below(12) {
            0 => 0,
            1..5 => old_len,
            _ => self.len(16),
        };
        let flags = match self.rng.below(16) {
            0 => self.rng.below(16) as u32,
            1..4 => 0,
            4..8 => 1,
            8..12 => 3,
            12 => 5,
            13 => 7,
            _ => 1,
        };
        let flags = RemapFlags::from_bits_retain(flags);
        let to =
            if flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP) { self.range().0 } else { Place::Exact(0) };
        let to = if let Place::Slot(..) = to { Place::Arena(self.rng.below(ARENA_PAGES) * PAGE_SIZE) } else { to };
        let old_len = if self.rng.one_in(30) { 0 } else { old_len };
        Operation::Mremap { at, old_len, new_len, flags, to, slot: self.rng.index(SLOTS) }
    }

    fn remap_file_pages(&mut self, at: Place, len: u64) -> Operation {
        let prot = Prot::from_bits_retain(if self.rng.one_in(12) { self.rng.below(8) as u32 } else { 0 });
        let pgoff = match self.rng.below(20) {
            0 => u64::MAX - self.rng.below(20),
            1 => 1 << (40 + self.rng.below(20)),
            _ => self.rng.below(FILE_PAGES),
        };
        let mut flags = MapFlags::empty();
        flags.set(MapFlags::NONBLOCK, self.rng.one_in(3));
        Operation::RemapFilePages { at, len, prot, pgoff, flags }
    }

    fn advice(&mut self) -> Advice {
        let fit: Vec<_> = Advice::ALL.into_iter().filter(|one| self.theme.advises(*one)).collect();
        fit[self.rng.index(fit.len())]
    }
}
