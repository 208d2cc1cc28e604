//! A check at every boot, on every CPU: a program of a few instructions in ring 3 is left by each way there is and keeps its registers.
//!
//! Runs once the memory manager is there, on page tables of its own that are made by hand.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use units::{Gfp, Order, PhysAddr, VirtAddr};
use userland::{Entry, FloatingPoint, Registers, Trap};

use crate::cpu_area::this_cpu;
use crate::instructions::{interrupts_enable, interrupts_save, load_page_table, read_cr2};
use crate::kernel::{self, BareKernel};
use crate::paging::{self, TABLE_SIZE};
use crate::programs;
use crate::smp;
use crate::user_entry::{self, SYSTEM_CALL};

/// Where the program is: the first entry of each table but the lowest.
const CODE: VirtAddr = VirtAddr::new(0x5000);
/// Entries that lead further down, and the page: present, writable, for programs.
const FOR_PROGRAMS: u64 = 7;
/// First entry of a root table that the kernel's addresses have.
const KERNEL_HALF: usize = 256;
const ENTRIES: usize = 512;
/// The SSE registers in the state of a program; what comes before them the processor completes.
const XMM: Range<usize> = 160..416;
/// The program: system call; breakpoint; an undefined instruction; `cli`; a read of address 0.
const PROGRAM: [u8; 14] = [
    0x0f, 0x05, // syscall
    0xcc, // int3
    0x0f, 0x0b, // ud2
    0xfa, // cli
    0x48, 0x8b, 0x04, 0x25, 0x08, 0, 0, 0, // mov rax, [8]
];
/// How the program is left, in order: vector and error code, and how many bytes to go on behind.
const WAYS: [(u64, u64, u64); 5] = [(SYSTEM_CALL, 0, 0), (3, 0, 0), (6, 0, 2), (13, 0, 1), (14, 4, 0)];

/// CPUs on which everything held.
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Runs the check on every CPU; true if it held.
pub(crate) fn run() -> bool {
    // Relaxed: read after the job, which synchronises.
    PASSED.store(0, Ordering::Relaxed);
    smp::run_on_all(|_| {
        let held = kernel::booted().and_then(run_here) == Some(true);
        PASSED.fetch_add(u64::from(held), Ordering::Relaxed);
    });
    PASSED.load(Ordering::Relaxed) == crate::cpu_area::online().count() as u64
}

/// Runs the check on this CPU; `None` without memory.
fn run_here(kernel: &BareKernel) -> Option<bool> {
    let (cpu, pages) = (this_cpu(), kernel.pages());
    let block = pages.alloc(cpu, Gfp::KERNEL | Gfp::ZERO, Order::new_truncate(3)).ok()?;
    let start = pages.address(&block)?.cast();
    let phys = PhysAddr::new(block.pfn().raw() * TABLE_SIZE);
    // SAFETY: the block is owned and has eight pages.
    let root = unsafe { make_tables(start, phys) };
    let enabled = interrupts_save();
    // SAFETY: the tables have the kernel's half of the current ones.
    unsafe { load_page_table(root) };
    let held = leave_all_ways();
    // SAFETY: back to the tables that every CPU runs on.
    unsafe { paging::activate_again() };
    if enabled {
        interrupts_enable();
    }
    pages.free(cpu, block);
    Some(held)
}

/// Fills root, two directories, a table and the code page; returns the root.
///
/// # Safety
/// `start` is the direct map's address of `phys`, of eight zeroed pages that nobody else uses.
unsafe fn make_tables(start: NonNull<u8>, phys: PhysAddr) -> PhysAddr {
    let page = |index: u64| phys.saturating_add(index * TABLE_SIZE);
    let words: NonNull<u64> = start.cast();
    // SAFETY: the caller's contract: eight pages.
    let tables = unsafe { core::slice::from_raw_parts_mut(words.as_ptr(), 4 * ENTRIES) };
    for (index, entry) in tables.iter_mut().enumerate().take(ENTRIES).skip(KERNEL_HALF) {
        *entry = paging::kernel_root_entry(index);
    }
    for (table, next) in (1..4).enumerate() {
        tables[table * ENTRIES] = page(next).raw() | FOR_PROGRAMS;
    }
    tables[3 * ENTRIES + (CODE.raw() / TABLE_SIZE) as usize] = page(4).raw() | FOR_PROGRAMS;
    // SAFETY: the fifth page is inside the block.
    let code = unsafe { start.add(4 * TABLE_SIZE as usize) };
    // SAFETY: as above; the program is shorter than a page.
    unsafe { code.as_ptr().copy_from_nonoverlapping(PROGRAM.as_ptr(), PROGRAM.len()) };
    page(0)
}

/// Enters the program again and again; true if it is left as expected each time with its registers as they were.
fn leave_all_ways() -> bool {
    let mut registers = Registers::starting(CODE, CODE.saturating_add(TABLE_SIZE));
    (registers.rbx, registers.r10, registers.r15) = (1, 2, 3);
    let mut state = *FloatingPoint::INITIAL.bytes();
    state.iter_mut().skip(XMM.start).take(XMM.len()).for_each(|byte| *byte = 0x5a);
    registers.floating_point = FloatingPoint::from_program(state);
    let mut held = true;
    for (vector, error_code, skipped) in WAYS {
        let before = registers.clone();
        let left = loop {
            // SAFETY: interrupts are off, the tables are the program's, and no program has bases.
            let left = unsafe { user_entry::enter(&raw mut registers) };
            if !matches!(programs::trap_of(left), Trap::Interrupt { .. }) {
                break left;
            }
            // An interrupt of the machine came first, and is handled: on from where the program was.
            registers.entry = Entry::Whole;
        };
        held &= (left.vector, left.error_code) == (vector, error_code);
        held &= (registers.rbx, registers.r10, registers.r15, registers.rsp) == (1, 2, 3, before.rsp);
        held &= registers.floating_point.bytes().get(XMM) == state.get(XMM) && registers.flags() & 1 << 9 != 0;
        registers.rip += skipped;
        // Both ways to enter are taken.
        registers.entry = if vector == SYSTEM_CALL { Entry::SystemCall } else { Entry::Whole };
    }
    held && read_cr2() == 8
}
