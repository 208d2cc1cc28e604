//! The events of a recording in order, each done to our address spaces and compared.
//!
//! A call is made when the recording says that it ends, since one that waited for another's lock ends later; an mmap of another task in the same address
//! space is made before it if only that order gives the recorded addresses. A fault inside a call is done at its own
//! line. An execve's writes go to the address space that it makes, its reads to the one that it leaves. fork copies where the new task
//! is announced.

mod exits;

pub(super) use exits::ExitFiles;

use std::collections::BTreeMap;

use address_space::{MmError, PAGE_SHIFT, PAGE_SIZE};
use object_allocator::vmstat::VmEvent;
use page_allocator::Hooks;
use page_fault::{AccessKind, FaultAction, X86FaultCode};
use proc_files::parse::{Maps, ParseError};
use recordings::processes::{
    Action, Call, CallName, CallResult, Event, FaultError, InputError, MappedFile, Moment, Recording, TaskId,
    TraceReader,
};
use serde::Serialize;
use units::{VirtAddr, VirtRange};

use super::calls::{self, Outcome, Recorded};
use super::catalogue::Catalogue;
use super::compare;
use super::findings::{Findings, Kind};
use super::foresight::{End, Foresight};
use super::opened::FileTable;
use super::pages::{self, unlike};
use super::residency::{self, Neighbours, Place};
use super::space::{Host, ImportError, Space};
use super::tasks::{CLONE_VM, Inside, SpaceId, Task, Tasks, is_execve};
use crate::failure::Failure;

/// How much was replayed.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Lines of the trace that are events.
    pub(super) events: u64,
    /// Calls that were made.
    pub(super) calls: u64,
    /// Calls and faults before the first exec, in an address space that is not recorded.
    pub(super) before_exec: u64,
    /// Faults.
    pub(super) faults: u64,
    /// Execs.
    pub(super) execs: u32,
    /// Exits.
    pub(super) exits: u64,
    /// Faults that ours end with a signal, and that left no trace in the recording.
    pub(super) signals: u64,
    /// How often the recording had to tell what was in memory.
    pub(super) residency: Residency,
    /// Faults that others had answered.
    pub(super) repeated: Repeated,
    /// Steps that no recorded fault or call made.
    pub(super) unprompted: u64,
    /// Steps while other tasks of the address space were changing it.
    pub(super) crowded: u64,
    /// Exits whose files were read while other tasks were changing the address space.
    pub(super) crowded_exits: u64,
}

/// Faults whose neighbours in memory were found out from the recording.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Residency {
    /// Pages came into memory.
    pub(super) entered: u64,
    /// More were in memory than the recorded kernel mapped.
    pub(super) too_many: u64,
}

/// Faults on pages that an earlier fault had made possible.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Repeated {
    /// The earlier one came while page faults were disabled and was not counted.
    pub(super) while_disabled: u64,
    /// The earlier one was another task's, at the same time.
    pub(super) of_two_tasks: u64,
}

