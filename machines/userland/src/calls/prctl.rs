//! prctl: names, and what a process chooses for its memory.
//!
//! Linux 6.12: kernel/sys.c (`prctl_set_mdwe`, `prctl_set_vma`).

use address_space::MmFlags;
use units::VirtAddr;

use super::{Context, Outcome, Table, add};
use crate::errno::Errno;
use crate::machine::Machine;
use crate::memory::{Memory, SpaceCall};
use crate::process::NAME_BYTES;

/// Bytes of the name of an area with the zero behind it (ANON_VMA_NAME_MAX_LEN).
const AREA_NAME_BYTES: usize = 80;

/// Options.
mod option {
    pub(super) const SET_NAME: u64 = 15;
    pub(super) const GET_NAME: u64 = 16;
    pub(super) const SET_THP_DISABLE: u64 = 41;
    pub(super) const GET_THP_DISABLE: u64 = 42;
    pub(super) const SET_MDWE: u64 = 65;
    pub(super) const GET_MDWE: u64 = 66;
    pub(super) const SET_VMA: u64 = 0x5356_4d41;
}

/// PR_MDWE_REFUSE_EXEC_GAIN and PR_MDWE_NO_INHERIT, and what they choose.
const MDWE: [(u64, MmFlags); 2] = [(1, MmFlags::MDWE), (2, MmFlags::MDWE_NO_INHERIT)];

impl<M: Memory, D: Machine> Context<'_, M, D> {
    /// Adds the calls of this file to the table.
    pub(super) const fn prctl_calls(table: Table<M, D>) -> Table<M, D> {
        add(table, [(157, "prctl", |cx, arguments| cx.prctl(arguments))])
    }

    fn prctl(&mut self, [option, argument, more @ .., _]: [u64; 6]) -> Outcome {
        let all = [argument, more[0], more[1], more[2]];
        let none = || if more == [0; 3] { Ok(()) } else { Err(Errno::EINVAL) };
        match option {
            option::SET_VMA => self.name_areas(argument, more),
            option::SET_NAME => self.set_name(argument),
            option::GET_NAME => self.get_name(argument),
            option::SET_THP_DISABLE => {
                none()?;
                self.space(&SpaceCall::ForbidHugePages(argument != 0))
            }
            option::GET_THP_DISABLE => self.chosen(all, &[(1, MmFlags::DISABLE_THP)]),
            option::SET_MDWE => {
                none()?;
                let known: u64 = MDWE.iter().map(|(bit, _)| bit).sum();
                if argument & !known != 0 {
                    return Err(Errno::EINVAL.into());
                }
                let wanted = MDWE.iter().filter(|(bit, _)| argument & bit != 0).map(|&(_, flag)| flag);
                self.space(&SpaceCall::SetMdwe(wanted.collect()))
            }
            option::GET_MDWE => self.chosen(all, &MDWE),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Returns which of `flags` were chosen, by their bits.
    fn chosen(&self, arguments: [u64; 4], flags: &[(u64, MmFlags)]) -> Outcome {
        if arguments != [0; 4] {
            return Err(Errno::EINVAL.into());
        }
        let chosen = self.userland.memory().mm_flags(&self.thread.mm);
        Ok(flags.iter().filter(|(_, flag)| chosen.contains(*flag)).map(|(bit, _)| bit).sum())
    }

    fn name_areas(&mut self, what: u64, [start, len, name]: [u64; 3]) -> Outcome {
        const ANON_NAME: u64 = 0;
        if what != ANON_NAME {
            return Err(Errno::EINVAL.into());
        }
        let name = match name {
            0 => None,
            name => Some(self.read_string(name, AREA_NAME_BYTES, Errno::EINVAL)?),
        };
        let range = (VirtAddr::new(start), len);
        self.userland.memory().name_areas(self.cpu, self.thread.memory(), range, name.as_deref())?;
        Ok(0)
    }

    fn set_name(&mut self, from: u64) -> Outcome {
        let name = match self.read_string(from, NAME_BYTES + 1, Errno::E2BIG) {
            Err(Errno::E2BIG) => {
                let mut name = [0; NAME_BYTES];
                self.read(from, &mut name)?;
                crate::slots::copy_of(&name)?
            }
            name => name?,
        };
        self.world().set_name_of_task(self.thread.process, self.thread.tid, &name)?;
        Ok(0)
    }

    fn get_name(&mut self, to: u64) -> Outcome {
        let mut name = [0; NAME_BYTES + 1];
        let own = self.world().name_of_task(self.thread.process, self.thread.tid)?;
        name.iter_mut().zip(own).for_each(|(place, byte)| *place = byte);
        self.write(to, &name)?;
        Ok(0)
    }
}
