//! The interrupt descriptor table, shared by all CPUs, and the code that enters and leaves Rust handlers.
//!
//! Built once on the boot CPU. Every gate switches to an interrupt stack (`InterruptStack`), so code that was interrupted may
//! have live data below its stack pointer. Intel SDM volume 3, 6.14.

use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::mem::size_of;

use crate::gdt::{InterruptStack, KERNEL_CODE, TablePointer};
use crate::{traps, user_entry};

/// Vector of the local timer.
pub(crate) const TIMER_VECTOR: u8 = 0x40;
/// Vector that ends a CPU's wait for a job.
pub(crate) const WAKE_UP_VECTOR: u8 = 0x41;
/// Vector that the local APIC reports when an interrupt went away before it was taken.
pub(crate) const SPURIOUS_VECTOR: u8 = 0xff;

const NMI: usize = 2;
const BREAKPOINT: usize = 3;
/// Register of the gs base that is in use.
const MSR_GS_BASE: u32 = 0xc000_0101;

/// Registers of the interrupted code, as the entry code leaves them on the interrupt stack.
#[repr(C)]
pub(crate) struct TrapFrame {
    /// r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi
    pub(crate) general: [u64; 15],
    pub(crate) vector: u64,
    pub(crate) error_code: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    low: u64,
    high: u64,
}

impl Gate {
    const ABSENT: Self = Self { low: 0, high: 0 };

    /// Makes a 64-bit interrupt gate: present, interrupts off in the handler.
    fn new(handler: u64, stack: InterruptStack, from: Raised) -> Self {
        let low = handler & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | (stack as u64) << 32
            | (0x8e | (from as u64) << 5) << 40
            | (handler >> 16 & 0xffff) << 48;
        Self { low, high: handler >> 32 }
    }
}

/// Who may raise a vector by an instruction: the privilege level of its gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
enum Raised {
    /// The kernel only.
    ByKernel = 0,
    /// Programs too.
    ByPrograms = 3,
}

/// The table.
#[repr(C, align(16))]
pub(crate) struct Idt {
    gates: [Gate; 256],
}

impl Idt {
    /// Makes a table with no gate.
    pub(crate) const fn new() -> Self {
        Self { gates: [Gate::ABSENT; 256] }
    }

    /// Sets the gates of the exceptions, the NMI, and the interrupts.
    pub(crate) fn fill(&mut self) {
        for (vector, &stub) in EXCEPTION_STUBS.iter().enumerate() {
            let stack = match vector {
                NMI => InterruptStack::Nmi,
                8 => InterruptStack::DoubleFault,
                _ => InterruptStack::Exception,
            };
            let from = if vector == BREAKPOINT { Raised::ByPrograms } else { Raised::ByKernel };
            self.gates[vector] = Gate::new(address(stub), stack, from);
        }
        let interrupts: [(u8, Stub); 3] =
            [(TIMER_VECTOR, timer_stub), (WAKE_UP_VECTOR, wake_up_stub), (SPURIOUS_VECTOR, spurious_stub)];
        for (vector, stub) in interrupts {
            self.gates[usize::from(vector)] = Gate::new(address(stub), InterruptStack::Interrupt, Raised::ByKernel);
        }
    }
}

/// The table of all CPUs.
///
/// # Invariants
/// Written by [`fill_table`] before the first [`load_table`], never after.
struct SharedTable(UnsafeCell<Idt>);

// SAFETY: by the type invariant it is only read once a second CPU can see it.
unsafe impl Sync for SharedTable {}

static TABLE: SharedTable = SharedTable(UnsafeCell::new(Idt::new()));

/// Fills the table of all CPUs.
///
/// # Safety
/// Called once, on the boot CPU, before [`load_table`] and before another CPU runs.
pub(crate) unsafe fn fill_table() {
    // SAFETY: the only CPU, and nothing else borrows the table.
    let table = unsafe { &mut *TABLE.0.get() };
    table.fill();
}

/// Makes this CPU use the table.
///
/// # Safety
/// The table is filled and the CPU's area is loaded.
pub(crate) unsafe fn load_table() {
    let pointer = TablePointer { limit: size_of::<Idt>() as u16 - 1, base: TABLE.0.get().addr() as u64 };
    // SAFETY: the caller's contract; the table is static.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
}

type Stub = unsafe extern "C" fn();

fn address(stub: Stub) -> u64 {
    stub as usize as u64
}

/// Leaves a program as `user_entry` says. Of kernel code it saves all registers, calls `traps::dispatch` with the frame, restores them and
/// returns.
///
/// The SSE registers go below the frame, at the alignment that `fxsave64` needs; rbp keeps the frame's address.
#[unsafe(naked)]
unsafe extern "C" fn common() {
    naked_asm!(
        // The privilege level of the interrupted code, in cs behind vector, error code and rip.
        "test byte ptr [rsp + 24], 3",
        "jnz {leave_program}",
        "push rdi", "push rsi", "push rdx", "push rcx", "push rax", "push r8", "push r9", "push r10", "push r11",
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "cld",
        "mov rbp, rsp",
        "mov rdi, rsp",
        "sub rsp, 512",
        "and rsp, -16",
        "fxsave64 [rsp]",
        "call {dispatch}",
        "fxrstor64 [rsp]",
        "mov rsp, rbp",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "pop r11", "pop r10", "pop r9", "pop r8", "pop rax", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
        "add rsp, 16",
        "iretq",
        dispatch = sym traps::dispatch,
        leave_program = sym user_entry::leave_program,
    )
}

