//! A process: what its threads share.
//!
//! Linux 6.12: include/linux/sched/signal.h (`struct signal_struct`), include/linux/fdtable.h, fs_struct.h.

use alloc::vec::Vec;

use address_space::{Limits, Rights};

use crate::errno::Errno;
use crate::files::{Descriptors, Place};
use crate::signals::{Actions, Pending};
use crate::slots::{Key, copy_of};

pub(crate) type ProcessKey = Key<Process>;

/// Bytes of a name without its end (TASK_COMM_LEN).
pub(crate) const NAME_BYTES: usize = 15;

/// How a process ended, as wait4 tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// It called exit with this code.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

impl Exit {
    /// Returns the status word of wait4.
    pub(crate) const fn status(self) -> u32 {
        match self {
            Self::Code(code) => (code as u32) << 8,
            Self::Signal(signal) => signal as u32,
        }
    }
}

/// Whether a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It has threads.
    Runs,
    /// All its threads are to end.
    Ends(Exit),
    /// It has none any more, and its parent has not looked.
    Zombie(Exit),
}

/// Limits that are not the memory's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OtherLimits {
    /// RLIMIT_NOFILE.
    pub(crate) descriptors: [u64; 2],
    /// RLIMIT_NPROC.
    pub(crate) processes: [u64; 2],
    /// RLIMIT_CORE.
    pub(crate) core: [u64; 2],
    /// RLIMIT_FSIZE.
    pub(crate) file_size: [u64; 2],
}

impl Default for OtherLimits {
    fn default() -> Self {
        let none = address_space::NO_LIMIT;
        Self { descriptors: [1024, 4096], processes: [4096, 4096], core: [0, none], file_size: [none, none] }
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// No other process has had it.
    pub(crate) serial: u64,
    /// The parent, by number; 0 for init.
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    pub(crate) life: Life,
    pub(crate) nr_threads: u32,
    /// The first thread's name.
    pub(crate) name: [u8; NAME_BYTES],
    /// When it began, on the machine's clock.
    pub(crate) started: u64,
    /// How long its threads ran that have ended.
    pub(crate) ended_ns: u64,
    /// How long children ran that were waited for.
    pub(crate) children_ns: u64,
    /// The program's path, for /proc/PID/exe.
    pub(crate) executable: Vec<u8>,
    /// What its program was told when it started, for /proc/PID/auxv.
    pub(crate) auxiliary: Vec<u8>,
    /// Signal that the parent gets at the end; 0 for none.
    pub(crate) exit_signal: u8,
    /// It told that it uses membarrier's barriers among its threads, or among all that did (MEMBARRIER_CMD_REGISTER_).
    pub(crate) registered_barriers: u32,
    /// Runs in the memory of the parent that vfork made it in.
    pub(crate) borrows_memory: bool,
    pub(crate) descriptors: Descriptors,
    pub(crate) directory: Place,
    pub(crate) umask: u32,
    pub(crate) actions: Actions,
    pub(crate) pending: Pending,
    pub(crate) rights: Rights,
    pub(crate) limits: Limits,
    pub(crate) other_limits: OtherLimits,
}

impl Process {
    /// Copies what fork copies; the descriptors' files have one more user only once the caller counts them.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn fork(&self, pid: u32, serial: u64) -> Result<Self, Errno> {
        Ok(Self {
            pid,
            serial,
            parent: self.pid,
            group: self.group,
            session: self.session,
            life: Life::Runs,
            nr_threads: 0,
            name: self.name,
            started: 0,
            ended_ns: 0,
            children_ns: 0,
            executable: copy_of(&self.executable)?,
            auxiliary: copy_of(&self.auxiliary)?,
            exit_signal: 0,
            registered_barriers: self.registered_barriers,
            borrows_memory: false,
            descriptors: self.descriptors.try_clone()?,
            directory: self.directory,
            umask: self.umask,
            actions: self.actions.clone(),
            pending: Pending::new(),
            rights: self.rights,
            limits: self.limits,
            other_limits: self.other_limits,
        })
    }

    /// Takes the name from a path (Linux: `set_task_comm` with the last component).
    pub(crate) fn set_name(&mut self, path: &[u8]) {
        self.name = task_name(path.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
    }

    /// Returns who makes calls on its memory.
    pub(crate) const fn caller(&self) -> address_space::Process {
        address_space::Process { rights: self.rights, limits: self.limits }
    }
}

/// Returns a name as tasks have it: up to its first zero and as far as it fits.
pub(crate) fn task_name(name: &[u8]) -> [u8; NAME_BYTES] {
    let mut fitting = [0; NAME_BYTES];
    for (to, from) in fitting.iter_mut().zip(name.iter().take_while(|&&byte| byte != 0)) {
        *to = *from;
    }
    fitting
}

/// Returns a name without the zeros behind it.
pub(crate) fn trimmed(name: &[u8; NAME_BYTES]) -> &[u8] {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
    name.get(..end).unwrap_or_default()
}
