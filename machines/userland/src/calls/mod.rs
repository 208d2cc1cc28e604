//! System calls: one file for each family, and the table that joins them.
//!
//! A handler takes the call's arguments as the program passed them and returns its result, or a `Stop`. It may be made again from the start after a
//! wait: what it did before is then in the thread's `Progress`. Linux 6.12: arch/x86/entry/syscalls/syscall_64.tbl.

mod clone3;
mod descriptors;
mod directories;
mod futex;
mod identity;
mod limits;
mod memory;
mod open_files;
mod page_scan;
mod pidfd;
mod poll;
mod prctl;
mod proc_memory;
mod proc_text;
mod processes;
mod program;
mod read_write;
mod remote;
mod signals;
mod sockets;
mod splice;
mod stat;
mod time;
mod waiting;

use sync::Cpu;

use crate::errno::Errno;
use crate::files::{Descriptor, OpenFile};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::Process;
use crate::schedule::Stop;
use crate::thread::Thread;
use crate::userland::{Userland, WorldGuard};
use crate::wait::{FutexKey, Progress};

pub(crate) use program::load;

/// What a handler returns.
pub(crate) type Outcome = Result<u64, Stop>;

/// A system call under way.
pub(crate) struct Context<'a, M: Memory, D: Machine> {
    pub(crate) userland: &'a Userland<M, D>,
    pub(crate) cpu: &'a Cpu,
    pub(crate) thread: &'a mut Thread<M>,
}

type Handler<M, D> = for<'a, 'b> fn(&'b mut Context<'a, M, D>, [u64; 6]) -> Outcome;

/// A system call: number, name, handler.
type Call<M, D> = (usize, &'static str, Handler<M, D>);

/// Calls by number.
type Table<M, D> = [Option<Call<M, D>>; NR_CALLS];

/// One above the highest number.
const NR_CALLS: usize = 463;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Every call that exists, at its number.
    const TABLE: Table<M, D> = {
        let table = [None; NR_CALLS];
        let table = Self::descriptors_calls(table);
        let table = Self::directories_calls(table);
        let table = Self::futex_calls(table);
        let table = Self::identity_calls(table);
        let table = Self::limits_calls(table);
        let table = Self::prctl_calls(table);
        let table = Self::memory_calls(table);
        let table = Self::pidfd_calls(table);
        let table = Self::poll_calls(table);
        let table = Self::processes_calls(table);
        let table = Self::program_calls(table);
        let table = Self::read_write_calls(table);
        let table = Self::remote_calls(table);
        let table = Self::signals_calls(table);
        let table = Self::socket_calls(table);
        let table = Self::splice_calls(table);
        let table = Self::stat_calls(table);
        let table = Self::waiting_calls(table);
        Self::time_calls(table)
    };

    /// Locks the world.
    #[inline]
    pub(crate) fn world(&self) -> WorldGuard<'_, M, D> {
        self.userland.world(self.cpu)
    }

    /// Looks at the caller's process.
    pub(crate) fn with_process<R>(&self, look: impl FnOnce(&mut Process) -> R) -> Result<R, Errno> {
        let mut world = self.world();
        world.processes.get_mut(self.thread.process).map(look).ok_or(Errno::ESRCH)
    }

    /// Returns a descriptor of the caller.
    pub(crate) fn descriptor(&self, raw: u64) -> Result<Descriptor, Errno> {
        self.with_process(|process| process.descriptors.get(raw))?
    }

    /// Looks at the open file of a descriptor.
    pub(crate) fn with_open<R>(&self, raw: u64, look: impl FnOnce(&mut OpenFile) -> R) -> Result<R, Errno> {
        let mut world = self.world();
        let process = world.processes.get(self.thread.process).ok_or(Errno::ESRCH)?;
        let file = process.descriptors.get(raw)?.file;
        world.files.open.get_mut(file).map(look).ok_or(Errno::EBADF)
    }

    /// Returns the time since 1970 in nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        let machine = self.userland.machine();
        machine.boot_time_ns().saturating_add(machine.now_ns())
    }
}

/// Puts calls at their numbers.
const fn add<M: Memory, D: Machine, const N: usize>(table: Table<M, D>, calls: [Call<M, D>; N]) -> Table<M, D> {
    let mut table = table;
    let mut index = 0;
    while index < N {
        let call = calls[index];
        assert!(table[call.0].is_none(), "two handlers for one number");
        table[call.0] = Some(call);
        index += 1;
    }
    table
}

