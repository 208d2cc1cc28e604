//! Signals: sets, what they carry, what a process does on them, and which are pending.
//!
//! `send` makes a signal pending, `deliver` takes one and enters the handler. Linux 6.12: kernel/signal.c, include/uapi/asm-generic/siginfo.h.

mod deliver;
mod frame;
mod send;

use alloc::vec::Vec;

use units::VirtAddr;

pub(crate) use deliver::Delivered;
pub(crate) use frame::{
    AltStack, RESTORE_BYTES, SS_AUTODISARM, SS_DISABLE, info_words, restore, restore_floating_point,
};

/// Number of the highest signal.
pub(crate) const MAX_SIGNAL: u8 = 64;

macro_rules! signals {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(pub(crate) const $name: u8 = $number;)*
    };
}

signals! {
    SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9, SIGSEGV = 11, SIGPIPE = 13, SIGCHLD = 17, SIGCONT = 18, SIGSTOP = 19,
    SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22, SIGURG = 23, SIGWINCH = 28, SIGSYS = 31,
}

/// A set of signals; signal n is bit n - 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SignalSet(pub(crate) u64);

impl SignalSet {
    pub(crate) const EMPTY: Self = Self(0);
    /// Signals that can be neither blocked nor handled.
    pub(crate) const UNBLOCKABLE: Self = Self::of(SIGKILL).with(SIGSTOP);
    /// Signals that the program's own instruction raised: taken before others.
    const SYNCHRONOUS: Self = Self::of(SIGSEGV).with(SIGBUS).with(SIGILL).with(SIGTRAP).with(SIGFPE).with(SIGSYS);

    const fn of(signal: u8) -> Self {
        Self(1 << (signal - 1))
    }

    pub(crate) const fn with(self, signal: u8) -> Self {
        Self(self.0 | Self::of(signal).0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn contains(self, signal: u8) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// Returns the signal that is taken first.
    const fn first(self) -> Option<u8> {
        let synchronous = self.0 & Self::SYNCHRONOUS.0;
        let from = if synchronous != 0 { synchronous } else { self.0 };
        if from == 0 { None } else { Some(from.trailing_zeros() as u8 + 1) }
    }
}

/// What a signal tells its handler (siginfo_t).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SignalInfo {
    pub(crate) signal: u8,
    /// Where it comes from (si_code).
    pub(crate) code: i32,
    pub(crate) details: Details,
}

/// The part of siginfo_t that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Details {
    /// Nothing.
    None,
    /// An address (si_addr).
    Fault(VirtAddr),
    /// Who sent it (si_pid).
    Sender(u32),
    /// What the sender put there itself.
    Said(u64, u64),
    /// A child and how it ended (si_pid, si_status).
    Child { pid: u32, status: u32 },
}

/// si_code of kill.
pub(crate) const SI_USER: i32 = 0;
/// si_code of the kernel.
pub(crate) const SI_KERNEL: i32 = 0x80;
/// si_code of tkill and tgkill.
pub(crate) const SI_TKILL: i32 = -6;

/// Signals that wait to be taken.
#[derive(Debug)]
pub(crate) struct Pending {
    set: SignalSet,
    infos: Vec<SignalInfo>,
}

impl Pending {
    pub(crate) const fn new() -> Self {
        Self { set: SignalSet::EMPTY, infos: Vec::new() }
    }

    pub(crate) const fn set(&self) -> SignalSet {
        self.set
    }

    /// Adds a signal; one that is pending already is not counted again, as for signals below 32 in Linux.
    fn add(&mut self, info: SignalInfo) {
        if self.set.contains(info.signal) {
            return;
        }
        self.set = self.set.with(info.signal);
        // Without memory for the details the signal comes without them, as in Linux.
        let _ = crate::slots::push(&mut self.infos, info);
    }

    /// Takes the first signal that is not blocked.
    fn take(&mut self, blocked: SignalSet) -> Option<SignalInfo> {
        let signal = self.set.without(blocked).first()?;
        Some(self.take_one(signal))
    }

    fn take_one(&mut self, signal: u8) -> SignalInfo {
        self.set = self.set.without(SignalSet::of(signal));
        let place = self.infos.iter().position(|info| info.signal == signal);
        let info = place.map(|place| self.infos.swap_remove(place));
        info.unwrap_or(SignalInfo { signal, code: SI_USER, details: Details::None })
    }

    /// Takes a signal of `wanted`, for sigtimedwait.
    pub(crate) fn take_wanted(&mut self, wanted: SignalSet) -> Option<SignalInfo> {
        self.take(SignalSet(!wanted.0))
    }