/// A replay under way.
pub(super) struct Engine<'a, 'k, H: Hooks + Sync> {
    host: Host<'a, 'k, H>,
    catalogue: &'a Catalogue,
    foresight: &'a Foresight,
    opened: FileTable,
    tasks: Tasks,
    spaces: BTreeMap<SpaceId, Space<'k>>,
    next_space: SpaceId,
    /// Resident pages of ours beyond the recorded ones, by kind.
    offsets: BTreeMap<(SpaceId, &'static str), i64>,
    /// The last fault on each page.
    last_faults: BTreeMap<(SpaceId, u64), (TaskId, VirtAddr, FaultError)>,
    /// Line of the event that is being done.
    line: u64,
    /// What was found.
    pub(super) findings: Findings,
    /// How much was done.
    pub(super) totals: Totals,
    /// The tasks whose files are kept at their exits.
    pub(super) files: BTreeMap<TaskId, ExitFiles>,
}

/// What is wrong with an event: what was found and what was expected.
struct Misplaced(String, &'static str);

/// Why an event could not be done.
enum Stop {
    Misplaced(Misplaced),
    Machine(String),
}

impl From<Misplaced> for Stop {
    fn from(misplaced: Misplaced) -> Self {
        Self::Misplaced(misplaced)
    }
}

impl<'a, 'k, H: Hooks + Sync> Engine<'a, 'k, H> {
    /// Starts with the first task, before its first exec.
    pub(super) fn new(host: Host<'a, 'k, H>, catalogue: &'a Catalogue, foresight: &'a Foresight) -> Self {
        Self {
            host,
            catalogue,
            foresight,
            opened: FileTable::default(),
            tasks: Tasks::new(TaskId(1)),
            spaces: BTreeMap::new(),
            next_space: 1,
            offsets: BTreeMap::new(),
            last_faults: BTreeMap::new(),
            line: 0,
            findings: Findings::default(),
            totals: Totals::default(),
            files: BTreeMap::new(),
        }
    }

    /// Does all events.
    ///
    /// # Errors
    /// An event that cannot follow on those before it, a state that is missing, or a machine that is too small.
    pub(super) fn run(&mut self, recording: &Recording) -> Result<(), Failure> {
        let mut reader = recording.events()?;
        while let Some(event) = reader.next_event()? {
            self.line = reader.line();
            self.totals.events += 1;
            self.event(&event).map_err(|stop| match stop {
                Stop::Misplaced(Misplaced(found, expected)) => Failure::from(reader.error(found, expected)),
                Stop::Machine(what) => Failure::Machine(format!("line {}: {what}", reader.line())),
            })?;
        }
        self.check_end(&reader)?;
        for (_, space) in std::mem::take(&mut self.spaces) {
            space.end(self.host);
        }
        Ok(())
    }

    /// A trace that was cut off, or is of another recording, lacks exits whose states were recorded.
    fn check_end(&self, reader: &TraceReader) -> Result<(), InputError> {
        let missing = self.catalogue.exits().find(|task| !self.tasks.has_exited(*task));
        match missing {
            Some(task) => Err(reader.error("the end of the trace", format!("the exit of task {}", task.0))),
            None => Ok(()),
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), Stop> {
        let task = event.task;
        match &event.action {
            Action::Enter(call) => self.enter(task, call)?,
            Action::Return { call, result, file } => self.leave(task, call, *result, file.as_ref())?,
            Action::UserFault { addr, error, .. } | Action::KernelFault { addr, error } => {
                self.fault(task, *addr, *error)?;
            }
            // An address space is emptied after the exit of its last task.
            Action::RssStat { .. } if self.tasks.has_exited(task) => {}
            Action::RssStat { .. } => {
                let space = self.task(task)?.space;
                self.unprompted_step(task, space);
            }
            Action::NewTask { child, flags } => self.new_task(task, *child, *flags)?,
            Action::Exec => self.exec(task)?,
            Action::Exit => self.exit(task)?,
        }
        Ok(())
    }

    fn task(&mut self, task: TaskId) -> Result<&mut Task, Misplaced> {
        let found = format!("an event of task {}", task.0);
        self.tasks.get_mut(task).ok_or(Misplaced(found, "a task that was made and has not exited"))
    }

    fn enter(&mut self, task: TaskId, call: &Call) -> Result<(), Misplaced> {
        let line = self.line;
        let entered = self.task(task)?;
        if let Some(inside) = &entered.inside {
            return Err(Misplaced(format!("the entry of {}", call.name()), leave_first(&inside.call)));
        }
        entered.inside = Some(Inside { call: call.clone(), early_faults: Vec::new(), line, is_made: false });
        entered.is_new = false;
        Ok(())
    }

    fn leave(
        &mut self,
        task: TaskId,
        name: &CallName,
        result: CallResult,
        file: Option<&MappedFile>,
    ) -> Result<(), Misplaced> {
        let left = self.task(task)?;
        let Some(inside) = left.inside.take() else {
            // A new task's first event is the end of the call that made it.
            let is_new = std::mem::replace(&mut left.is_new, false);
            return if is_new { Ok(()) } else { Err(Misplaced(format!("the end of {name}"), "its entry before")) };
        };
        if inside.call.name() != *name {
            return Err(Misplaced(format!("the end of {name}"), leave_first(&inside.call)));
        }
        if matches!(result, CallResult::Task(_)) || is_execve(&inside.call) && result == CallResult::Value(0) {
            self.totals.calls += 1;
            return Ok(());
        }
        if !inside.is_made {
            let recorded = Recorded { call: &inside.call, result, file };
            self.make_earlier(task, &recorded);
            self.make(task, inside.line, &recorded);
        }
        Ok(())
    }

    /// Makes mmaps of other tasks of the address space first, if the recorded addresses say that they came before.
    fn make_earlier(&mut self, task: TaskId, ending: &Recorded<'_>) {
        let Some(space) = self.tasks.get_mut(task).and_then(|task| task.space) else { return };
        for (line, other, call) in self.tasks.in_mmap(space, task) {
            let Some(End { result, file }) = self.foresight.end(line) else { continue };
            let waiting = Recorded { call: &call, result: *result, file: file.as_ref() };
            if self.fits(space, task, ending) == Some(true) || self.fits(space, other, &waiting) != Some(true) {
                continue;
            }
            self.make(other, line, &waiting);
            if let Some(inside) = self.tasks.get_mut(other).and_then(|other| other.inside.as_mut()) {
                inside.is_made = true;
            }
        }
    }

    /// Says whether a call that is given an address would get the recorded one now.
    fn fits(&mut self, space: SpaceId, task: TaskId, recorded: &Recorded<'_>) -> Option<bool> {
        let process = self.tasks.process(task);
        let space = self.spaces.get(&space)?;
        calls::would_fit(space, self.host, &process, recorded, (&mut self.opened, self.catalogue))
    }

    /// Makes a call, begun at line `entry`, and compares its result.
    fn make(&mut self, task: TaskId, entry: u64, recorded: &Recorded<'_>) {
        let process = self.tasks.process(task);
        let id = self.tasks.get_mut(task).and_then(|task| task.space);
        let Some((id, space)) = id.and_then(|id| Some((id, self.spaces.get(&id)?))) else {
            self.totals.before_exec += 1;
            return;
        };
        residency::bring_in_populated(space, self.host, &process, recorded.call);
        let faults = || self.host.manager.objects().vmstat().events(VmEvent::Pgfault);
        let before = faults();
        let outcome = calls::make(space, self.host, &process, recorded, (&mut self.opened, self.catalogue));
        // A call that populates takes faults, which no exception shows.
        self.tasks.count_faults(task, faults() - before);
        match outcome {
            Outcome::Taken(why) => self.findings.taken(why),
            Outcome::Made(ours) => {
                self.totals.calls += 1;
                self.compare_result(task, recorded, ours);
                self.compare_steps(task, id, entry);
            }
        }
    }

    /// Follows a step that no recorded fault or call made.
    fn unprompted_step(&mut self, task: TaskId, id: Option<SpaceId>) {
        let (line, Some(steps)) = (self.line, self.foresight.unprompted(self.line)) else { return };
        let Some((id, space)) = id.and_then(|id| Some((id, self.spaces.get(&id)?))) else { return };
        self.totals.unprompted += 1;
        residency::let_go(self.host, space, (id, line), &steps, self.foresight);
        let rows = steps.beside(space.rss()).collect::<Vec<_>>();
        self.compare_rows(task, id, line, &rows);
    }

    /// Compares resident pages with the recorded steps after the fault or call that began at `line`.
    fn compare_steps(&mut self, task: TaskId, id: SpaceId, line: u64) {
        if self.foresight.is_crowded(line) {
            self.totals.crowded += 1;
            return;
        }
        let Some(space) = self.spaces.get(&id) else { return };
        let rows = self.foresight.after(line).beside(space.rss()).collect::<Vec<_>>();
        self.compare_rows(task, id, line, &rows);
    }

    fn compare_rows(&mut self, task: TaskId, id: SpaceId, line: u64, rows: &[(&'static str, u64, u64)]) {
        for &(name, ours, recorded) in rows {
            self.findings.compared(Kind::Step, 1);
            let offset = ours as i64 - recorded as i64;
            // An offset that stays was told when it came.
            if self.offsets.insert((id, name), offset).unwrap_or(0) != offset {
                let what = format!("{name} pages: Linux {recorded}, ours {ours}");
                self.findings.differs(line, task, Kind::Step, what);
            }
        }
    }

    fn compare_result(&mut self, task: TaskId, recorded: &Recorded<'_>, ours: Result<u64, MmError>) {
        self.findings.compared(Kind::Errno, 1);
        if returns_address(recorded.call) {
            self.findings.compared(Kind::Address, 1);
        }
        let kind = match (recorded.result, ours) {
            (CallResult::Value(value), Ok(ours)) if value == ours => return,
            (CallResult::Errno(errno), Err(error)) if i32::from(errno) == kernel_mm::errno(error) => return,
            (CallResult::Value(_), Ok(_)) => Kind::Address,
            _ => Kind::Errno,
        };
        let theirs = match recorded.result {
            CallResult::Value(value) => format!("{value:#x}"),
            CallResult::Errno(errno) => format!("errno {errno}"),
            CallResult::Task(task) => format!("task {}", task.0),
        };
        let ours =
            ours.map_or_else(|error| format!("errno {}", kernel_mm::errno(error)), |value| format!("{value:#x}"));
        self.findings.differs(self.line, task, kind, format!("{:x?}: Linux {theirs}, ours {ours}", recorded.call));
    }

    fn fault(&mut self, task: TaskId, addr: VirtAddr, error: FaultError) -> Result<(), Misplaced> {
        let line = self.line;
        let faulting = self.task(task)?;
        if let Some(inside) = faulting.inside.as_mut().filter(|inside| is_execve(&inside.call) && error.is_write()) {
            inside.early_faults.push((line, addr, error));
            return Ok(());
        }
        let Some(space) = faulting.space else {
            self.totals.before_exec += 1;
            return Ok(());
        };
        self.fault_in(task, space, (line, addr, error));
        Ok(())
    }

    fn fault_in(&mut self, task: TaskId, id: SpaceId, fault: (u64, VirtAddr, FaultError)) {
        let (line, addr, error) = fault;
        let process = self.tasks.process(task);
        let Some(space) = self.spaces.get(&id) else { return };
        self.totals.faults += 1;
        let access = X86FaultCode(error.bits()).access();
        if error.is_user() && self.was_refused(space, line, addr) {
            self.totals.signals += 1;
            return;
        }
        if access != AccessKind::Write {
            let place = Place { space: id, line, addr };
            match residency::bring_in(self.host, &process, space, place, self.foresight) {
                Ok(Neighbours::Entered) => self.totals.residency.entered += 1,
                Ok(Neighbours::TooMany) => self.totals.residency.too_many += 1,
                Ok(Neighbours::AsTheyWere) | Err(_) => {}
            }
        }
        let outcome = space.fault(self.host, &process, addr, access);
        // Linux writes a step also for a fault that looks for neighbours and maps none.
        let has_step = self.foresight.after(line).beside(space.rss()).any(|(_, ours, recorded)| ours != recorded);
        let described = |what: &dyn std::fmt::Display| {
            format!("fault at {:#x}, error code {:#x}: {what}", addr.raw(), error.bits())
        };
        self.findings.compared(Kind::Fault, 1);
        match outcome {
            Ok(FaultAction::Touch) if self.is_repeated(task, id, addr, error) => {}
            Ok(action) => {
                self.tasks.count_faults(task, 1);
                if let Some(what) = unlike(error, action) {
                    self.findings.differs(line, task, Kind::Fault, described(&what));
                }
            }
            // Signals are not recorded: a fault that leaves no trace may have ended with one.
            Err(refused) if refused.signal().is_some() && !has_step => self.totals.signals += 1,
            Err(refused) => self.findings.differs(line, task, Kind::Fault, described(&refused)),
        }
        self.last_faults.insert((id, addr.raw() >> PAGE_SHIFT), (task, addr, error));
        self.compare_steps(task, id, line);
    }

    /// Recognises a fault on a page of a file that Linux did not map, since no step counts it: the file had been cut off before, by a call that is not recorded.
    fn was_refused(&self, space: &Space<'k>, line: u64, addr: VirtAddr) -> bool {
        let area = space.read(self.host.cpu).lookup(addr);
        if area.is_none_or(|area| area.file.is_none()) || self.foresight.is_crowded(line) {
            return false;
        }
        let mut is_mapped = false;
        let page = VirtRange::with_len(addr.align_down(PAGE_SIZE), PAGE_SIZE);
        self.host.manager.tables(self.host.cpu, &space.mm).for_each_mapped(page, |_| is_mapped = true);
        let steps = self.foresight.after(line);
        !is_mapped && steps.beside(space.rss()).all(|(_, ours, recorded)| ours == recorded)
    }

    /// Recognises a fault whose page another fault made possible before, though the recorded kernel still took it.
    ///
    /// Where page faults are disabled, as while a signal frame's registers are saved, the kernel's access fails without being handled or counted and is
    /// made again at once: two equal faults of one task. Threads on two CPUs fault on one page at the same time, and both are counted.
    fn is_repeated(&mut self, task: TaskId, id: SpaceId, addr: VirtAddr, error: FaultError) -> bool {
        let Some((other, last_addr, last_error)) = self.last_faults.get(&(id, addr.raw() >> PAGE_SHIFT)).copied()
        else {
            return false;
        };
        if other != task {
            self.tasks.count_faults(task, 1);
            self.totals.repeated.of_two_tasks += 1;
            return true;
        }
        let is_retry = !error.is_user() && (last_addr, last_error) == (addr, error);
        self.totals.repeated.while_disabled += u64::from(is_retry);
        is_retry
    }

    fn new_task(&mut self, parent: TaskId, child: TaskId, flags: u64) -> Result<(), Stop> {
        if self.tasks.get_mut(child).is_some() {
            let found = format!("task {}, which lives", child.0);
            return Err(Misplaced(found, "a task that is new").into());
        }
        let process = self.tasks.process(parent);
        let parents = self.task(parent)?.space;
        let space = match parents.and_then(|space| self.spaces.get_mut(&space)) {
            None => None,
            Some(space) if flags & CLONE_VM != 0 => {
                space.users += 1;
                parents
            }
            Some(space) => {
                let copy = space.fork(self.host, &process).map_err(|error| Stop::Machine(format!("fork: {error}")))?;
                let rows: Vec<_> = self.foresight.forked(self.line).beside(copy.rss()).collect();
                self.note_rows(parent, Kind::Fork, "pages", &rows);
                Some(self.add_space(copy))
            }
        };
        self.tasks.add(parent, child, flags, space);
        Ok(())
    }

    fn add_space(&mut self, space: Space<'k>) -> SpaceId {
        let id = self.next_space;
        self.next_space += 1;
        self.spaces.insert(id, space);
        id
    }

    fn exec(&mut self, task: TaskId) -> Result<(), Stop> {
        self.totals.execs += 1;
        let moment = Moment::Exec(self.totals.execs);
        let state = self.catalogue.state(task, moment).ok_or_else(|| {
            let found = format!("exec {} of the recording by task {}", self.totals.execs, task.0);
            Misplaced(found, "an exec whose maps lie beside the trace")
        })?;
        let process = self.tasks.process(task);
        let arguments = self.foresight.argument_pages(self.line);
        let places = (&mut self.opened, self.catalogue);
        let space = Space::import(self.host, &process, state, arguments, places).map_err(|error| match error {
            ImportError::Missing(name) => Stop::Misplaced(Misplaced(
                format!("counts of task {} at its exec without {name}", task.0),
                "all counts",
            )),
            ImportError::Memory(error) => Stop::Machine(format!("the areas of an exec: {error}")),
        })?;
        let ours = read_back(Maps::parse(&space.maps(self.host, (&self.opened, self.catalogue))))?;
        let differing = compare::maps(&ours, &state.maps);
        self.note(task, Kind::MapsAtExec, state.maps.areas().count() as u64, differing);
        let space = self.add_space(space);
        let executing = self.task(task)?;
        let left = executing.space.replace(space);
        let faults = executing.inside.as_mut().map(|inside| std::mem::take(&mut inside.early_faults));
        self.put(left);
        for fault in faults.unwrap_or_default() {
            self.fault_in(task, space, fault);
        }
        self.tasks.set_faults(task, pages::faults(&state.counts));
        Ok(())
    }

    /// A task less runs in the address space, which ends with the last one.
    fn put(&mut self, space: Option<SpaceId>) {
        let Some(id) = space else { return };
        let Some(space) = self.spaces.get_mut(&id) else { return };
        space.users -= 1;
        if space.users == 0
            && let Some(space) = self.spaces.remove(&id)
        {
            space.end(self.host);
        }
    }

    /// Notes what each row says: name, ours, recorded.
    fn note_rows(&mut self, task: TaskId, kind: Kind, unit: &str, rows: &[(&'static str, u64, u64)]) {
        let differing = rows.iter().filter(|(_, ours, recorded)| ours != recorded);
        let differing =
            differing.map(|(name, ours, recorded)| format!("{name}: Linux {recorded} {unit}, ours {ours} {unit}"));
        self.note(task, kind, rows.len() as u64, differing.collect());
    }

    fn note(&mut self, task: TaskId, kind: Kind, compared: u64, differing: Vec<String>) {
        self.findings.compared(kind, compared);
        for what in differing {
            self.findings.differs(self.line, task, kind, what);
        }
    }

    /// Returns the number of tasks that there ever were.
    pub(super) const fn nr_tasks(&self) -> u64 {
        self.tasks.count
    }
}

/// Reads a file of ours.
fn read_back<T>(parsed: Result<T, ParseError>) -> Result<T, Stop> {
    parsed.map_err(|error| Stop::Machine(format!("a file of ours cannot be read: {error}")))
}

const fn returns_address(call: &Call) -> bool {
    matches!(call, Call::Mmap { .. } | Call::Mremap { .. } | Call::Brk { .. })
}

/// Says what an event has to wait for.
const fn leave_first(call: &Call) -> &'static str {
    match call {
        Call::Exit { .. } | Call::ExitGroup { .. } => "the exit of the task",
        _ => "the end of the call that the task is in",
    }
}