/// Makes the call that a thread's registers ask for.
pub(crate) fn dispatch<M: Memory, D: Machine>(userland: &Userland<M, D>, cpu: &Cpu, thread: &mut Thread<M>) -> Outcome {
    // The lower half is the number.
    let number = thread.registers.rax as u32 as usize;
    let arguments = thread.registers.arguments();
    let call = Context::<M, D>::TABLE.get(number).copied().flatten();
    let mut context = Context { userland, cpu, thread };
    let outcome = match call {
        Some((_, _, handler)) => handler(&mut context, arguments),
        None => Err(Errno::ENOSYS.into()),
    };
    if userland.traces() {
        let name = call.map_or("?", |(_, name, _)| name);
        userland.trace_call(context.thread, (number, name), arguments, &outcome);
    }
    outcome
}

/// Tells whether a call that a signal interrupts is made again after a handler with SA_RESTART.
///
/// Calls with a time of their own are not, as in Linux (signal(7)).
pub(crate) const fn restarts(number: u64, progress: &Progress) -> bool {
    const READ: u64 = 0;
    const WRITE: u64 = 1;
    const READV: u64 = 19;
    const WRITEV: u64 = 20;
    const SENDTO: u64 = 44;
    const RECVFROM: u64 = 45;
    const WAIT4: u64 = 61;
    const FUTEX: u64 = 202;
    const WAITID: u64 = 247;
    const VMSPLICE: u64 = 278;
    match number {
        READ | WRITE | READV | WRITEV | SENDTO | RECVFROM | WAIT4 | WAITID | VMSPLICE => progress.done == 0,
        FUTEX => progress.deadline.is_none(),
        _ => false,
    }
}

/// Returns the place of a futex word that the program says is its own alone.
pub(crate) fn private_futex_key<M: Memory>(memory: &M, mm: &M::Mm, addr: u64) -> FutexKey {
    FutexKey { space: memory.identity(mm), addr }
}

/// Returns the place of a futex word that others may see as well (Linux: `get_futex_key` with FLAGS_SHARED).
pub(crate) fn futex_key<M: Memory>(memory: &M, cpu: &Cpu, mm: &M::Mm, addr: u64) -> FutexKey {
    /// No address space is known by such a number: theirs are addresses of tables.
    const OF_FILE: u64 = 1 << 63;
    match memory.shared_place(cpu, mm, units::VirtAddr::new(addr)) {
        Some((file, offset)) => FutexKey { space: OF_FILE | file.raw(), addr: offset },
        None => private_futex_key(memory, mm, addr),
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    #[cold]
    fn trace_call(&self, thread: &Thread<M>, (number, name): (usize, &str), arguments: [u64; 6], outcome: &Outcome) {
        let [a, b, c, d, ..] = arguments;
        let mut line = crate::slots::Text::default();
        let tid = thread.tid;
        let result = match outcome {
            Ok(value) | Err(Stop::Yield(value)) => Ok(*value),
            Err(Stop::Failed(errno)) => Err(Some(*errno)),
            Err(_) => Err(None),
        };
        // Without memory for the line there is none.
        let _ = match result {
            Ok(value) => core::fmt::Write::write_fmt(
                &mut line,
                format_args!("[{tid}] {name}/{number}({a:#x}, {b:#x}, {c:#x}, {d:#x}) = {value:#x}\n"),
            ),
            Err(Some(errno)) => core::fmt::Write::write_fmt(
                &mut line,
                format_args!("[{tid}] {name}/{number}({a:#x}, {b:#x}, {c:#x}, {d:#x}) = -{errno}\n"),
            ),
            Err(None) => core::fmt::Write::write_fmt(
                &mut line,
                format_args!("[{tid}] {name}/{number}({a:#x}, {b:#x}, {c:#x}, {d:#x}) ...\n"),
            ),
        };
        self.machine().console_write(&line.0);
    }

    #[cold]
    pub(crate) fn trace_fault(&self, thread: &Thread<M>, addr: units::VirtAddr) {
        let mut line = crate::slots::Text::default();
        let (tid, addr, rip) = (thread.tid, addr.raw(), thread.registers.rip);
        let _ = core::fmt::Write::write_fmt(&mut line, format_args!("[{tid}] fault at {addr:#x}, rip {rip:#x}\n"));
        self.machine().console_write(&line.0);
    }
}