    fn forget(&mut self, signal: u8) {
        if self.set.contains(signal) {
            self.take_one(signal);
        }
    }
}

bitflags::bitflags! {
    /// Flags of sigaction.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct ActionFlags: u64 {
        const NOCLDSTOP = 1;
        const NOCLDWAIT = 2;
        const SIGINFO = 4;
        const RESTORER = 0x0400_0000;
        const ONSTACK = 0x0800_0000;
        const RESTART = 0x1000_0000;
        const NODEFER = 0x4000_0000;
        const RESETHAND = 0x8000_0000;
        const _ = !0;
    }
}

/// Handler's value for the default (SIG_DFL).
pub(crate) const DEFAULT: u64 = 0;
/// Handler's value for nothing (SIG_IGN).
pub(crate) const IGNORE: u64 = 1;

/// What a process does on a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Action {
    pub(crate) handler: u64,
    pub(crate) flags: ActionFlags,
    pub(crate) restorer: u64,
    /// Blocked while the handler runs.
    pub(crate) mask: SignalSet,
}

/// What a process does on every signal.
#[derive(Clone, Debug)]
pub(crate) struct Actions([Action; MAX_SIGNAL as usize]);

impl Actions {
    pub(crate) const fn new() -> Self {
        let action = Action { handler: DEFAULT, flags: ActionFlags::empty(), restorer: 0, mask: SignalSet::EMPTY };
        Self([action; MAX_SIGNAL as usize])
    }

    pub(crate) fn get(&self, signal: u8) -> Action {
        self.0.get(usize::from(signal).wrapping_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, signal: u8, action: Action) {
        if let Some(place) = self.0.get_mut(usize::from(signal).wrapping_sub(1)) {
            *place = action;
        }
    }

    /// Forgets all handlers, which a new program does not have; what was ignored stays so (Linux: `flush_signal_handlers`).
    pub(crate) fn exec(&mut self) {
        for action in &mut self.0 {
            let handler = if action.handler == IGNORE { IGNORE } else { DEFAULT };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// Returns true if the signal does nothing to the process.
    fn ignores(&self, signal: u8) -> bool {
        match self.get(signal).handler {
            DEFAULT => matches!(signal, SIGCHLD | SIGCONT | SIGURG | SIGWINCH),
            handler => handler == IGNORE,
        }
    }
}

/// Takes a signal's number from a program.
pub(crate) fn signal_number(raw: u64) -> Option<u8> {
    u8::try_from(raw).ok().filter(|signal| (1..=MAX_SIGNAL).contains(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGHUP: u8 = 1;
    const SIGINT: u8 = 2;

    const fn sent(signal: u8, sender: u32) -> SignalInfo {
        SignalInfo { signal, code: SI_USER, details: Details::Sender(sender) }
    }

    #[test]
    fn a_fault_is_taken_before_an_earlier_signal() {
        let mut pending = Pending::new();
        pending.add(sent(SIGHUP, 1));
        pending.add(sent(SIGSEGV, 2));
        assert_eq!(pending.take(SignalSet::EMPTY), Some(sent(SIGSEGV, 2)));
        assert_eq!(pending.take(SignalSet::EMPTY), Some(sent(SIGHUP, 1)));
        assert_eq!(pending.take(SignalSet::EMPTY), None);
    }

    #[test]
    fn a_pending_signal_counts_once_and_blocked_ones_stay() {
        let mut pending = Pending::new();
        pending.add(sent(SIGINT, 1));
        pending.add(sent(SIGINT, 2));
        assert_eq!(pending.take(SignalSet::of(SIGINT)), None);
        assert_eq!(pending.take(SignalSet::EMPTY), Some(sent(SIGINT, 1)));
        assert_eq!(pending.take(SignalSet::EMPTY), None);
    }

    #[test]
    fn a_new_program_keeps_only_what_was_ignored() {
        let mut actions = Actions::new();
        actions.set(SIGINT, Action { handler: 0x1000, ..Action::default() });
        actions.set(SIGHUP, Action { handler: IGNORE, mask: SignalSet(1), ..Action::default() });
        actions.exec();
        assert_eq!(actions.get(SIGINT), Action::default());
        assert_eq!(actions.get(SIGHUP), Action { handler: IGNORE, ..Action::default() });
    }

    #[test]
    fn numbers_beyond_the_last_signal_are_none() {
        assert_eq!(signal_number(64), Some(64));
        assert_eq!((signal_number(0), signal_number(65), signal_number(256 + 9)), (None, None, None));
    }
}
