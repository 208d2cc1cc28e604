//! What a process may have and the machine has: rlimits, usage, sysinfo, CPUs, arch_prctl.
//!
//! Linux 6.12: kernel/sys.c, kernel/sched/syscalls.c, arch/x86/kernel/process_64.c, mm/util.c.

use address_space::NO_LIMIT;

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::process::Process;
use crate::schedule::Stop;
use crate::user_memory::PROGRAM_END;

const RLIMIT_FSIZE: u64 = 1;
const RLIMIT_DATA: u64 = 2;
const RLIMIT_STACK: u64 = 3;
const RLIMIT_CORE: u64 = 4;
const RLIMIT_NPROC: u64 = 6;
const RLIMIT_NOFILE: u64 = 7;
const RLIMIT_MEMLOCK: u64 = 8;
const RLIMIT_AS: u64 = 9;
pub(super) const NR_LIMITS: u64 = 16;
/// Most descriptors that a limit may allow (sysctl_nr_open).
const MAX_DESCRIPTORS: u64 = 1 << 20;

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    #[rustfmt::skip]
    pub(super) const fn limits_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [
            (97, "getrlimit", |cx, [resource, to, ..]| cx.prlimit(0, resource, 0, to)),
            (98, "getrusage", |cx, [who, to, ..]| cx.getrusage(who, to)),
            (99, "sysinfo", |cx, [to, ..]| cx.sysinfo(to)),
            (158, "arch_prctl", |cx, [option, addr, ..]| cx.arch_prctl(option, addr)),
            (160, "setrlimit", |cx, [resource, from, ..]| cx.prlimit(0, resource, from, 0)),
            (204, "sched_getaffinity", |cx, [tid, bytes, to, ..]| cx.sched_getaffinity(tid, bytes, to)),
            (302, "prlimit64", |cx, [pid, resource, new, old, ..]| cx.prlimit(pid, resource, new, old)),
            (309, "getcpu", |cx, [cpu, node, ..]| {
                    if cpu != 0 {
                        cx.write_u32(cpu, u32::from(cx.cpu.id().raw()))?;
                    }
                    if node != 0 {
                        cx.write_u32(node, 0)?;
                    }
                    Ok(0)
                }),
        ])
    }

    fn prlimit(&mut self, pid: u64, resource: u64, new: u64, old: u64) -> Outcome {
        if resource >= NR_LIMITS {
            return Err(Errno::EINVAL.into());
        }
        let wanted = match new {
            0 => None,
            _ => Some(self.read_words::<2>(new)?),
        };
        let before = {
            let mut world = self.world();
            let key = match pid as u32 {
                0 => self.thread.process,
                pid => world.process_of(pid).ok_or(Errno::ESRCH)?,
            };
            let process = world.processes.get_mut(key).ok_or(Errno::ESRCH)?;
            let before = limit(process, resource);
            if let Some([soft, hard]) = wanted {
                if soft > hard || resource == RLIMIT_NOFILE && hard > MAX_DESCRIPTORS {
                    return Err(if soft > hard { Errno::EINVAL } else { Errno::EPERM }.into());
                }
                set_limit(process, resource, [soft, hard])?;
                // Each thread has a copy for its calls on memory, taken when it next looks.
                let threads = world.threads.iter().filter(|(_, thread)| thread.process == key);
                let cpus = threads.fold(0, |all, (_, thread)| all | thread.cpu_bit());
                world.to_kick |= cpus;
            }
            before
        };
        if let Ok(caller) = self.with_process(|process| process.caller()) {
            self.thread.caller = caller;
        }
        if old != 0 {
            self.write_words(old, &before)?;
        }
        Ok(0)
    }

    /// Times are not kept: zero. The largest resident size is the memory manager's.
    fn getrusage(&mut self, who: u64, to: u64) -> Outcome {
        const CHILDREN: i32 = -1;
        const THREAD: i32 = 1;
        if !(CHILDREN..=THREAD).contains(&(who as i32)) {
            return Err(Errno::EINVAL.into());
        }
        let mut usage = [0; 18];
        let [_, _, _, _, max_rss, ..] = &mut usage;
        if who as i32 != CHILDREN {
            *max_rss = self.userland.memory().peak_rss_kib(&self.thread.mm);
        }
        self.write_words(to, &usage)?;
        Ok(0)
    }

    fn sysinfo(&mut self, to: u64) -> Outcome {
        let uptime = self.userland.machine().now_ns() / 1_000_000_000;
        let nr_processes = self.world().processes.len() as u64;
        let [total, free] = self.userland.memory().ram_bytes(self.cpu);
        let unit = 1;
        self.write_words(to, &[uptime, 0, 0, 0, total, free, 0, 0, 0, 0, nr_processes, 0, 0, unit])?;
        Ok(0)
    }

    fn sched_getaffinity(&mut self, tid: u64, bytes: u64, to: u64) -> Outcome {
        if tid as u32 != 0 && self.world().thread_of(tid as u32).is_none() {
            return Err(Errno::ESRCH.into());
        }
        if bytes < 8 || !bytes.is_multiple_of(8) {
            return Err(Errno::EINVAL.into());
        }
        let nr_cpus = self.userland.machine().nr_cpus();
        let mask = u64::MAX.checked_shr(64 - (nr_cpus as u32).clamp(1, 64)).unwrap_or(u64::MAX);
        self.write_words(to, &[mask])?;
        Ok(8)
    }

    fn arch_prctl(&mut self, option: u64, addr: u64) -> Outcome {
        const SET_GS: u64 = 0x1001;
        const SET_FS: u64 = 0x1002;
        const GET_FS: u64 = 0x1003;
        const GET_GS: u64 = 0x1004;
        match option {
            SET_GS | SET_FS if addr >= PROGRAM_END => Err(Errno::EPERM.into()),
            // The bases are loaded when a thread comes to its CPU.
            SET_GS => {
                self.thread.registers.gs_base = addr;
                Err(Stop::Yield(0))
            }
            SET_FS => {
                self.thread.registers.fs_base = addr;
                Err(Stop::Yield(0))
            }
            GET_FS => self.write_words(addr, &[self.thread.registers.fs_base]).map(|()| 0).map_err(Into::into),
            GET_GS => self.write_words(addr, &[self.thread.registers.gs_base]).map(|()| 0).map_err(Into::into),
            _ => Err(Errno::EINVAL.into()),
        }
    }
}

