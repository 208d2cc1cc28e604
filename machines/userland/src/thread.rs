//! A thread, in two parts: what only the CPU that runs it touches, and what others may look at.
//!
//! [`Thread`] travels: from the table of threads to the CPU that runs it and back. [`ThreadEntry`] stays in the table.

use address_space::Process as Caller;

use crate::files::{InodeKey, OpenKey};
use crate::memory::Memory;
use crate::process::{NAME_BYTES, ProcessKey};
use crate::registers::Registers;
use crate::signals::{AltStack, Pending, SignalSet};
use crate::slots::{Key, Owned};
use crate::wait::{Progress, Wait};

pub(crate) type ThreadKey<M> = Key<ThreadEntry<M>>;

/// A thread in the hands of a CPU.
pub struct Thread<M: Memory> {
    /// Its registers while it does not run.
    pub registers: Registers,
    pub(crate) key: ThreadKey<M>,
    pub(crate) tid: u32,
    pub(crate) pid: u32,
    /// The parent of its process, as of when the thread last looked.
    pub(crate) parent: u32,
    pub(crate) process: ProcessKey,
    pub(crate) mm: M::Mm,
    /// The memory that an execve left, to be given up once no CPU uses its page tables.
    pub(crate) old_mm: Option<M::Mm>,
    pub(crate) caller: Caller,
    pub(crate) blocked: SignalSet,
    /// What to block again once a handler has run (sigsuspend).
    pub(crate) blocked_before: Option<SignalSet>,
    pub(crate) alt_stack: AltStack,
    /// Word to clear and wake when the thread ends (CLONE_CHILD_CLEARTID).
    pub(crate) clear_tid: u64,
    /// List of the locks that it holds; 0 for none.
    pub(crate) robust_list: u64,
    pub(crate) progress: Progress,
    /// Open files that its call holds.
    pub(crate) held: [Option<OpenKey>; 2],
    /// It is inside a system call that has to be made again.
    pub(crate) in_call: bool,
}

impl<M: Memory> Thread<M> {
    /// Returns its address space.
    pub const fn mm(&self) -> &M::Mm {
        &self.mm
    }

    /// Returns its address space and who it is there.
    pub(crate) const fn memory(&self) -> (&M::Mm, &Caller) {
        (&self.mm, &self.caller)
    }

    /// Returns its number.
    pub const fn tid(&self) -> u32 {
        self.tid
    }
}

impl<M: Memory> core::fmt::Debug for Thread<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Thread").field("tid", &self.tid).field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Where a thread is.
pub(crate) enum Run<M: Memory> {
    /// In the run queue.
    Ready(Owned<Thread<M>>),
    /// On a CPU.
    OnCpu(units::CpuId),
    /// Put aside.
    Waits(Owned<Thread<M>>, Wait),
}

impl<M: Memory> ThreadEntry<M> {
    /// Returns the bit of the CPU that runs it; 0 if none does.
    pub(crate) const fn cpu_bit(&self) -> u64 {
        match self.run {
            Run::OnCpu(cpu) => 1 << cpu.index(),
            Run::Ready(_) | Run::Waits(..) => 0,
        }
    }
}

/// A thread as others see it.
pub(crate) struct ThreadEntry<M: Memory> {
    pub(crate) tid: u32,
    /// No other thread has had it.
    pub(crate) serial: u64,
    pub(crate) process: ProcessKey,
    pub(crate) run: Run<M>,
    /// Its name, unless it is its process's first.
    pub(crate) name: [u8; NAME_BYTES],
    /// When it began, on the machine's clock.
    pub(crate) started: u64,
    /// How long it ran up to when it was last put back.
    pub(crate) run_ns: u64,
    /// When a CPU last took it.
    pub(crate) since: u64,
    pub(crate) pending: Pending,
    /// Blocked signals, as of when the thread was last put aside or changed them.
    pub(crate) blocked: SignalSet,
    /// It is to end.
    pub(crate) killed: bool,
    /// Its address space as others find it, with a user of its own; `None` until the thread is first put into the run queue, and once it ends.
    pub(crate) space: Option<Space<M>>,
}

/// An address space that others may find.
pub(crate) struct Space<M: Memory> {
    pub(crate) mm: M::Mm,
    /// No other address space ever has it.
    pub(crate) number: u64,
    /// The file that it was made from; the thread counts among those that run it.
    pub(crate) program: Option<InodeKey>,
}
