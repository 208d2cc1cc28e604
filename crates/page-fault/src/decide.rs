//! The decision table of page faults.
//!
//! | entry | area | read or fetch | write |
//! |---|---|---|---|
//! | empty | anonymous | the page of zeros | a fresh page of zeros |
//! | empty | private file | the file's page, with its neighbours | a copy of the file's page |
//! | empty | shared file | the file's page, with its neighbours | the file's page, written |
//! | page of zeros | private | marks | a fresh page of zeros |
//! | writable | any | marks | marks |
//! | read-only, shared | shared | marks | the file is told, then writable |
//! | read-only, this address space's own | private | marks | writable again |
//! | read-only, of others too | private | marks | a copy |
//!
//! A pin for reading is a read of which no page may come that others have too: those rows are as for a write, but nothing becomes writable.
//!
//! A forced access asks what the area could allow instead of what it allows, and a forced write leaves the entry of an area that may not be written read-only.
//!
//! Pure: no state, no locks. Linux 6.12: mm/memory.c (`handle_pte_fault`, `do_fault`, `do_wp_page`), arch/x86/mm/fault.c (`access_error`).

use platform::Prot;
use units::VmFlags;

/// What a processor tried to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Fetching an instruction.
    Fetch,
    /// Reading for as long as a pin lasts: a page that others may have too gets a copy in its place, so that it is not left behind when somebody
    /// writes (Linux: FAULT_FLAG_UNSHARE).
    Unshare,
    /// Reading by who need not mind what the area allows now (Linux: FOLL_FORCE).
    ForcedRead,
    /// Writing by who need not mind either: of a private area, the page becomes its own and no more writable than it was.
    ForcedWrite,
}

impl AccessKind {
    /// Returns true if bytes are to be changed.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::ForcedWrite)
    }
}

/// Returns true if an area's pages may be reached against its rights: to write they have to be copied before anybody else's, so the area is private
/// (Linux: `check_vma_flags`, `is_cow_mapping`).
pub fn may_force(access: AccessKind, area: VmFlags) -> bool {
    if access.is_write() {
        area.contains(VmFlags::MAYWRITE) && !area.contains(VmFlags::SHARED)
    } else {
        area.contains(VmFlags::MAYREAD)
    }
}

/// What lies behind an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// Nothing: pages are made as they are touched.
    Anonymous,
    /// A file.
    File,
}

/// What an entry maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MappedWhat {
    /// The page of zeros.
    Zeros,
    /// An anonymous page that nobody else has.
    Own,
    /// An anonymous page that others may have too.
    SharedAnon,
    /// A page of a file.
    FilePage,
}

/// What the fault finds in the page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryState {
    /// Nothing.
    Empty,
    /// A mapping.
    Mapped(MappedWhat, Prot),
}

/// All that a fault depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Situation {
    /// What was tried.
    pub access: AccessKind,
    /// The area's flags.
    pub area: VmFlags,
    /// What is behind the area.
    pub behind: Behind,
    /// What the entry holds.
    pub entry: EntryState,
}

/// What has to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultAction {
    /// The area forbids the access (SEGV_ACCERR).
    Refuse,
    /// Set the marks of use: the entry allows the access, or will (spurious faults).
    Touch,
    /// Map the page of zeros, read-only.
    MapZeros,
    /// Map a fresh page of zeros.
    MapFresh,
    /// Map the file's page for reading, and its neighbours that are in memory (Linux: do_read_fault).
    MapFile,
    /// Map a copy of the file's page (Linux: do_cow_fault).
    MapFileCopy,
    /// Map the file's page for writing (Linux: do_shared_fault).
    MapFileShared,
    /// Tell the file, and allow writing (Linux: wp_page_shared).
    WriteShared,
    /// Allow writing: the page is nobody else's (Linux: wp_page_reuse).
    Reuse,
    /// Map a copy in the page's place (Linux: wp_page_copy).
    Copy,
}

