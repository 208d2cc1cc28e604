//! The exit of a task: our files of it beside the recorded ones.

use page_allocator::Hooks;
use proc_files::parse::{Maps, Smaps};
use recordings::processes::{Moment, ProcessState, TaskId};

use super::super::findings::Kind;
use super::super::tasks::SpaceId;
use super::super::{compare, pages};
use super::{Engine, Misplaced, Stop, read_back};

/// Our files of a task at its exit.
#[derive(Debug, Default)]
pub(in super::super) struct ExitFiles {
    /// /proc/PID/maps.
    pub(in super::super) maps: String,
    /// /proc/PID/smaps.
    pub(in super::super) smaps: String,
}

impl<H: Hooks + Sync> Engine<'_, '_, H> {
    pub(super) fn exit(&mut self, task: TaskId) -> Result<(), Stop> {
        let id = self.task(task)?.space;
        self.totals.exits += 1;
        if id.is_some_and(|id| self.spaces.contains_key(&id)) {
            let state = self.catalogue.state(task, Moment::Exit).ok_or_else(|| {
                let found = format!("the exit of task {}", task.0);
                Misplaced(found, "an exit whose maps lie beside the trace")
            })?;
            let files = self.exit_files(id);
            match self.foresight.is_crowded(self.line) {
                true => self.totals.crowded_exits += 1,
                false => self.compare_exit(task, id, state, &files)?,
            }
            self.files.insert(task, files);
        }
        self.tasks.remove(task);
        self.put(id);
        Ok(())
    }

    fn exit_files(&self, id: Option<SpaceId>) -> ExitFiles {
        let Some(space) = id.and_then(|id| self.spaces.get(&id)) else { return ExitFiles::default() };
        ExitFiles {
            maps: space.maps(self.host, (&self.opened, self.catalogue)),
            smaps: space.smaps(self.host, (&self.opened, self.catalogue)),
        }
    }

    fn compare_exit(
        &mut self,
        task: TaskId,
        id: Option<SpaceId>,
        state: &ProcessState,
        files: &ExitFiles,
    ) -> Result<(), Stop> {
        let Some(space) = id.and_then(|id| self.spaces.get(&id)) else { return Ok(()) };
        let sizes = compare::sizes(space.read(self.host.cpu).counters(), &state.counts);
        let (rss, tables) = (space.rss(), space.mm.tables().nr_tables());
        let (maps, smaps) = (read_back(Maps::parse(&files.maps))?, read_back(Smaps::parse(&files.smaps))?);
        self.note(task, Kind::MapsAtExit, state.maps.areas().count() as u64, compare::maps(&maps, &state.maps));
        if let Some(recorded) = &state.smaps {
            let (compared, differing) = compare::flags(&smaps, recorded);
            self.note(task, Kind::Flags, compared, differing);
            let (compared, differing) = compare::pages(&smaps, recorded);
            self.note(task, Kind::AreaPages, compared, differing);
        }
        self.note_rows(task, Kind::Size, "kB", &sizes);
        self.note_rows(task, Kind::Resident, "kB", &pages::resident(rss, &state.counts));
        self.note_rows(task, Kind::Tables, "kB", &pages::tables(tables, &state.counts));
        let faults = [("minflt + majflt", self.tasks.faults(task), pages::faults(&state.counts))];
        self.note_rows(task, Kind::FaultCount, "faults", &faults);
        Ok(())
    }
}
