//! Running threads: which is next, what a trap of a program leads to, and where a thread goes that does not run on.
//!
//! A CPU's loop is the machine's: it asks for the [`Next`] thread, lets its program run, hands each [`Trap`] over, and as long as the answer is
//! [`Step::Run`] enters the program again. Threads run in the order in which they became ready, until they wait or the timer's next interrupt.

use address_space::Access;
use sync::Cpu;
use units::VirtAddr;

use crate::calls;
use crate::machine::Machine;
use crate::memory::{Fault, Memory};
use crate::process::Exit;
use crate::registers::{Entry, Trap};
use crate::signals::{Delivered, Details, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP, SignalInfo};
use crate::slots::Owned;
use crate::thread::Thread;
use crate::userland::Userland;
use crate::wait::{Progress, Wait, WaitFor};

/// End of the addresses that a program may execute at.
const CODE_END: u64 = 1 << 47;

/// What a CPU is to do.
#[derive(Debug)]
pub enum Next<M: Memory> {
    /// Run this thread's program, from [`Userland::resume`] on.
    Run(Owned<Thread<M>>),
    /// Wait for an interrupt.
    Idle,
    /// Nothing any more: init has ended and everything with it. The exit code, or 128 and the signal.
    Finished(u8),
}

/// What comes after a trap.
#[derive(Debug)]
pub enum Step {
    /// The program runs.
    Run,
    /// The thread leaves the CPU.
    Leave(Leaving),
}

/// Why a thread leaves its CPU.
#[derive(Debug)]
pub enum Leaving {
    /// Others are to run as well, or it has other memory now.
    Yields,
    /// It waits.
    Waits(Wait),
    /// It has ended.
    Ends,
}

/// Why a system call has no result yet or never will.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed.
    Failed(crate::errno::Errno),
    /// It waits and is made again.
    Wait(Wait),
    /// It has set all registers itself.
    RegistersSet,
    /// It has a result, and the thread leaves the CPU for a turn.
    Yield(u64),
    /// As `RegistersSet`, and the thread has other memory.
    OtherMemory,
    /// The thread ends.
    End,
}

impl From<crate::errno::Errno> for Stop {
    fn from(errno: crate::errno::Errno) -> Self {
        Self::Failed(errno)
    }
}

