//! What later lines of a recording say about earlier ones, read before the replay begins.
//!
//! A step of a resident-set counter stands behind the fault or call that made it. Which pages of a file were in memory shows only in such steps and
//! in later faults: a page that faults as absent was not mapped before, one that faults for its protection was.

use std::collections::{BTreeMap, BTreeSet};

use object_allocator::mmu::Rss;
use recordings::processes::{
    Action, Call, CallName, CallResult, InputError, MappedFile, MmId, Recording, RssMember, TaskId, TraceReader,
};
use units::VirtAddr;

use super::tasks::{CLONE_VM, SpaceId, is_execve};

/// Bytes of a page, as a shift.
const PAGE_SHIFT: u32 = address_space::PAGE_SHIFT;

/// Counters of an address space as far as they were recorded, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Steps {
    file: Option<u64>,
    anon: Option<u64>,
    swap: Option<u64>,
    shmem: Option<u64>,
}

impl Steps {
    fn note(&mut self, member: RssMember, bytes: u64) {
        let counter = match member {
            RssMember::File => &mut self.file,
            RssMember::Anon => &mut self.anon,
            RssMember::Swap => &mut self.swap,
            RssMember::Shmem => &mut self.shmem,
        };
        *counter = Some(bytes >> PAGE_SHIFT);
    }

    /// Returns the counters with their names, ours beside the recorded ones.
    pub(super) fn beside(&self, ours: Rss) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let rows = [
            ("file", ours.file, self.file),
            ("anonymous", ours.anon, self.anon),
            ("swapped", ours.swap, self.swap),
            ("shared", ours.shmem, self.shmem),
        ];
        rows.into_iter().filter_map(|(name, ours, recorded)| Some((name, ours, recorded?)))
    }

    /// Returns the pages of files, those of shared memory among them, that are mapped beyond `ours`; `None` if no step was recorded.
    pub(super) fn more_of_files(&self, ours: Rss) -> Option<i64> {
        let more = |recorded: Option<u64>, ours: u64| recorded.map(|recorded| recorded as i64 - ours as i64);
        match (more(self.file, ours.file), more(self.shmem, ours.shmem)) {
            (None, None) => None,
            (file, shmem) => Some(file.unwrap_or(0) + shmem.unwrap_or(0)),
        }
    }
}

/// What a recording says of a page of an address space after a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Later {
    /// It faults for its protection: it is mapped until then.
    Mapped,
    /// Nothing.
    Unknown,
    /// It faults as absent: it is not mapped until then.
    Absent,
}

/// What is known in advance.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    /// Counters of the task's own address space after the fault or call that begins at a line.
    after: BTreeMap<u64, Steps>,
    /// Counters of a child's address space, by the line that announces the child.
    forks: BTreeMap<u64, Steps>,
    /// Pages that execve's arguments took, by the line of the exec.
    arguments: BTreeMap<u64, u64>,
    /// How each mmap of a task with others in its address space ends, by the line where it begins.
    ends: BTreeMap<u64, End>,
    /// Faults and calls, by the line where they begin, and exits, in whose time other tasks changed the same address space.
    crowded: BTreeSet<u64>,
    /// Steps outside of faults and calls, by their own line.
    unprompted: BTreeMap<u64, Steps>,
    /// Faults by address space and page: line, and whether it was for protection.
    faults: BTreeMap<(SpaceId, u64), Vec<(u64, bool)>>,
}

/// The end of an mmap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// What it returned.
    pub(super) result: CallResult,
    /// The file that it mapped.
    pub(super) file: Option<MappedFile>,
}

/// A task as far as this reading follows it.
#[derive(Debug, Default)]
struct Follower {
    space: Option<SpaceId>,
    /// Line of the fault or call whose steps follow.
    operation: u64,
    /// Line of the last call.
    call: u64,
    /// Line of the last event.
    last: u64,
    /// It is in a call that changes its address space.
    in_call: bool,
    /// The last call has returned, and no fault came since.
    is_outside: bool,
    /// It is in an execve.
    in_execve: bool,
    /// Counters of other address spaces since the last call began.
    others: BTreeMap<MmId, Steps>,
    /// Faults of an execve on the address space that it makes.
    early: Vec<(u64, VirtAddr, bool)>,
    /// Pages that the execve under way wrote arguments to, once that is known.
    arguments: Option<u64>,
    /// The exec of which that is not known, and the counters among which they are.
    exec: Option<(u64, BTreeMap<MmId, Steps>)>,
}

