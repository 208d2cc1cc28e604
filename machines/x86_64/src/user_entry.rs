//! Entering a program in ring 3, and every way back.
//!
//! [`enter`] is a function call: it saves what a call has to keep on the kernel's stack and loads the program's registers. A system call, exception
//! or interrupt of the program stores them again, goes back to that stack and returns from `enter`. So nothing is kept below the program, and each CPU has
//! one kernel stack. Interrupts are off outside of programs.
//!
//! gs: a program has its own base while it runs, exchanged by `swapgs` as the first and the last instruction that uses gs.
//! Intel SDM volume 3, 5.8.7 and 5.8.8; volume 2, `syscall`, `sysret`, `swapgs`.

use core::arch::naked_asm;
use core::mem::offset_of;

use userland::Registers;

use crate::cpu_area::ProgramSlots;
use crate::gdt::{SYSTEM_CALL_SELECTORS, USER_CODE, USER_DATA};
use crate::instructions::write_msr;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SYSCALL_MASK: u32 = 0xc000_0084;
/// Flags that are cleared when a system call begins: trap, interrupts, direction, input/output level, nested task, alignment check.
const CLEARED_FLAGS: u64 = 1 << 8 | 1 << 9 | 1 << 10 | 3 << 12 | 1 << 14 | 1 << 18;

/// What [`enter`] returns as vector for a system call.
pub(crate) const SYSTEM_CALL: u64 = 256;

/// Why a program was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct Left {
    /// Vector of the exception or interrupt, or [`SYSTEM_CALL`].
    pub(crate) vector: u64,
    /// Error code of the exception; 0 where there is none.
    pub(crate) error_code: u64,
}

/// Makes this CPU take system calls.
pub(crate) fn enable_system_calls() {
    let entry = system_call as *const () as u64;
    for (register, value) in [(MSR_STAR, SYSTEM_CALL_SELECTORS), (MSR_LSTAR, entry), (MSR_SYSCALL_MASK, CLEARED_FLAGS)]
    {
        // SAFETY: the registers are used by `syscall` and `sysret` alone, whose entry and exit are in this file.
        unsafe { write_msr(register, value) };
    }
}

/// `naked_asm!` with the names of the places of a program's registers and of what the CPU's area keeps.
macro_rules! program_asm {
    ($($text:literal,)* $($name:ident = $kind:ident $value:expr,)*) => {
        naked_asm!(
            $($text,)*
            $($name = $kind $value,)*
            kernel_stack = const ProgramSlots::KERNEL_STACK,
            registers = const ProgramSlots::REGISTERS,
            fx = const offset_of!(Registers, floating_point),
            rip = const offset_of!(Registers, rip),
            flags = const Registers::FLAGS_OFFSET,
            rsp = const offset_of!(Registers, rsp),
            rax = const offset_of!(Registers, rax),
            rbx = const offset_of!(Registers, rbx),
            rcx = const offset_of!(Registers, rcx),
            rdx = const offset_of!(Registers, rdx),
            rsi = const offset_of!(Registers, rsi),
            rdi = const offset_of!(Registers, rdi),
            rbp = const offset_of!(Registers, rbp),
            r8 = const offset_of!(Registers, r8),
            r9 = const offset_of!(Registers, r9),
            r10 = const offset_of!(Registers, r10),
            r11 = const offset_of!(Registers, r11),
            r12 = const offset_of!(Registers, r12),
            r13 = const offset_of!(Registers, r13),
            r14 = const offset_of!(Registers, r14),
            r15 = const offset_of!(Registers, r15),
        )
    };
}