impl From<address_space::MmError> for Stop {
    fn from(error: address_space::MmError) -> Self {
        Self::Failed(error.into())
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Returns what `cpu` is to do next. If that is nothing, khugepaged may have a turn before.
    pub fn next(&self, cpu: &Cpu) -> Next<M> {
        match self.next_thread(cpu) {
            Next::Idle if self.khugepaged_turn(cpu) => self.next_thread(cpu),
            next => next,
        }
    }

    fn next_thread(&self, cpu: &Cpu) -> Next<M> {
        let now = self.machine().now_ns();
        let mut world = self.world(cpu);
        world.idle &= !(1 << cpu.id().index());
        world.wake_expired(now);
        if let Some(thread) = world.take_ready(cpu.id(), now) {
            return Next::Run(thread);
        }
        if world.threads.len() == 0
            && let Some(exit) = world.finished
        {
            return Next::Finished(match exit {
                Exit::Code(code) => code,
                Exit::Signal(signal) => 128 | signal,
            });
        }
        world.idle |= 1 << cpu.id().index();
        Next::Idle
    }

    /// Prepares a thread for running its program: signals, and a system call that waited.
    pub fn resume(&self, cpu: &Cpu, thread: &mut Thread<M>) -> Step {
        loop {
            self.takes_attention(cpu.id());
            if self.deliver_signals(cpu, thread) == Delivered::Ends {
                return Step::Leave(Leaving::Ends);
            }
            if !thread.in_call {
                break;
            }
            match self.system_call(cpu, thread) {
                Step::Run if self.takes_attention(cpu.id()) => {}
                step => return self.checked(cpu, thread, step),
            }
        }
        self.checked(cpu, thread, Step::Run)
    }

    /// Acts on what stopped a thread's program.
    pub fn trap(&self, cpu: &Cpu, thread: &mut Thread<M>, trap: Trap) -> Step {
        if trap == Trap::SystemCall {
            thread.registers.entry = Entry::SystemCall;
            let step = self.system_call(cpu, thread);
            return match step {
                Step::Run if self.takes_attention(cpu.id()) => self.resume(cpu, thread),
                step => step,
            };
        }
        thread.registers.entry = Entry::Whole;
        match trap {
            Trap::PageFault { addr, access, is_fetch, is_present } => {
                self.page_fault(cpu, thread, (addr, access), is_fetch, is_present);
            }
            Trap::Exception { vector, .. } => self.exception(cpu, thread, vector),
            Trap::Interrupt { is_timer } => {
                if is_timer && self.turn_is_over(cpu) {
                    return Step::Leave(Leaving::Yields);
                }
            }
            Trap::SystemCall => {}
        }
        if self.takes_attention(cpu.id()) { self.resume(cpu, thread) } else { Step::Run }
    }

    /// Puts a thread away that leaves its CPU. The CPU no longer uses the page tables of the thread's memory.
    pub fn put_back(&self, cpu: &Cpu, mut thread: Owned<Thread<M>>, leaving: Leaving) {
        if let Some(old) = thread.old_mm.take() {
            self.memory.mmput(cpu, old);
        }
        let now = self.machine().now_ns();
        let mut world = self.world(cpu);
        world.charge(thread.key, now);
        match leaving {
            Leaving::Yields => world.make_ready(thread),
            Leaving::Waits(wait) => world.put_aside(thread, wait),
            Leaving::Ends => {
                drop(world);
                self.end_thread(cpu, thread);
            }
        }
    }

    /// Takes a thread apart that has ended.
    fn end_thread(&self, cpu: &Cpu, mut thread: Owned<Thread<M>>) {
        self.put_held(cpu, &mut thread);
        if thread.robust_list != 0 {
            self.free_robust_locks(cpu, &thread);
        }
        if thread.clear_tid != 0 {
            // A word that is not there any more has nobody who waits for it.
            let cleared = self.memory.write_user(cpu, thread.memory(), VirtAddr::new(thread.clear_tid), &[0; 4]);
            if cleared.is_ok() {
                let key = calls::futex_key(&self.memory, cpu, &thread.mm, thread.clear_tid);
                self.world(cpu).wake_up_to(1, |wait| wait.what == WaitFor::Futex(key));
            }
        }
        let key = thread.key;
        let thread = thread.into_inner();
        let shared = self.world(cpu).take_space(key);
        if let Some(shared) = shared {
            self.memory.mmput(cpu, shared);
        }
        self.memory.mmput(cpu, thread.mm);
        self.world(cpu).remove_thread(key);
    }

    /// Makes the system call that the registers ask for.
    fn system_call(&self, cpu: &Cpu, thread: &mut Thread<M>) -> Step {
        let outcome = calls::dispatch(self, cpu, thread);
        let (value, step) = match outcome {
            Ok(value) => (value, Step::Run),
            Err(Stop::Failed(errno)) => (errno.result(), Step::Run),
            Err(Stop::Yield(value)) => (value, Step::Leave(Leaving::Yields)),
            Err(Stop::Wait(wait)) => {
                thread.in_call = true;
                return Step::Leave(Leaving::Waits(wait));
            }
            Err(Stop::RegistersSet) => {
                thread.in_call = false;
                // The program chose where it goes on: `resume` looks whether it may.
                self.ask_attention(cpu.id());
                return Step::Run;
            }
            Err(Stop::OtherMemory) => {
                thread.in_call = false;
                return Step::Leave(Leaving::Yields);
            }
            Err(Stop::End) => return Step::Leave(Leaving::Ends),
        };
        thread.registers.rax = value;
        self.put_held(cpu, thread);
        // A call with a time notes when it ends even if it does not wait in the end.
        if thread.in_call || thread.progress.deadline.is_some() {
            thread.in_call = false;
            thread.progress = Progress::default();
        }
        step
    }

    fn page_fault(
        &self,
        cpu: &Cpu,
        thread: &mut Thread<M>,
        (addr, access): (VirtAddr, Access),
        is_fetch: bool,
        _is_present: bool,
    ) {
        match self.memory.fault(cpu, &thread.mm, &thread.caller, (addr, access), is_fetch) {
            Fault::Resolved => {}
            Fault::Signal { signo, code } => {
                self.raise(cpu, thread, SignalInfo { signal: signo, code, details: Details::Fault(addr) });
            }
            Fault::OutOfMemory => self.world(cpu).end_process(thread.process, Exit::Signal(SIGKILL)),
        }
        if self.traces() {
            self.trace_fault(thread, addr);
        }
    }

    /// Turns an exception into its signal (Linux: arch/x86/kernel/traps.c).
    fn exception(&self, cpu: &Cpu, thread: &mut Thread<M>, vector: u8) {
        let at = VirtAddr::new(thread.registers.rip);
        let info = |signal, code, details| SignalInfo { signal, code, details };
        let raised = match vector {
            0 => info(SIGFPE, 1, Details::Fault(at)),
            1 => info(SIGTRAP, 2, Details::Fault(at)),
            3 => SignalInfo::from_kernel(SIGTRAP),
            6 => info(SIGILL, 2, Details::Fault(at)),
            16 | 19 => info(SIGFPE, 0, Details::Fault(at)),
            17 => info(SIGBUS, 1, Details::Fault(VirtAddr::ZERO)),
            _ => SignalInfo::from_kernel(SIGSEGV),
        };
        self.raise(cpu, thread, raised);
    }

    /// Sends a thread a signal of its own making.
    fn raise(&self, cpu: &Cpu, thread: &Thread<M>, info: SignalInfo) {
        self.world(cpu).force_signal(thread.key, info);
        self.ask_attention(cpu.id());
    }

    /// Returns true if another thread is to run here.
    fn turn_is_over(&self, cpu: &Cpu) -> bool {
        let now = self.machine().now_ns();
        let mut world = self.world(cpu);
        world.wake_expired(now);
        world.has_ready()
    }

    /// Keeps a program from being entered at an address that the processor refuses: it gets the signal instead.
    fn checked(&self, cpu: &Cpu, thread: &mut Thread<M>, step: Step) -> Step {
        if matches!(step, Step::Run) && thread.registers.rip >= CODE_END {
            self.raise(cpu, thread, SignalInfo::from_kernel(SIGSEGV));
            self.takes_attention(cpu.id());
            let is_over = self.deliver_signals(cpu, thread) == Delivered::Ends || thread.registers.rip >= CODE_END;
            if is_over {
                self.world(cpu).end_process(thread.process, Exit::Signal(SIGSEGV));
                return Step::Leave(Leaving::Ends);
            }
        }
        step
    }
}