impl Foresight {
    /// Reads a recording to its end.
    pub(super) fn read(recording: &Recording) -> Result<Self, InputError> {
        Self::of(recording.events()?)
    }

    fn of(mut reader: TraceReader) -> Result<Self, InputError> {
        let mut reading = Reading::default();
        while let Some(event) = reader.next_event()? {
            reading.event(reader.line(), event.task, &event.action);
        }
        Ok(reading.foresight)
    }

    fn fault(&mut self, space: SpaceId, line: u64, addr: VirtAddr, is_protection: bool) {
        self.faults.entry((space, addr.raw() >> PAGE_SHIFT)).or_default().push((line, is_protection));
    }

    /// Returns the counters after the fault or call that began at `line`.
    pub(super) fn after(&self, line: u64) -> Steps {
        self.after.get(&line).copied().unwrap_or_default()
    }

    /// Returns the counters that `line` gives outside of every fault and call that is recorded: something else changed them, such as a file's truncation.
    pub(super) fn unprompted(&self, line: u64) -> Option<Steps> {
        self.unprompted.get(&line).copied()
    }

    /// Returns true if other tasks changed the address space between the fault or call that began at `line` and its steps, whose order is not recorded; or while
    /// the files of the task that exits at `line` were read.
    pub(super) fn is_crowded(&self, line: u64) -> bool {
        self.crowded.contains(&line)
    }

    /// Returns how the mmap ends that begins at `line`.
    pub(super) fn end(&self, line: u64) -> Option<&End> {
        self.ends.get(&line)
    }

    /// Returns the counters of the child that `line` announces.
    pub(super) fn forked(&self, line: u64) -> Steps {
        self.forks.get(&line).copied().unwrap_or_default()
    }

    /// Returns how many pages the arguments of the exec at `line` took.
    pub(super) fn argument_pages(&self, line: u64) -> u64 {
        self.arguments.get(&line).copied().unwrap_or(0)
    }

    /// Says what becomes of a page after `line`.
    pub(super) fn later(&self, space: SpaceId, page: VirtAddr, line: u64) -> Later {
        let faults = self.faults.get(&(space, page.raw() >> PAGE_SHIFT));
        match faults.and_then(|faults| faults.iter().find(|(at, _)| *at > line)) {
            Some((_, true)) => Later::Mapped,
            Some((_, false)) => Later::Absent,
            None => Later::Unknown,
        }
    }
}

#[derive(Debug, Default)]
struct Reading {
    foresight: Foresight,
    tasks: BTreeMap<TaskId, Follower>,
    spaces: SpaceId,
    /// Tasks share an address space, or did.
    has_threads: bool,
}

impl Reading {
    fn event(&mut self, line: u64, task: TaskId, action: &Action) {
        let followed = self.tasks.entry(task).or_default();
        followed.last = line;
        match action {
            Action::Enter(call) => {
                (followed.in_call, followed.is_outside) = (changes_memory(call), false);
                (followed.operation, followed.call) = (line, line);
                followed.in_execve = is_execve(call);
                followed.others.clear();
                followed.early.clear();
                followed.arguments = None;
            }
            Action::Return { call, result, file } => {
                (followed.in_execve, followed.in_call, followed.is_outside) = (false, false, true);
                if *call == CallName::Mmap && self.has_threads {
                    let end = End { result: *result, file: file.clone() };
                    self.foresight.ends.insert(followed.call, end);
                }
            }
            Action::UserFault { addr, error, .. } | Action::KernelFault { addr, error } => {
                (followed.operation, followed.is_outside) = (line, false);
                match followed.space {
                    // An execve's writes are to the address space that it makes.
                    _ if followed.in_execve && error.is_write() => {
                        followed.early.push((line, *addr, error.is_protection()));
                    }
                    Some(space) => self.foresight.fault(space, line, *addr, error.is_protection()),
                    None => {}
                }
            }
            Action::RssStat { is_current: true, member, bytes, .. }
                if followed.is_outside && followed.exec.is_none() =>
            {
                self.foresight.unprompted.entry(line).or_default().note(*member, *bytes);
            }
            Action::RssStat { mm, is_current, member, bytes } => self.step(task, (*mm, *is_current), *member, *bytes),
            Action::NewTask { child, flags } => self.new_task(line, task, *child, *flags),
            Action::Exec => self.exec(line, task),
            Action::Exit => {
                let space = followed.space.take();
                if self.is_changed(space, task, self.tasks.get(&task).map_or(0, |followed| followed.call)) {
                    self.foresight.crowded.insert(line);
                }
            }
        }
    }