/// Runs the program of `registers` until something stops it; its registers are stored there then.
///
/// # Safety
/// Interrupts are off; the page tables in use are the program's, with the kernel's addresses as everywhere; the register `rip` is a
/// program's address; the bases of fs and gs are the program's, the latter as the one that `swapgs` brings.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn enter(registers: *mut Registers) -> Left {
    program_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov gs:[{kernel_stack}], rsp",
        "mov gs:[{registers}], rdi",
        "fxrstor64 [rdi + {fx}]",
        "cmp qword ptr [rdi + {entry}], {system_call}",
        "jne 2f",
        // Back from a system call, which loses rcx and r11.
        "mov rcx, [rdi + {rip}]",
        "mov r11, [rdi + {flags}]",
        "mov rsp, [rdi + {rsp}]",
        "jmp 3f",
        "2:",
        "push {user_data}",
        "push qword ptr [rdi + {rsp}]",
        "push qword ptr [rdi + {flags}]",
        "push {user_code}",
        "push qword ptr [rdi + {rip}]",
        "mov rcx, [rdi + {rcx}]",
        "mov r11, [rdi + {r11}]",
        "3:",
        "mov rax, [rdi + {rax}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "cmp qword ptr [rdi + {entry}], {system_call}",
        "mov rdi, [rdi + {rdi}]",
        "swapgs",
        "jne 4f",
        "sysretq",
        "4:",
        "iretq",
        system_call = const userland::Entry::SystemCall as u64,
        user_data = const USER_DATA,
        user_code = const USER_CODE,
        entry = const offset_of!(Registers, entry),
    )
}

/// Where `syscall` enters: rcx and r11 hold the program's rip and flags, rsp is still its own.
#[unsafe(naked)]
unsafe extern "C" fn system_call() {
    program_asm!(
        "swapgs",
        "mov gs:[{scratch}], rsp",
        "mov rsp, gs:[{registers}]",
        "mov [rsp + {rip}], rcx",
        "mov [rsp + {flags}], r11",
        "mov [rsp + {rax}], rax",
        "mov [rsp + {rbx}], rbx",
        "mov [rsp + {rdx}], rdx",
        "mov [rsp + {rsi}], rsi",
        "mov [rsp + {rdi}], rdi",
        "mov [rsp + {rbp}], rbp",
        "mov [rsp + {r8}], r8",
        "mov [rsp + {r9}], r9",
        "mov [rsp + {r10}], r10",
        "mov [rsp + {r12}], r12",
        "mov [rsp + {r13}], r13",
        "mov [rsp + {r14}], r14",
        "mov [rsp + {r15}], r15",
        // As a program finds them after a system call, also where it is entered otherwise afterwards.
        "mov [rsp + {rcx}], rcx",
        "mov [rsp + {r11}], r11",
        "mov rax, gs:[{scratch}]",
        "mov [rsp + {rsp}], rax",
        "fxsave64 [rsp + {fx}]",
        "mov rsp, gs:[{kernel_stack}]",
        "mov eax, {system_call}",
        "xor edx, edx",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        scratch = const ProgramSlots::SCRATCH,
        system_call = const SYSTEM_CALL,
    )
}

/// Where `idt` goes with an exception or interrupt of a program, on an interrupt stack: vector, error code, rip, cs, flags, rsp, ss.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn leave_program() {
    program_asm!(
        "swapgs",
        "cld",
        "mov gs:[{scratch}], rax",
        "mov rax, gs:[{registers}]",
        "mov [rax + {rbx}], rbx",
        "mov [rax + {rcx}], rcx",
        "mov [rax + {rdx}], rdx",
        "mov [rax + {rsi}], rsi",
        "mov [rax + {rdi}], rdi",
        "mov [rax + {rbp}], rbp",
        "mov [rax + {r8}], r8",
        "mov [rax + {r9}], r9",
        "mov [rax + {r10}], r10",
        "mov [rax + {r11}], r11",
        "mov [rax + {r12}], r12",
        "mov [rax + {r13}], r13",
        "mov [rax + {r14}], r14",
        "mov [rax + {r15}], r15",
        "mov rbx, gs:[{scratch}]",
        "mov [rax + {rax}], rbx",
        "mov rbx, [rsp + 16]",
        "mov [rax + {rip}], rbx",
        "mov rbx, [rsp + 32]",
        "mov [rax + {flags}], rbx",
        "mov rbx, [rsp + 40]",
        "mov [rax + {rsp}], rbx",
        "fxsave64 [rax + {fx}]",
        "mov rax, [rsp]",
        "mov rdx, [rsp + 8]",
        "mov rsp, gs:[{kernel_stack}]",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        scratch = const ProgramSlots::SCRATCH,
    )
}