/// Returns the soft and the hard limit.
pub(super) fn limit(process: &Process, resource: u64) -> [u64; 2] {
    let (memory, other) = (&process.limits, &process.other_limits);
    match resource {
        RLIMIT_FSIZE => other.file_size,
        RLIMIT_DATA => [memory.data, memory.data_max],
        RLIMIT_STACK => [memory.stack, NO_LIMIT],
        RLIMIT_CORE => other.core,
        RLIMIT_NPROC => other.processes,
        RLIMIT_NOFILE => other.descriptors,
        RLIMIT_MEMLOCK => [memory.locked, NO_LIMIT],
        RLIMIT_AS => [memory.address_space, NO_LIMIT],
        _ => [NO_LIMIT; 2],
    }
}

/// Sets a limit.
///
/// # Errors
/// EPERM for one that nothing here would obey.
fn set_limit(process: &mut Process, resource: u64, limits: [u64; 2]) -> Result<(), Errno> {
    let (memory, other) = (&mut process.limits, &mut process.other_limits);
    match resource {
        RLIMIT_FSIZE => other.file_size = limits,
        RLIMIT_DATA => [memory.data, memory.data_max] = limits,
        RLIMIT_STACK => memory.stack = limits[0],
        RLIMIT_CORE => other.core = limits,
        RLIMIT_NPROC => other.processes = limits,
        RLIMIT_NOFILE => other.descriptors = limits,
        RLIMIT_MEMLOCK => memory.locked = limits[0],
        RLIMIT_AS => memory.address_space = limits[0],
        _ if limits == [NO_LIMIT; 2] => {}
        _ => return Err(Errno::EPERM),
    }
    Ok(())
}