    /// Notes whether others change the address space between a task's fault or call and its step.
    fn note_crowd(&mut self, task: TaskId) {
        let Some(&Follower { space, operation, .. }) = self.tasks.get(&task) else { return };
        if self.is_changed(space, task, operation) {
            self.foresight.crowded.insert(operation);
        }
    }

    /// Returns true if another task of the address space is in a call, or did anything since line `since`.
    fn is_changed(&self, space: Option<SpaceId>, task: TaskId, since: u64) -> bool {
        let mut others = self.tasks.iter().filter(|(other, found)| **other != task && found.space == space);
        space.is_some() && others.any(|(_, other)| other.in_call || other.last > since)
    }

    fn step(&mut self, task: TaskId, of: (MmId, bool), member: RssMember, bytes: u64) {
        let (mm, is_current) = of;
        let Some(followed) = self.tasks.get_mut(&task) else { return };
        if !is_current {
            followed.others.entry(mm).or_default().note(member, bytes);
            return;
        }
        self.foresight.after.entry(followed.operation).or_default().note(member, bytes);
        self.note_crowd(task);
        let Some(followed) = self.tasks.get_mut(&task) else { return };
        // The first step of an exec's address space as the task's own tells which of the others it was.
        if let Some((line, others)) = followed.exec.take() {
            let pages = others.get(&mm).and_then(|steps| steps.anon);
            self.foresight.arguments.insert(line, pages.unwrap_or(0));
        } else if followed.in_execve && followed.arguments.is_none() {
            followed.arguments = followed.others.get(&mm).and_then(|steps| steps.anon);
        }
    }

    fn exec(&mut self, line: u64, task: TaskId) {
        self.spaces += 1;
        let Some(followed) = self.tasks.get_mut(&task) else { return };
        followed.space = Some(self.spaces);
        match followed.arguments.take() {
            Some(pages) => {
                self.foresight.arguments.insert(line, pages);
            }
            None => followed.exec = Some((line, std::mem::take(&mut followed.others))),
        }
        for (line, addr, is_protection) in std::mem::take(&mut followed.early) {
            self.foresight.fault(self.spaces, line, addr, is_protection);
        }
    }

    fn new_task(&mut self, line: u64, parent: TaskId, child: TaskId, flags: u64) {
        let Some(followed) = self.tasks.get_mut(&parent) else { return };
        let mut space = followed.space;
        if flags & CLONE_VM == 0 && space.is_some() {
            self.spaces += 1;
            space = Some(self.spaces);
            let steps = std::mem::take(&mut followed.others).into_values().next();
            self.foresight.forks.insert(line, steps.unwrap_or_default());
        }
        self.has_threads |= flags & CLONE_VM != 0;
        self.tasks.insert(child, Follower { space, ..Follower::default() });
    }
}

