//! Futexes: waiting for a word to change; sched_yield and membarrier.
//!
//! A word is known by its address space and address, in a shared mapping by its file and offset, unless the program says that it is
//! private. Linux 6.12: kernel/futex/core.c, syscalls.c, waitwake.c, requeue.c; kernel/sched/membarrier.c.

use sync::Cpu;
use units::VirtAddr;

use super::{Context, Outcome, Table, add, futex_key, private_futex_key};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::schedule::Stop;
use crate::thread::{Run, Thread};
use crate::userland::Userland;
use crate::wait::{FutexKey, Wait, WaitFor};
use crate::world::World;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const PRIVATE: u64 = 128;
const CLOCK_REALTIME: u64 = 256;
const ROBUST_HEAD_BYTES: u64 = 24;
/// Most locks of a thread that ends (ROBUST_LIST_LIMIT).
const ROBUST_LIMIT: usize = 2048;
/// In a lock's word: others wait.
const WAITERS: u32 = 1 << 31;
/// In a lock's word: its owner ended.
const OWNER_DIED: u32 = 1 << 30;
const OWNER: u32 = OWNER_DIED - 1;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn futex_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (24, "sched_yield", |_, _| Err(Stop::Yield(0))),
            (202, "futex", |cx, arguments| cx.futex(arguments)),
            (273, "set_robust_list", |cx, [list, bytes, ..]| {
                    if bytes != ROBUST_HEAD_BYTES {
                        return Err(Errno::EINVAL.into());
                    }
                    cx.thread.robust_list = list;
                    Ok(0)
                }),
            (324, "membarrier", |cx, [command, flags, ..]| cx.membarrier(command, flags)),
        ])
    }

    fn futex(&mut self, [addr, operation, value, timeout, other, third]: [u64; 6]) -> Outcome {
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL.into());
        }
        let is_real = operation & CLOCK_REALTIME != 0;
        let key_of = |cx: &Self, addr| match operation & PRIVATE {
            0 => futex_key(cx.userland.memory(), cx.cpu, &cx.thread.mm, addr),
            _ => private_futex_key(cx.userland.memory(), &cx.thread.mm, addr),
        };
        let key = key_of(self, addr);
        match operation & !(PRIVATE | CLOCK_REALTIME) {
            WAIT => {
                let timeout = self.read_optional_timespec(timeout)?;
                let now = self.userland.machine().now_ns();
                self.futex_wait((addr, key), value as u32, u32::MAX, timeout.map(|timeout| now.saturating_add(timeout)))
            }
            WAIT_BITSET => {
                let timeout = self.read_optional_timespec(timeout)?;
                let offset = if is_real { self.userland.machine().boot_time_ns() } else { 0 };
                let deadline = timeout.map(|timeout| timeout.saturating_sub(offset));
                self.futex_wait((addr, key), value as u32, third as u32, deadline)
            }
            WAKE => self.futex_wake(key, value as u32, u32::MAX),
            WAKE_BITSET => self.futex_wake(key, value as u32, third as u32),
            operation @ (REQUEUE | CMP_REQUEUE) => {
                if operation == CMP_REQUEUE && self.read_u32(addr)? != third as u32 {
                    return Err(Errno::EAGAIN.into());
                }
                let woken = self.futex_wake(key, value as u32, u32::MAX)?;
                let to = key_of(self, other);
                // The fourth argument is a number here.
                let moved = self.world().requeue(key, to, timeout as u32);
                Ok(woken + if operation == CMP_REQUEUE { moved } else { 0 })
            }
            _ => Err(Errno::ENOSYS.into()),
        }
    }

    fn futex_wait(&mut self, (addr, key): (u64, FutexKey), expected: u32, bits: u32, deadline: Option<u64>) -> Outcome {
        if bits == 0 {
            return Err(Errno::EINVAL.into());
        }
        if self.thread.progress.woken {
            return Ok(0);
        }
        let deadline = self.thread.progress.deadline.or(deadline);
        self.thread.progress.deadline = deadline;
        let is_retry = self.thread.in_call;
        if is_retry && deadline.is_some_and(|deadline| deadline <= self.userland.machine().now_ns()) {
            return Err(Errno::ETIMEDOUT.into());
        }
        // The events first: a wake between the look at the word and the wait then shows.
        let events = self.world().events;
        if self.read_u32(addr)? != expected {
            return Err(Errno::EAGAIN.into());
        }
        Err(Stop::Wait(Wait { what: WaitFor::Futex(key), bits, deadline, events }))
    }

    fn futex_wake(&mut self, key: FutexKey, count: u32, bits: u32) -> Outcome {
        if bits == 0 {
            return Err(Errno::EINVAL.into());
        }
        let chosen = |wait: &Wait| wait.what == WaitFor::Futex(key) && wait.bits & bits != 0;
        Ok(self.world().wake_up_to(count as usize, chosen) as u64)
    }

    /// A barrier among the threads of processes; each CPU passes one, whoever runs there. Commands for restartable sequences do not exist, as on a Linux that was built
    /// without these, nor do those that serialise instructions.
    fn membarrier(&mut self, command: u64, flags: u64) -> Outcome {
        const QUERY: u32 = 0;
        const GLOBAL: u32 = 1;
        const GLOBAL_EXPEDITED: u32 = 1 << 1;
        const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
        const PRIVATE_EXPEDITED: u32 = 1 << 3;
        const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
        const GET_REGISTRATIONS: u32 = 1 << 9;
        if flags as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let registered = self.with_process(|process| process.registered_barriers)?;
        match command as u32 {
            QUERY => return Ok(0x21f),
            GET_REGISTRATIONS => return Ok(registered.into()),
            GLOBAL | GLOBAL_EXPEDITED => {}
            PRIVATE_EXPEDITED if registered & REGISTER_PRIVATE_EXPEDITED == 0 => return Err(Errno::EPERM.into()),
            PRIVATE_EXPEDITED => {}
            register @ (REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED) => {
                self.with_process(|process| process.registered_barriers |= register)?;
                return Ok(0);
            }
            _ => return Err(Errno::EINVAL.into()),
        }
        self.userland.memory().barrier(self.cpu);
        Ok(0)
    }
}

