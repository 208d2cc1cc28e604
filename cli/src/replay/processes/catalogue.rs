//! What a recording says of files and states, read before the replay begins.
//!
//! Files are known by path: their size from the mmap that mapped them, device and inode from any maps file that names them.

use std::collections::BTreeMap;

use proc_files::maps::Device;
use recordings::processes::{InputError, Moment, ProcessState, Recording, TaskId};

/// A file of the recorded machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Identity {
    /// Device of its file system; 0:0 if no state names the file.
    pub(super) device: Device,
    /// Inode.
    pub(super) inode: u64,
}

/// States and files of a recording.
#[derive(Debug)]
pub(super) struct Catalogue {
    states: BTreeMap<(TaskId, Moment), ProcessState>,
    files: BTreeMap<Box<str>, Identity>,
}

impl Catalogue {
    /// Reads every state of the recording.
    pub(super) fn read(recording: &Recording) -> Result<Self, InputError> {
        let mut states = BTreeMap::new();
        for (task, moment) in recording.moments()? {
            states.insert((task, moment), recording.state(task, moment)?);
        }
        let mut files: BTreeMap<Box<str>, Identity> = BTreeMap::new();
        for area in states.values().flat_map(|state| state.maps.areas()).filter(|area| area.inode != 0) {
            files.insert(area.name.as_str().into(), Identity { device: area.device, inode: area.inode });
        }
        Ok(Self { states, files })
    }

    /// Returns a state that was recorded.
    pub(super) fn state(&self, task: TaskId, moment: Moment) -> Option<&ProcessState> {
        self.states.get(&(task, moment))
    }

    /// Returns the tasks whose exit was recorded.
    pub(super) fn exits(&self) -> impl Iterator<Item = TaskId> {
        self.states.keys().filter(|(_, moment)| *moment == Moment::Exit).map(|(task, _)| *task)
    }

    /// Returns the most that all processes together can have had in memory, in kB.
    pub(super) fn most_resident(&self) -> u64 {
        self.states.values().filter_map(|state| state.counts.get("VmHWM")).fold(0, u64::saturating_add)
    }

    /// Returns the path that maps shows for a System V segment, whose inode is its number; that of a private one if no state names it.
    pub(super) fn segment(&self, number: u64) -> &str {
        let named = self.files.iter().find(|(path, file)| path.starts_with("/SYSV") && file.inode == number);
        named.map_or("/SYSV00000000 (deleted)", |(path, _)| path)
    }

    /// Returns device and inode of a file.
    pub(super) fn identity(&self, path: &str) -> Identity {
        self.files.get(path).copied().unwrap_or_default()
    }
}
