//! What happens on each vector: exceptions end the machine with their registers printed.
//!
//! Called by `idt` on an interrupt stack with interrupts off.

use crate::cpu_area::this_area;
use crate::idt::{SPURIOUS_VECTOR, TIMER_VECTOR, TrapFrame, WAKE_UP_VECTOR};
use crate::instructions::{memory_fence, read_cr2};
use crate::{apic, exit, timer, tlb};

const NMI: u8 = 2;
const PAGE_FAULT: u64 = 14;

/// Handles the interrupt or exception that `frame` describes.
pub(crate) extern "C" fn dispatch(frame: &TrapFrame) {
    match u8::try_from(frame.vector) {
        Ok(TIMER_VECTOR) => timer::interrupt(),
        Ok(NMI) => {
            this_area().fence.answer(memory_fence);
            tlb::answer();
        }
        // The interrupted wait looks for a job by itself.
        Ok(WAKE_UP_VECTOR) => apic::end_of_interrupt(),
        Ok(SPURIOUS_VECTOR) => (),
        _ => die_of_exception(frame),
    }
}

fn die_of_exception(frame: &TrapFrame) -> ! {
    let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi] = frame.general;
    let cr2 = if frame.vector == PAGE_FAULT { read_cr2() } else { 0 };
    exit::die(format_args!(
        "{name} (vector {vector}, error code {error:#x})\n\
         RIP: {cs:04x}:{rip:016x} RSP: {ss:04x}:{rsp:016x} EFLAGS: {rflags:08x} CR2: {cr2:016x}\n\
         RAX: {rax:016x} RBX: {rbx:016x} RCX: {rcx:016x}\nRDX: {rdx:016x} RSI: {rsi:016x} RDI: {rdi:016x}\n\
         RBP: {rbp:016x} R08: {r8:016x} R09: {r9:016x}\nR10: {r10:016x} R11: {r11:016x} R12: {r12:016x}\n\
         R13: {r13:016x} R14: {r14:016x} R15: {r15:016x}",
        name = exception_name(frame.vector),
        vector = frame.vector,
        error = frame.error_code,
        cs = frame.cs,
        rip = frame.rip,
        ss = frame.ss,
        rsp = frame.rsp,
        rflags = frame.rflags,
    ))
}

/// Returns the architecture's name of an exception (Intel SDM volume 3, table 6-1).
fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack-segment fault",
        13 => "general protection fault",
        PAGE_FAULT => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        21 => "control protection exception",
        _ => "unexpected vector",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_with_an_error_code_has_a_name() {
        for vector in [8, 10, 11, 12, 13, 14, 17, 21] {
            assert_ne!(exception_name(vector), "unexpected vector", "{vector}");
        }
        assert_eq!(exception_name(u64::from(TIMER_VECTOR)), "unexpected vector");
    }
}