/// As `common` for NMIs, which do not leave a program: they stay blocked until `iretq`, and other CPUs wait for the answer.
///
/// An NMI may come between the entry of a system call and its `swapgs`, so the gs base itself says whose it is: the kernel's
/// is in the upper half of the addresses, where no program's can be.
#[unsafe(naked)]
unsafe extern "C" fn exception_2() {
    naked_asm!(
        "push 0", "push 2",
        "push rdi", "push rsi", "push rdx", "push rcx", "push rax", "push r8", "push r9", "push r10", "push r11",
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "cld",
        "xor ebx, ebx",
        "mov ecx, {gs_base}",
        "rdmsr",
        "test edx, edx",
        "js 2f",
        "swapgs",
        "inc ebx",
        "2:",
        "mov rbp, rsp",
        "mov rdi, rsp",
        "sub rsp, 512",
        "and rsp, -16",
        "fxsave64 [rsp]",
        "call {dispatch}",
        "fxrstor64 [rsp]",
        "mov rsp, rbp",
        "test ebx, ebx",
        "jz 3f",
        "swapgs",
        "3:",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "pop r11", "pop r10", "pop r9", "pop r8", "pop rax", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
        "add rsp, 16",
        "iretq",
        gs_base = const MSR_GS_BASE,
        dispatch = sym traps::dispatch,
    )
}

/// Defines the entry of a vector for which the CPU pushes no error code.
macro_rules! plain_stub {
    ($name:ident, $vector:expr) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!("push 0", "push {vector}", "jmp {common}", vector = const $vector, common = sym common)
        }
    };
}

/// Defines the entry of an exception for which the CPU pushes an error code.
macro_rules! error_stub {
    ($name:ident, $vector:expr) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!("push {vector}", "jmp {common}", vector = const $vector, common = sym common)
        }
    };
}

/// The entry of this vector is written out.
macro_rules! own_stub {
    ($name:ident, $vector:expr) => {};
}

macro_rules! exception_stubs {
    ($($kind:ident $name:ident $vector:literal),* $(,)?) => {
        $($kind!($name, $vector);)*
        /// Entry points of vectors 0 to 31.
        static EXCEPTION_STUBS: [Stub; 32] = [$($name),*];
    };
}

exception_stubs! {
    plain_stub exception_0 0, plain_stub exception_1 1, own_stub exception_2 2, plain_stub exception_3 3,
    plain_stub exception_4 4, plain_stub exception_5 5, plain_stub exception_6 6, plain_stub exception_7 7,
    error_stub exception_8 8, plain_stub exception_9 9, error_stub exception_10 10, error_stub exception_11 11,
    error_stub exception_12 12, error_stub exception_13 13, error_stub exception_14 14, plain_stub exception_15 15,
    plain_stub exception_16 16, error_stub exception_17 17, plain_stub exception_18 18, plain_stub exception_19 19,
    plain_stub exception_20 20, error_stub exception_21 21, plain_stub exception_22 22, plain_stub exception_23 23,
    plain_stub exception_24 24, plain_stub exception_25 25, plain_stub exception_26 26, plain_stub exception_27 27,
    plain_stub exception_28 28, error_stub exception_29 29, error_stub exception_30 30, plain_stub exception_31 31,
}

plain_stub!(timer_stub, TIMER_VECTOR);
plain_stub!(wake_up_stub, WAKE_UP_VECTOR);
plain_stub!(spurious_stub, SPURIOUS_VECTOR);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_spreads_the_handler_over_its_fields() {
        let gate = Gate::new(0xffff_ffff_8123_4567, InterruptStack::Nmi, Raised::ByKernel);
        assert_eq!(gate.low, 0x8123_8e02_0008_4567);
        assert_eq!(gate.high, 0xffff_ffff);
    }

    #[test]
    fn only_the_breakpoint_can_be_raised_by_programs() {
        let mut idt = Idt::new();
        idt.fill();
        let open = |gate: &&Gate| gate.low >> 45 & 3 == 3;
        assert_eq!(idt.gates.iter().filter(open).count(), 1);
        assert!(open(&&idt.gates[BREAKPOINT]));
    }

    #[test]
    fn every_gate_that_is_set_switches_stacks() {
        let mut idt = Idt::new();
        idt.fill();
        let set: usize = idt.gates.iter().filter(|gate| gate.low != 0).count();
        assert_eq!(set, 35);
        assert!(idt.gates.iter().filter(|gate| gate.low != 0).all(|gate| gate.low >> 32 & 7 != 0));
    }
}
