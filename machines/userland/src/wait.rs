//! What a thread waits for, and how it learns that it happened.
//!
//! A call looks at the state under the world's lock, sees that it cannot go on, and returns a [`Wait`] that carries the number of events seen. By the time the
//! thread is put aside something may have happened: then the number has grown, and the call is made again at once. No wake-up is lost, and
//! one too many costs a look.

use crate::files::PipeKey;
use crate::process::ProcessKey;
use crate::signals::SignalSet;

/// What a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitFor {
    /// A child of the process ends.
    Child(ProcessKey),
    /// The process gives up the memory that vfork lent it.
    Vfork(ProcessKey),
    /// The process has only one thread left.
    OtherThreads(ProcessKey),
    /// Something comes out of the pipe, or its other end is closed.
    Pipe(PipeKey),
    /// Anything that poll can see.
    Files,
    /// A wake of the word at this place.
    Futex(FutexKey),
    /// A signal, or the time.
    Signal,
    /// One of these signals, which are blocked.
    Wanted(SignalSet),
}

/// A word that threads wait at: the address space that it is in and its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FutexKey {
    pub(crate) space: u64,
    pub(crate) addr: u64,
}

/// A wait that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    pub(crate) what: WaitFor,
    /// Bits of a futex's wait; any of them in common with the wake's is enough.
    pub(crate) bits: u32,
    /// When it ends by itself, on the machine's clock.
    pub(crate) deadline: Option<u64>,
    /// Events when the call looked.
    pub(crate) events: u64,
}

/// Where a call stands that had to wait: kept from its first try to its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// When a wait with a time ends.
    pub(crate) deadline: Option<u64>,
    /// Bytes that were moved already.
    pub(crate) done: u64,
    /// The child that vfork made.
    pub(crate) child: Option<(ProcessKey, u32)>,
    /// A wake chose this thread: the call's result is 0.
    pub(crate) woken: bool,
}