impl<M: Memory, D: Machine> Userland<M, D> {
    /// Frees the locks that a thread holds which ends, as far as it keeps a list of them (Linux: `exit_robust_list`).
    ///
    /// The list is the program's: a bad address or a circle ends the walk.
    pub(crate) fn free_robust_locks(&self, cpu: &Cpu, thread: &Thread<M>) {
        let word = |addr: u64| {
            let mut bytes = [0; 8];
            let read = self.memory().read_user(cpu, thread.memory(), VirtAddr::new(addr), &mut bytes);
            read.ok().map(|()| u64::from_le_bytes(bytes))
        };
        let head = thread.robust_list;
        let fields = [0, 8, 16].map(|offset| word(head.wrapping_add(offset)));
        let [Some(first), Some(offset), Some(pending)] = fields else { return };
        let mut at = first;
        for _ in 0..ROBUST_LIMIT {
            // The lowest bit says which kind of lock it is.
            let entry = at & !1;
            if entry == head || entry == 0 {
                break;
            }
            let next = word(entry);
            if entry != pending & !1 {
                self.free_lock(cpu, thread, entry.wrapping_add(offset));
            }
            let Some(next) = next else { break };
            at = next;
        }
        if pending != 0 {
            self.free_lock(cpu, thread, (pending & !1).wrapping_add(offset));
        }
    }

    fn free_lock(&self, cpu: &Cpu, thread: &Thread<M>, addr: u64) {
        let mut bytes = [0; 4];
        let at = VirtAddr::new(addr);
        if !addr.is_multiple_of(4) || self.memory().read_user(cpu, thread.memory(), at, &mut bytes).is_err() {
            return;
        }
        let value = u32::from_le_bytes(bytes);
        if value & OWNER != thread.tid() {
            return;
        }
        let died = value & WAITERS | OWNER_DIED;
        let written = self.memory().write_user(cpu, thread.memory(), at, &died.to_le_bytes());
        if written.is_ok() && value & WAITERS != 0 {
            let key = futex_key(self.memory(), cpu, thread.mm(), addr);
            self.world(cpu).wake_up_to(1, |wait| wait.what == WaitFor::Futex(key));
        }
    }
}

impl<M: Memory> World<M> {
    /// Makes waiters of one word wait for another.
    fn requeue(&mut self, from: FutexKey, to: FutexKey, count: u32) -> u64 {
        let mut moved = 0;
        for (_, entry) in self.threads.iter_mut() {
            if moved < u64::from(count)
                && let Run::Waits(_, wait) = &mut entry.run
                && wait.what == WaitFor::Futex(from)
            {
                wait.what = WaitFor::Futex(to);
                moved += 1;
            }
        }
        moved
    }
}
