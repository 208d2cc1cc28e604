//! What a handler finds on its stack, and going back from it.
//!
//! The layout is the processor's ABI: return address, ucontext, siginfo, and above them the x87 and SSE state.
//! Linux 6.12: arch/x86/kernel/signal_64.c, arch/x86/include/uapi/asm/sigcontext.h, ucontext.h.

use units::VirtAddr;

use super::{Details, SignalInfo, SignalSet};
use crate::errno::Errno;
use crate::registers::{Entry, FX_BYTES, FloatingPoint, Registers};

/// Bytes below the stack pointer that compiled code may use.
const RED_ZONE: u64 = 128;
const UCONTEXT: usize = 8;
const SIGNAL_STACK: usize = UCONTEXT + 16;
const MACHINE_CONTEXT: usize = UCONTEXT + 40;
const MASK: usize = MACHINE_CONTEXT + 256;
const INFO: usize = MASK + 8;
const INFO_BYTES: usize = 128;
/// Bytes of the frame below the x87 and SSE state.
pub(crate) const FRAME_BYTES: usize = INFO + INFO_BYTES;
/// Place of the pointer to the x87 and SSE state in the machine context, in words.
const FP_POINTER: usize = 23;
/// Selectors of a program's code and stack, as Linux has them.
const SELECTORS: u64 = 0x33 | 0x2b << 48;
/// The ucontext says how to restore the stack segment: UC_SIGCONTEXT_SS and UC_STRICT_RESTORE_SS.
const UC_FLAGS: u64 = 2 | 4;

const SS_ONSTACK: u32 = 1;
pub(crate) const SS_DISABLE: u32 = 2;
pub(crate) const SS_AUTODISARM: u32 = 1 << 31;

/// A stack for handlers (sigaltstack).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AltStack {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) flags: u32,
}

impl AltStack {
    pub(crate) const NONE: Self = Self { start: 0, bytes: 0, flags: SS_DISABLE };

    /// Returns true if `rsp` is on the stack.
    pub(crate) const fn contains(&self, rsp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && rsp > self.start && rsp - self.start <= self.bytes
    }

    /// Returns the flags as sigaltstack shows them (Linux: `sas_ss_flags`).
    pub(crate) const fn shown_flags(&self, rsp: u64) -> u32 {
        if self.bytes == 0 {
            SS_DISABLE
        } else if self.contains(rsp) {
            SS_ONSTACK | self.flags & SS_AUTODISARM
        } else {
            self.flags & SS_AUTODISARM
        }
    }
}

/// A frame for a handler.
pub(crate) struct Frame {
    /// Where it goes, and the handler's stack pointer.
    pub(crate) at: VirtAddr,
    pub(crate) bytes: [u8; FRAME_BYTES],
    /// Where the x87 and SSE state goes.
    pub(crate) floating_point: VirtAddr,
}

impl Frame {
    /// Address of the handler's second argument.
    pub(crate) const fn info(&self) -> u64 {
        self.at.raw() + INFO as u64
    }

    /// Address of the handler's third argument.
    pub(crate) const fn context(&self) -> u64 {
        self.at.raw() + UCONTEXT as u64
    }

    /// Builds the frame of a handler that interrupts a program at `registers`. `top` is the end of the handler's own stack, if it runs there.
    /// `blocked` is what to block again afterwards.
    pub(crate) fn build(
        registers: &Registers,
        info: &SignalInfo,
        (alt_stack, top): (&AltStack, Option<u64>),
        (blocked, restorer): (SignalSet, u64),
    ) -> Self {
        let top = top.unwrap_or(registers.rsp.wrapping_sub(RED_ZONE));
        let floating_point = top.wrapping_sub(FX_BYTES as u64) & !63;
        let at = (floating_point.wrapping_sub(FRAME_BYTES as u64) & !15).wrapping_sub(8);
        let mut bytes = [0; FRAME_BYTES];
        put(&mut bytes, 0, &[restorer, UC_FLAGS]);
        put(&mut bytes, SIGNAL_STACK, &[alt_stack.start, alt_stack.shown_flags(registers.rsp).into(), alt_stack.bytes]);
        put(&mut bytes, MACHINE_CONTEXT, &machine_context(registers, info, blocked, floating_point));
        put(&mut bytes, MASK, &[blocked.0]);
        put(&mut bytes, INFO, &info_words(info));
        Self { at: VirtAddr::new(at), bytes, floating_point: VirtAddr::new(floating_point) }
    }
}

