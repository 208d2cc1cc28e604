//! The descriptors of a process. Linux 6.12: fs/file.c.

use alloc::vec::Vec;

use super::OpenKey;
use crate::errno::Errno;
use crate::slots::push;

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor {
    pub(crate) file: OpenKey,
    /// FD_CLOEXEC.
    pub(crate) closes_on_exec: bool,
}

/// The descriptors of a process, by number.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    table: Vec<Option<Descriptor>>,
}

/// Takes a descriptor's number from a program, which passes an int.
pub(crate) const fn number(raw: u64) -> usize {
    raw as u32 as usize
}

impl Descriptors {
    /// Returns a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn get(&self, raw: u64) -> Result<Descriptor, Errno> {
        self.table.get(number(raw)).copied().flatten().ok_or(Errno::EBADF)
    }

    pub(crate) fn get_mut(&mut self, raw: u64) -> Result<&mut Descriptor, Errno> {
        self.table.get_mut(number(raw)).and_then(Option::as_mut).ok_or(Errno::EBADF)
    }

    /// Puts a descriptor at the lowest free number from `from`.
    ///
    /// # Errors
    /// EMFILE at the limit, ENOMEM.
    pub(crate) fn add(&mut self, descriptor: Descriptor, from: usize, limit: u64) -> Result<u64, Errno> {
        let free = (from..).find(|&number| self.table.get(number).is_none_or(Option::is_none)).ok_or(Errno::EMFILE)?;
        self.set(free, Some(descriptor), limit).map(|_| free as u64)
    }

    /// Puts a descriptor at a number; returns what was there.
    ///
    /// # Errors
    /// EMFILE at the limit, ENOMEM.
    pub(crate) fn set(
        &mut self,
        number: usize,
        descriptor: Option<Descriptor>,
        limit: u64,
    ) -> Result<Option<Descriptor>, Errno> {
        if number as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        while self.table.len() <= number {
            push(&mut self.table, None)?;
        }
        Ok(self.table.get_mut(number).and_then(|place| core::mem::replace(place, descriptor)))
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// EBADF.
    pub(crate) fn remove(&mut self, raw: u64) -> Result<Descriptor, Errno> {
        self.table.get_mut(number(raw)).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// Takes one out that closes on exec.
    pub(crate) fn remove_for_exec(&mut self) -> Option<Descriptor> {
        let closes = |place: &&mut Option<Descriptor>| place.as_ref().is_some_and(|one| one.closes_on_exec);
        self.table.iter_mut().find(closes)?.take()
    }

    /// Iterates over numbers and descriptors.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Descriptor)> + '_ {
        (0..).zip(&self.table).filter_map(|(number, place)| Some((number, (*place)?)))
    }

    /// Copies the table.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn try_clone(&self) -> Result<Self, Errno> {
        let mut table = Vec::new();
        table.try_reserve_exact(self.table.len()).map_err(|_| Errno::ENOMEM)?;
        table.extend_from_slice(&self.table);
        Ok(Self { table })
    }

    /// Returns the length of the table (FDSize).
    pub(crate) fn len(&self) -> u64 {
        self.table.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{FileTables, OpenFlags, ProcNode, Target};

    #[test]
    fn the_lowest_free_number_is_taken_up_to_the_limit() {
        let mut files = FileTables::new();
        let file = files.open(Target::Proc(ProcNode::Root), OpenFlags::empty()).unwrap();
        let one = Descriptor { file, closes_on_exec: false };
        let mut descriptors = Descriptors::default();
        assert_eq!(descriptors.add(one, 0, 3), Ok(0));
        assert_eq!(descriptors.add(one, 2, 3), Ok(2));
        assert_eq!(descriptors.add(one, 0, 3), Ok(1));
        assert_eq!(descriptors.add(one, 0, 3), Err(Errno::EMFILE));
        assert!(descriptors.remove(1).is_ok() && descriptors.remove(1) == Err(Errno::EBADF));
        assert_eq!(descriptors.get(u64::MAX), Err(Errno::EBADF));
    }

    #[test]
    fn exec_takes_out_only_what_asked_for_it() {
        let mut files = FileTables::new();
        let file = files.open(Target::Proc(ProcNode::Root), OpenFlags::empty()).unwrap();
        let mut descriptors = Descriptors::default();
        for closes_on_exec in [false, true, true] {
            descriptors.add(Descriptor { file, closes_on_exec }, 0, 10).unwrap();
        }
        while descriptors.remove_for_exec().is_some() {}
        assert_eq!(descriptors.iter().map(|(number, _)| number).collect::<Vec<_>>(), [0]);
    }
}
