//! The registers of a program, in the order in which the machine's entry code keeps them, and why a program stopped running.

use units::VirtAddr;

use address_space::Access;

/// Bytes of the FXSAVE area.
pub const FX_BYTES: usize = 512;
/// Bits of the flags register that a program may set itself: CF PF AF ZF SF TF DF OF NT AC ID.
const USER_FLAGS: u64 = 0x24_4dd5;
/// Bits that are set in a program's flags: the one that is always set, and interrupts on.
const FIXED_FLAGS: u64 = 0x202;
/// Bits of MXCSR that every processor with SSE has.
const MXCSR_BITS: u32 = 0xffbf;
const MXCSR: usize = 24;

/// State of the x87 and SSE units as FXSAVE stores it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct FloatingPoint([u8; FX_BYTES]);

impl FloatingPoint {
    /// State of a program that starts: all exceptions masked.
    pub const INITIAL: Self = {
        let mut bytes = [0; FX_BYTES];
        // Control word 0x037f; MXCSR 0x1f80.
        bytes[0] = 0x7f;
        bytes[1] = 0x03;
        bytes[MXCSR] = 0x80;
        bytes[MXCSR + 1] = 0x1f;
        Self(bytes)
    };

    /// Takes state from a program, without the bits that loading it would refuse.
    pub fn from_program(bytes: [u8; FX_BYTES]) -> Self {
        let mut bytes = bytes;
        if let Some(mxcsr) = bytes.get_mut(MXCSR..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *mxcsr = (u32::from_le_bytes(*mxcsr) & MXCSR_BITS).to_le_bytes();
        }
        Self(bytes)
    }

    /// Returns the state as a program sees it.
    pub const fn bytes(&self) -> &[u8; FX_BYTES] {
        &self.0
    }
}

/// How a program is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Entry {
    /// With every register as it is here.
    Whole = 0,
    /// As the return of a system call: rcx and r11 are lost.
    SystemCall = 1,
}

/// Everything that a program can tell one moment of the processor from another by.
///
/// # Invariants
/// `rflags` has no bit that would give the program rights: see [`Registers::set_flags`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct Registers {
    /// x87 and SSE; first for its alignment.
    pub floating_point: FloatingPoint,
    /// Result, and number of a system call.
    pub rax: u64,
    /// General register.
    pub rbx: u64,
    /// General register, lost in system calls.
    pub rcx: u64,
    /// Third argument.
    pub rdx: u64,
    /// Second argument.
    pub rsi: u64,
    /// First argument.
    pub rdi: u64,
    /// General register.
    pub rbp: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Fifth argument.
    pub r8: u64,
    /// Sixth argument.
    pub r9: u64,
    /// Fourth argument of a system call.
    pub r10: u64,
    /// General register, lost in system calls.
    pub r11: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r15: u64,
    /// Next instruction.
    pub rip: u64,
    rflags: u64,
    /// Base of fs: thread-local storage.
    pub fs_base: u64,
    /// Base of gs.
    pub gs_base: u64,
    /// How to enter.
    pub entry: Entry,
}

impl Registers {
    /// Where the flags are, for the machine's entry code.
    pub const FLAGS_OFFSET: usize = core::mem::offset_of!(Self, rflags);

    /// Registers of a program that starts at `rip` with a stack.
    pub const fn starting(rip: VirtAddr, rsp: VirtAddr) -> Self {
        Self {
            floating_point: FloatingPoint::INITIAL,
            rax: 0,
            rbx: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            rbp: 0,
            rsp: rsp.raw(),
            r8: 0,
            r9: 0,
            r10: 0,
            r11: 0,
            r12: 0,
            r13: 0,
            r14: 0,
            r15: 0,
            rip: rip.raw(),
            rflags: FIXED_FLAGS,
            fs_base: 0,
            gs_base: 0,
            entry: Entry::Whole,
        }
    }

    /// Returns the flags register.
    pub const fn flags(&self) -> u64 {
        self.rflags
    }

    /// Sets the flags that a program may set; keeps interrupts on and input and output forbidden.
    pub const fn set_flags(&mut self, flags: u64) {
        // INVARIANT: only harmless bits come from the program.
        self.rflags = flags & USER_FLAGS | FIXED_FLAGS;
    }

    /// Returns the arguments of a system call.
    pub const fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// Why a program stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// It made a system call.
    SystemCall,
    /// It reached an address that its page tables do not give it.
    PageFault {
        /// Which.
        addr: VirtAddr,
        /// For what.
        access: Access,
        /// To execute it.
        is_fetch: bool,
        /// The page was mapped, with fewer rights.
        is_present: bool,
    },
    /// An exception that has no other variant.
    Exception {
        /// Its number.
        vector: u8,
        /// The processor's error code; 0 for exceptions without.
        error_code: u64,
    },
    /// An interrupt of the machine came, which the machine has handled; the timer's ends the turn of the program.
    Interrupt {
        /// The timer's.
        is_timer: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_cannot_turn_interrupts_off_or_reach_ports() {
        let mut registers = Registers::starting(VirtAddr::ZERO, VirtAddr::ZERO);
        registers.set_flags(0);
        assert_eq!(registers.flags(), 0x202);
        registers.set_flags(u64::MAX);
        let (iopl, virtual_8086, resume) = (3 << 12, 1 << 17, 1 << 16);
        assert_eq!(registers.flags() & (iopl | virtual_8086 | resume), 0);
    }

    #[test]
    fn reserved_bits_of_mxcsr_are_taken_out() {
        let taken = FloatingPoint::from_program([0xff; FX_BYTES]);
        assert_eq!(taken.bytes()[MXCSR..MXCSR + 4], [0xbf, 0xff, 0, 0]);
        assert_eq!(FloatingPoint::from_program(FloatingPoint::INITIAL.0), FloatingPoint::INITIAL);
    }
}