/// Says what a fault has to do.
#[inline(always)]
pub fn decide(situation: &Situation) -> FaultAction {
    if !is_permitted(situation.access, situation.area, situation.entry) {
        return FaultAction::Refuse;
    }
    let is_write = situation.access.is_write();
    let is_shared = situation.area.contains(VmFlags::SHARED);
    match (situation.entry, situation.behind) {
        (EntryState::Empty, Behind::Anonymous) if is_write => FaultAction::MapFresh,
        (EntryState::Empty, Behind::Anonymous) => FaultAction::MapZeros,
        (EntryState::Empty, Behind::File) if !is_write => FaultAction::MapFile,
        (EntryState::Empty, Behind::File) if is_shared => FaultAction::MapFileShared,
        (EntryState::Empty, Behind::File) => FaultAction::MapFileCopy,
        (EntryState::Mapped(what, _), _) if situation.access == AccessKind::Unshare => match what {
            MappedWhat::SharedAnon => FaultAction::Copy,
            MappedWhat::Own => FaultAction::Reuse,
            MappedWhat::Zeros | MappedWhat::FilePage => FaultAction::Touch,
        },
        (EntryState::Mapped(..), _) if !is_write => FaultAction::Touch,
        (EntryState::Mapped(_, prot), _) if prot.contains(Prot::WRITE) => FaultAction::Touch,
        (EntryState::Mapped(..), _) if is_shared => FaultAction::WriteShared,
        (EntryState::Mapped(MappedWhat::Zeros, _), _) => FaultAction::MapFresh,
        (EntryState::Mapped(MappedWhat::Own, _), _) => FaultAction::Reuse,
        (EntryState::Mapped(MappedWhat::SharedAnon | MappedWhat::FilePage, _), _) => FaultAction::Copy,
    }
}