fn put(bytes: &mut [u8], at: usize, words: &[u64]) {
    let places = bytes.get_mut(at..).unwrap_or_default().chunks_exact_mut(8);
    for (place, word) in places.zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

fn machine_context(registers: &Registers, info: &SignalInfo, blocked: SignalSet, floating_point: u64) -> [u64; 24] {
    let r = registers;
    let (trap, addr) = match info.details {
        Details::Fault(addr) => (14, addr.raw()),
        _ => (0, 0),
    };
    [
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15,
        r.rdi,
        r.rsi,
        r.rbp,
        r.rbx,
        r.rdx,
        r.rax,
        r.rcx,
        r.rsp,
        r.rip,
        r.flags(),
        SELECTORS,
        0,
        trap,
        blocked.0,
        addr,
        floating_point,
    ]
}

/// Returns siginfo_t: number, errno 0, code, then what the code says.
pub(crate) fn info_words(info: &SignalInfo) -> [u64; 16] {
    let mut words = [0; 16];
    words[0] = info.signal.into();
    words[1] = u64::from(info.code as u32);
    match info.details {
        Details::None => {}
        Details::Fault(addr) => words[2] = addr.raw(),
        Details::Sender(pid) => words[2] = pid.into(),
        Details::Said(first, second) => (words[2], words[3]) = (first, second),
        Details::Child { pid, status } => {
            words[2] = pid.into();
            words[3] = status.into();
        }
    }
    words
}

/// What a frame says to go back to.
pub(crate) struct Restored {
    pub(crate) blocked: SignalSet,
    /// Where the x87 and SSE state is; 0 for none.
    pub(crate) floating_point: u64,
    pub(crate) alt_stack: AltStack,
}

/// Takes registers out of a frame that starts at its ucontext.
///
/// # Errors
/// EFAULT if the frame is cut short.
pub(crate) fn restore(registers: &mut Registers, bytes: &[u8]) -> Result<Restored, Errno> {
    let word = |at: usize| {
        let at = at.checked_sub(UCONTEXT)?;
        bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
    };
    let mut words = [0; 24];
    for (index, place) in words.iter_mut().enumerate() {
        *place = word(MACHINE_CONTEXT + 8 * index).ok_or(Errno::EFAULT)?;
    }
    let r = registers;
    [
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15,
        r.rdi,
        r.rsi,
        r.rbp,
        r.rbx,
        r.rdx,
        r.rax,
        r.rcx,
        r.rsp,
        r.rip,
        ..,
    ] = words;
    r.set_flags(words[17]);
    r.entry = Entry::Whole;
    let blocked = word(MASK).ok_or(Errno::EFAULT)?;
    let stack = [0, 8, 16].map(|offset| word(SIGNAL_STACK + offset).unwrap_or(0));
    let alt_stack = AltStack { start: stack[0], bytes: stack[2], flags: stack[1] as u32 & !SS_ONSTACK };
    Ok(Restored {
        blocked: SignalSet(blocked).without(SignalSet::UNBLOCKABLE),
        floating_point: words[FP_POINTER],
        alt_stack,
    })
}

/// Bytes that [`restore`] needs, from the ucontext on.
pub(crate) const RESTORE_BYTES: usize = INFO - UCONTEXT;

/// Replaces x87 and SSE state by what a program left.
pub(crate) fn restore_floating_point(registers: &mut Registers, bytes: [u8; FX_BYTES]) {
    registers.floating_point = FloatingPoint::from_program(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        let mut registers = Registers::starting(VirtAddr::new(0x40_1000), VirtAddr::new(0x7000_1234));
        (registers.rax, registers.r15, registers.rdi) = (1, 15, 7);
        registers.set_flags(0x41);
        registers
    }

    fn fault() -> SignalInfo {
        SignalInfo { signal: 11, code: 1, details: Details::Fault(VirtAddr::new(0x10)) }
    }

    #[test]
    fn going_back_restores_what_the_frame_kept() {
        let before = registers();
        let frame = Frame::build(&before, &fault(), (&AltStack::NONE, None), (SignalSet(6), 0x5000));
        let mut after = Registers::starting(VirtAddr::ZERO, VirtAddr::ZERO);
        let restored = restore(&mut after, &frame.bytes[UCONTEXT..]).unwrap();
        assert_eq!(after, before);
        assert_eq!((restored.blocked, restored.floating_point), (SignalSet(6), frame.floating_point.raw()));
        assert_eq!(restored.alt_stack, AltStack::NONE);
    }

    #[test]
    fn a_handler_starts_with_the_stack_of_a_called_function_below_the_red_zone() {
        let frame = Frame::build(&registers(), &fault(), (&AltStack::NONE, None), (SignalSet::EMPTY, 0x5000));
        assert_eq!(frame.at.raw() % 16, 8);
        assert_eq!(frame.floating_point.raw() % 64, 0);
        assert!(frame.floating_point.raw() + FX_BYTES as u64 <= 0x7000_1234 - RED_ZONE);
        assert!(frame.at.raw() + FRAME_BYTES as u64 <= frame.floating_point.raw());
        assert_eq!(frame.bytes[..8], 0x5000u64.to_le_bytes());
        let info = &frame.bytes[INFO..];
        assert_eq!((info[0], info[8], info[16]), (11, 1, 0x10));
    }

    #[test]
    fn a_frame_cannot_give_rights_or_block_sigkill() {
        let mut bytes = [0xff; RESTORE_BYTES];
        let mut after = registers();
        let restored = restore(&mut after, &bytes).unwrap();
        assert_eq!(after.flags() & 0x3000, 0);
        assert!(!restored.blocked.contains(super::super::SIGKILL));
        bytes[0] = 0;
        assert_eq!(restore(&mut after, &bytes[..100]).err(), Some(Errno::EFAULT));
    }

    #[test]
    fn a_stack_that_disarms_itself_counts_as_left() {
        let stack = AltStack { start: 0x1000, bytes: 0x1000, flags: 0 };
        assert!(stack.contains(0x1800) && stack.contains(0x2000) && !stack.contains(0x1000));
        assert!(!AltStack { flags: SS_AUTODISARM, ..stack }.contains(0x1800));
    }
}
