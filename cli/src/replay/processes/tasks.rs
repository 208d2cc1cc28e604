//! Tasks of a recording: which address space each runs in, which process it belongs to, and the call that it is in.

use std::collections::{BTreeMap, BTreeSet};

use address_space::{Process, Rights};
use recordings::processes::{Call, FaultError, TaskId};
use units::VirtAddr;

/// clone's flag for a task in the same address space.
pub(super) const CLONE_VM: u64 = 0x100;
/// clone's flag for a task of the same process.
const CLONE_THREAD: u64 = 0x1_0000;

/// Number of an address space of the replay.
pub(super) type SpaceId = u32;

/// A call that a task has begun.
#[derive(Debug)]
pub(super) struct Inside {
    /// The call.
    pub(super) call: Call,
    /// Faults of an execve on the address space that it makes, which is known when it is done.
    pub(super) early_faults: Vec<(u64, VirtAddr, FaultError)>,
    /// Line of its entry.
    pub(super) line: u64,
    /// It was made already, since another one that ends earlier shows that it came first.
    pub(super) is_made: bool,
}

/// A task.
#[derive(Debug)]
pub(super) struct Task {
    /// First task of its process.
    pub(super) leader: TaskId,
    /// Where it runs; `None` before the first exec of the recording, whose address space is not recorded.
    pub(super) space: Option<SpaceId>,
    /// The call that it is in.
    pub(super) inside: Option<Inside>,
    /// The call whose end is its first event: the one that made it.
    pub(super) is_new: bool,
}

/// The tasks that live.
#[derive(Debug)]
pub(super) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    /// What each process may do and have.
    processes: BTreeMap<TaskId, Process>,
    exited: BTreeSet<TaskId>,
    /// Faults of each process.
    faults: BTreeMap<TaskId, u64>,
    /// Tasks that there ever were.
    pub(super) count: u64,
}

/// The recorder starts the program and needs to be root, so the program is too.
const ROOT: Rights = Rights::IPC_LOCK.union(Rights::SYS_RAWIO).union(Rights::SYS_ADMIN);

impl Tasks {
    /// Starts with the first task.
    pub(super) fn new(first: TaskId) -> Self {
        let task = Task { leader: first, space: None, inside: None, is_new: false };
        let process = Process { rights: ROOT, ..Process::default() };
        Self {
            tasks: BTreeMap::from([(first, task)]),
            processes: BTreeMap::from([(first, process)]),
            exited: BTreeSet::new(),
            faults: BTreeMap::new(),
            count: 1,
        }
    }

    /// Returns a living task.
    pub(super) fn get_mut(&mut self, task: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(&task)
    }

    /// Returns what the process of a task may do and have.
    pub(super) fn process(&self, task: TaskId) -> Process {
        let leader = self.tasks.get(&task).map(|task| task.leader);
        leader.and_then(|leader| self.processes.get(&leader)).copied().unwrap_or_default()
    }

    fn leader(&self, task: TaskId) -> TaskId {
        self.tasks.get(&task).map_or(task, |found| found.leader)
    }

    /// Counts faults of a task's process.
    pub(super) fn count_faults(&mut self, task: TaskId, count: u64) {
        *self.faults.entry(self.leader(task)).or_default() += count;
    }

    /// Takes over how many faults a task's process had.
    pub(super) fn set_faults(&mut self, task: TaskId, count: u64) {
        self.faults.insert(self.leader(task), count);
    }

    /// Returns how many faults a task's process had.
    pub(super) fn faults(&self, task: TaskId) -> u64 {
        self.faults.get(&self.leader(task)).copied().unwrap_or(0)
    }

    /// Enters the child that `parent` made.
    pub(super) fn add(&mut self, parent: TaskId, child: TaskId, flags: u64, space: Option<SpaceId>) {
        let process = self.process(parent);
        let leader = match self.tasks.get(&parent) {
            Some(parent) if flags & CLONE_THREAD != 0 => parent.leader,
            _ => child,
        };
        self.processes.entry(leader).or_insert(process);
        self.tasks.insert(child, Task { leader, space, inside: None, is_new: true });
        self.count += 1;
    }

    /// Returns the other tasks of an address space that are in an mmap which was not made yet, in the order in which they began.
    pub(super) fn in_mmap(&self, space: SpaceId, but: TaskId) -> Vec<(u64, TaskId, Call)> {
        let others = self.tasks.iter().filter(|(task, found)| **task != but && found.space == Some(space));
        let inside = others.filter_map(|(task, found)| Some((*task, found.inside.as_ref()?)));
        let waiting = inside.filter(|(_, inside)| !inside.is_made && matches!(inside.call, Call::Mmap { .. }));
        let mut waiting: Vec<_> = waiting.map(|(task, inside)| (inside.line, task, inside.call.clone())).collect();
        waiting.sort_unstable_by_key(|(line, _, _)| *line);
        waiting
    }

    /// Takes a task out that has ended.
    pub(super) fn remove(&mut self, task: TaskId) -> Option<Task> {
        self.exited.insert(task);
        self.tasks.remove(&task)
    }

    /// Returns true if the task was there and has ended.
    pub(super) fn has_exited(&self, task: TaskId) -> bool {
        self.exited.contains(&task)
    }
}

/// Returns true for the calls that replace an address space.
pub(super) const fn is_execve(call: &Call) -> bool {
    matches!(call, Call::Execve { .. } | Call::Execveat { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_belongs_to_its_makers_process_and_a_child_to_its_own() {
        let mut tasks = Tasks::new(TaskId(1));
        tasks.add(TaskId(1), TaskId(2), CLONE_VM | CLONE_THREAD, Some(1));
        tasks.add(TaskId(2), TaskId(3), 0, Some(2));
        let leaders = [1, 2, 3].map(|task| tasks.get_mut(TaskId(task)).unwrap().leader.0);
        assert_eq!((leaders, tasks.count), ([1, 1, 3], 3));
        assert_eq!(tasks.process(TaskId(3)), tasks.process(TaskId(1)));
    }
}
