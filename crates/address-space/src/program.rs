//! Where a program and its mappings lie: what exec decides.
//!
//! Linux 6.12: include/linux/mm_types.h (`start_code`, `start_brk`, `mmap_base`), mm/util.c and arch/x86/mm/mmap.c (`arch_pick_mmap_layout`).

use units::{VirtAddr, VirtRange};

use crate::limits::Settings;

/// Addresses that exec sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProgramRanges {
    /// The program's code.
    pub code: VirtRange,
    /// The program's data, which counts against RLIMIT_DATA with the heap.
    pub data: VirtRange,
    /// Where the stack began.
    pub start_stack: VirtAddr,
    /// Where the heap begins.
    pub start_brk: VirtAddr,
    /// Where the heap ends, to the byte.
    pub brk: VirtAddr,
    /// Arguments.
    pub args: VirtRange,
    /// Environment.
    pub env: VirtRange,
}

/// Where mappings go that ask for no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmapLayout {
    /// Which way they go.
    pub direction: Direction,
    /// Downwards from here (mmap_base).
    pub base: VirtAddr,
    /// Upwards from here (mmap_legacy_base).
    pub legacy_base: VirtAddr,
}

/// Which way a search for addresses goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the stack down (MMF_TOPDOWN).
    TopDown,
    /// From a third of the addresses up (the legacy layout).
    BottomUp,
}

/// Smallest room that is kept for the stack, in bytes.
const MIN_STACK_ROOM: u64 = 128 << 20;

impl MmapLayout {
    /// What an address space has that no program runs in.
    pub const NONE: Self = Self { direction: Direction::TopDown, base: VirtAddr::ZERO, legacy_base: VirtAddr::ZERO };

    /// Returns the layout without randomisation (Linux: `arch_pick_mmap_layout`, `mmap_base`).
    pub fn new(settings: &Settings, direction: Direction, stack_limit: u64) -> Self {
        let window = settings.default_window.raw();
        let gap = stack_limit.checked_add(settings.guard_gap).unwrap_or(stack_limit);
        let gap = gap.clamp(MIN_STACK_ROOM, window / 6 * 5);
        Self {
            direction,
            base: VirtAddr::new(window - gap).align_up(crate::PAGE_SIZE),
            legacy_base: VirtAddr::new(window / 3).align_up(crate::PAGE_SIZE),
        }
    }
}