/// Returns false for calls that leave the caller's areas and pages as they are, and may take long: those that make and end tasks.
const fn changes_memory(call: &Call) -> bool {
    !matches!(
        call,
        Call::Clone { .. }
            | Call::Clone3 { .. }
            | Call::Fork {}
            | Call::Vfork {}
            | Call::Execve { .. }
            | Call::Execveat { .. }
            | Call::Exit { .. }
            | Call::ExitGroup { .. }
            | Call::Prlimit64 { .. }
            | Call::Setrlimit { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::*;

    /// Reads lines; the first is line 3.
    fn read(lines: &str) -> Foresight {
        let text = format!("# vmtrace 1\n# t0_mono_ns 1\n{lines}");
        Foresight::of(TraceReader::new(Path::new("test"), Box::new(Cursor::new(text))).unwrap()).unwrap()
    }

    fn rows(steps: Steps) -> Vec<(&'static str, u64, u64)> {
        steps.beside(Rss::default()).collect()
    }

    const EXEC: &str = "\
> 1 1 execve 0 0 0
R 1 1 m1 0 1 4096
R 1 1 m1 0 1 8192
R 1 1 m2 0 1 0
K 1 1 7000 2
R 1 1 m1 1 1 12288
E 1 1
< 1 1 execve 0
";

    #[test]
    fn the_arguments_of_an_exec_are_what_its_address_space_had_before_the_first_fault() {
        let known = read(EXEC);
        assert_eq!(known.argument_pages(9), 2);
        assert_eq!(rows(known.after(7)), [("anonymous", 0, 3)]);
    }

    #[test]
    fn an_exec_without_a_fault_is_known_by_the_next_step() {
        let without = EXEC.replace("K 1 1 7000 2\nR 1 1 m1 1 1 12288\n", "");
        let known = read(&format!("{without}U 1 1 8000 0 6\nR 1 1 m1 1 1 12288\n"));
        assert_eq!(known.argument_pages(7), 2);
    }

    #[test]
    fn steps_belong_to_the_fault_or_call_before_them() {
        let known = read(
            "> 1 1 munmap 0 0\nR 1 1 m1 1 0 4096\nR 1 1 m1 1 0 0\n< 1 1 munmap 0\nU 1 1 9000 0 4\nR 1 1 m1 1 3 8192\n",
        );
        assert_eq!(rows(known.after(3)), [("file", 0, 0)]);
        assert_eq!(rows(known.after(7)), [("shared", 0, 2)]);
        assert_eq!(known.after(7).more_of_files(Rss { shmem: 1, ..Rss::default() }), Some(1));
        assert_eq!(known.after(6).more_of_files(Rss::default()), None);
    }

    #[test]
    fn a_childs_pages_are_the_steps_of_another_address_space_in_the_call() {
        let known = read(&format!("{EXEC}> 1 1 fork\nR 1 1 m5 0 1 4096\nR 1 1 m5 0 0 8192\nN 1 1 t2 0\n"));
        assert_eq!(rows(known.forked(14)), [("file", 0, 2), ("anonymous", 0, 1)]);
    }

    #[test]
    fn a_step_is_crowded_if_another_task_of_the_address_space_comes_between() {
        let threads = format!("{EXEC}N 1 1 t2 100\n");
        let quiet = "U 1 1 b000 0 4\nR 1 1 m1 1 0 12288\n";
        let known =
            read(&format!("{threads}U 1 1 9000 0 4\nU 1 2 a000 0 4\nR 1 1 m1 1 0 4096\nR 1 2 m1 1 0 8192\n{quiet}"));
        assert_eq!([12, 13, 16].map(|line| known.is_crowded(line)), [true, true, false]);
        let known = read(&format!("{threads}> 1 2 munmap 0 0\n{quiet}"));
        assert!(known.is_crowded(13));
        let apart = read(&format!("{EXEC}N 1 1 t2 0\nU 1 1 9000 0 4\nU 1 2 a000 0 4\nR 1 1 m1 1 0 4096\n"));
        assert!(!apart.is_crowded(12));
        let known = read(&format!("{threads}> 1 2 exit 0\n{quiet}Q 1 2\n> 1 1 exit_group 0\nQ 1 1\n"));
        assert_eq!([15, 17].map(|line| known.is_crowded(line)), [true, false]);
    }

    #[test]
    fn a_step_behind_the_end_of_a_call_is_nobodys() {
        let known = read(&format!(
            "{EXEC}> 1 1 munmap 0 0\n< 1 1 munmap 0\nR 1 1 m1 1 0 4096\nU 1 1 9000 0 4\nR 1 1 m1 1 0 8192\n"
        ));
        assert_eq!(known.unprompted(13).map(rows), Some(vec![("file", 0, 1)]));
        assert_eq!((rows(known.after(11)), known.unprompted(15)), (Vec::new(), None));
    }

    #[test]
    fn the_next_fault_on_a_page_tells_whether_it_was_mapped() {
        let known = read(&format!("{EXEC}U 1 1 9000 0 4\nU 1 1 a000 0 7\nN 1 1 t2 0\nU 1 2 9000 0 7\n"));
        let later = |space, page, line| known.later(space, VirtAddr::new(page), line);
        assert_eq!(later(1, 0x9000, 10), Later::Absent);
        assert_eq!(later(1, 0xa000, 10), Later::Mapped);
        assert_eq!(later(1, 0x9000, 11), Later::Unknown);
        assert_eq!(later(2, 0x9000, 13), Later::Mapped);
        assert_eq!(later(1, 0x7000, 3), Later::Absent);
    }
}
