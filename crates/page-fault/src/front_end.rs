//! How architectures report faults, and what a process is told of those that cannot be made good.
//!
//! Linux 6.12: arch/x86/include/asm/trap_pf.h, arch/x86/mm/fault.c, arch/arm64/mm/fault.c, include/uapi/asm-generic/siginfo.h.
//! Intel SDM volume 3, section 5.7; Arm ARM, ESR_ELx.

use crate::context::FaultError;
use crate::decide::AccessKind;
use units::VmFlags;

/// The error code of an x86 page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct X86FaultCode(pub u32);

impl X86FaultCode {
    /// Returns what was tried.
    pub const fn access(self) -> AccessKind {
        if self.0 & 1 << 1 != 0 {
            AccessKind::Write
        } else if self.0 & 1 << 4 != 0 {
            AccessKind::Fetch
        } else {
            AccessKind::Read
        }
    }

    /// Returns true if user mode did it.
    pub const fn is_user(self) -> bool {
        self.0 & 1 << 2 != 0
    }

    /// Returns true if an entry forbade it, false if there was none.
    pub const fn is_protection(self) -> bool {
        self.0 & 1 != 0
    }

    /// Returns true if an entry had a reserved bit set: page tables are broken.
    pub const fn is_reserved(self) -> bool {
        self.0 & 1 << 3 != 0
    }
}

/// The syndrome of an arm64 data or instruction abort (ESR_ELx).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arm64Abort(pub u64);

impl Arm64Abort {
    /// Returns what was tried; `None` if the syndrome is of no abort.
    pub const fn access(self) -> Option<AccessKind> {
        match self.0 >> 26 & 0x3f {
            0x20 | 0x21 => Some(AccessKind::Fetch),
            // A cache maintenance operation reports as a write and is none.
            0x24 | 0x25 if self.0 & 1 << 6 != 0 && self.0 & 1 << 8 == 0 => Some(AccessKind::Write),
            0x24 | 0x25 => Some(AccessKind::Read),
            _ => None,
        }
    }

    /// Returns true if user mode did it.
    pub const fn is_user(self) -> bool {
        matches!(self.0 >> 26 & 0x3f, 0x20 | 0x24)
    }

    /// Returns true for a permission fault, false for others, such as translation faults.
    pub const fn is_protection(self) -> bool {
        self.0 & 0x3c == 0x0c
    }
}

/// A signal of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGBUS.
    Bus,
    /// SIGSEGV.
    Segv,
}

/// Signal and si_code of a fault that cannot be made good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalCode {
    /// The signal.
    pub signal: Signal,
    /// si_code: SEGV_MAPERR 1, SEGV_ACCERR 2, SEGV_PKUERR 4, BUS_ADRERR 2.
    pub code: i32,
}

impl FaultError {
    /// Says why an area with `area` refuses an access that it does not allow. The key is told first, whatever else forbids it (Linux:
    /// `bad_area_access_error`).
    pub fn refusal(area: VmFlags, access: AccessKind) -> Self {
        let has_key = area.contains(VmFlags::PKEY_BIT0) && access != AccessKind::Fetch;
        if has_key { Self::ForbiddenByKey } else { Self::Forbidden }
    }

    /// Returns what the process is told; `None` if it is not its fault.
    pub const fn signal(self) -> Option<SignalCode> {
        match self {
            Self::NotMapped => Some(SignalCode { signal: Signal::Segv, code: 1 }),
            Self::Forbidden => Some(SignalCode { signal: Signal::Segv, code: 2 }),
            Self::ForbiddenByKey => Some(SignalCode { signal: Signal::Segv, code: 4 }),
            Self::NoPage => Some(SignalCode { signal: Signal::Bus, code: 2 }),
            Self::NoMemory | Self::NeedsAnonVma => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_area_is_told_first_and_does_not_keep_from_executing() {
        let keyed = VmFlags::EXEC | VmFlags::PKEY_BIT0;
        let code = |area, access| FaultError::refusal(area, access).signal().map(|told| told.code);
        assert_eq!(code(keyed, AccessKind::Write), Some(4));
        assert_eq!(code(keyed, AccessKind::Read), Some(4));
        assert_eq!(code(VmFlags::PKEY_BIT0, AccessKind::Fetch), Some(2));
        assert_eq!(code(VmFlags::READ, AccessKind::Write), Some(2));
    }

    #[test]
    fn x86_codes_are_read_as_the_manual_says() {
        let user_write = X86FaultCode(7);
        assert_eq!(
            (user_write.access(), user_write.is_user(), user_write.is_protection()),
            (AccessKind::Write, true, true)
        );
        let fetch = X86FaultCode(0x14);
        assert_eq!((fetch.access(), fetch.is_protection(), fetch.is_reserved()), (AccessKind::Fetch, false, false));
        assert_eq!(X86FaultCode(0).access(), AccessKind::Read);
    }

    #[test]
    fn arm64_syndromes_are_read_as_the_manual_says() {
        let data = |low: u64| Arm64Abort(0x24 << 26 | low);
        assert_eq!(data(1 << 6 | 0x0f).access(), Some(AccessKind::Write));
        assert!(data(0x0f).is_protection() && data(0x0f).is_user());
        assert_eq!(data(0x07).access(), Some(AccessKind::Read));
        assert!(!data(0x07).is_protection());
        assert_eq!(data(1 << 8 | 1 << 6).access(), Some(AccessKind::Read));
        assert_eq!(Arm64Abort(0x20 << 26).access(), Some(AccessKind::Fetch));
        assert_eq!(Arm64Abort(0x15 << 26).access(), None);
    }
}