/// Returns true if the area allows the access.
#[inline]
pub(crate) fn is_permitted(access: AccessKind, area: VmFlags, entry: EntryState) -> bool {
    match access {
        AccessKind::Write => area.contains(VmFlags::WRITE),
        AccessKind::ForcedWrite => area.contains(VmFlags::WRITE) || may_force(access, area),
        AccessKind::ForcedRead => may_force(access, area),
        // x86 can forbid writing and executing only, so any right is a right to read.
        // The key of what may be executed only forbids that as well.
        AccessKind::Read | AccessKind::Unshare => {
            area.intersects(VmFlags::ACCESS) && !area.contains(VmFlags::PKEY_BIT0)
        }
        // x86 asks for the right to execute only once a page is there: the first fault brings it in as for reading, the second is refused.
        AccessKind::Fetch if entry == EntryState::Empty => area.intersects(VmFlags::ACCESS),
        AccessKind::Fetch => area.contains(VmFlags::EXEC),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: VmFlags = VmFlags::READ;
    const WRITE: VmFlags = VmFlags::READ.union(VmFlags::WRITE);
    const SHARED: VmFlags = WRITE.union(VmFlags::SHARED);
    const USED: Prot = Prot::USER.union(Prot::ACCESSED);

    fn action(access: AccessKind, area: VmFlags, behind: Behind, entry: EntryState) -> FaultAction {
        decide(&Situation { access, area, behind, entry })
    }

    #[test]
    fn every_row_of_the_table() {
        use AccessKind::{Read, Write};
        use Behind::{Anonymous, File};
        use EntryState::{Empty, Mapped};
        use FaultAction as Do;
        use MappedWhat::{FilePage, Own, SharedAnon, Zeros};
        let rows = [
            (Empty, WRITE, Anonymous, Do::MapZeros, Do::MapFresh),
            (Empty, WRITE, File, Do::MapFile, Do::MapFileCopy),
            (Empty, SHARED, File, Do::MapFile, Do::MapFileShared),
            (Mapped(Zeros, USED), WRITE, Anonymous, Do::Touch, Do::MapFresh),
            (Mapped(Own, USED.union(Prot::WRITE)), WRITE, Anonymous, Do::Touch, Do::Touch),
            (Mapped(FilePage, USED.union(Prot::WRITE)), SHARED, File, Do::Touch, Do::Touch),
            (Mapped(FilePage, USED), SHARED, File, Do::Touch, Do::WriteShared),
            (Mapped(Own, USED), WRITE, Anonymous, Do::Touch, Do::Reuse),
            (Mapped(Own, USED), WRITE, File, Do::Touch, Do::Reuse),
            (Mapped(SharedAnon, USED), WRITE, Anonymous, Do::Touch, Do::Copy),
            (Mapped(FilePage, USED), WRITE, File, Do::Touch, Do::Copy),
        ];
        for (entry, area, behind, read, write) in rows {
            assert_eq!(action(Read, area, behind, entry), read, "reading {entry:?} of {area:?}");
            assert_eq!(action(Write, area, behind, entry), write, "writing {entry:?} of {area:?}");
        }
    }

    #[test]
    fn a_pin_for_reading_gets_a_page_of_its_own_and_makes_nothing_writable() {
        let mapped = |what| EntryState::Mapped(what, USED);
        let rows = [
            (EntryState::Empty, FaultAction::MapZeros),
            (mapped(MappedWhat::Zeros), FaultAction::Touch),
            (mapped(MappedWhat::FilePage), FaultAction::Touch),
            (mapped(MappedWhat::Own), FaultAction::Reuse),
            (mapped(MappedWhat::SharedAnon), FaultAction::Copy),
        ];
        for (entry, expected) in rows {
            assert_eq!(action(AccessKind::Unshare, READ, Behind::Anonymous, entry), expected, "{entry:?}");
        }
        let refused = action(AccessKind::Unshare, VmFlags::empty(), Behind::Anonymous, EntryState::Empty);
        assert_eq!(refused, FaultAction::Refuse);
    }

    #[test]
    fn what_the_area_forbids_is_refused_whatever_the_entry_allows() {
        let writable = EntryState::Mapped(MappedWhat::Own, USED | Prot::WRITE);
        for entry in [EntryState::Empty, writable] {
            assert_eq!(action(AccessKind::Write, READ, Behind::Anonymous, entry), FaultAction::Refuse);
            assert_eq!(action(AccessKind::Read, VmFlags::SHARED, Behind::File, entry), FaultAction::Refuse);
            let keyed = VmFlags::EXEC | VmFlags::PKEY_BIT0;
            assert_eq!(action(AccessKind::Read, keyed, Behind::Anonymous, entry), FaultAction::Refuse);
        }
        assert_eq!(action(AccessKind::Read, VmFlags::WRITE, Behind::File, EntryState::Empty), FaultAction::MapFile);
    }

    #[test]
    fn force_reaches_whatever_could_be_read_and_writes_to_private_areas_only() {
        use AccessKind::{ForcedRead, ForcedWrite};
        let closed = VmFlags::MAYREAD | VmFlags::MAYWRITE;
        let entry = EntryState::Mapped(MappedWhat::FilePage, Prot::ACCESSED);
        assert_eq!(action(ForcedRead, closed, Behind::File, entry), FaultAction::Touch);
        assert_eq!(action(ForcedRead, VmFlags::MAYWRITE, Behind::File, entry), FaultAction::Refuse);
        assert_eq!(action(ForcedWrite, closed, Behind::File, entry), FaultAction::Copy);
        assert_eq!(action(ForcedWrite, closed, Behind::Anonymous, EntryState::Empty), FaultAction::MapFresh);
        assert_eq!(action(ForcedWrite, closed | VmFlags::SHARED, Behind::File, entry), FaultAction::Refuse);
        assert_eq!(action(ForcedWrite, VmFlags::MAYREAD, Behind::File, entry), FaultAction::Refuse);
        assert_eq!(action(ForcedWrite, SHARED | closed, Behind::File, entry), FaultAction::WriteShared);
    }

    #[test]
    fn a_fetch_of_data_is_refused_once_the_page_is_there() {
        let fetch = |area, entry| action(AccessKind::Fetch, area, Behind::File, entry);
        assert_eq!(fetch(READ, EntryState::Empty), FaultAction::MapFile);
        assert_eq!(fetch(READ, EntryState::Mapped(MappedWhat::FilePage, USED)), FaultAction::Refuse);
        assert_eq!(fetch(VmFlags::empty(), EntryState::Empty), FaultAction::Refuse);
        let keyed = VmFlags::EXEC | VmFlags::PKEY_BIT0;
        assert_eq!(fetch(keyed, EntryState::Mapped(MappedWhat::FilePage, USED)), FaultAction::Touch);
    }
}
