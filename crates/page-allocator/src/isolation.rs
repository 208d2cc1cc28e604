//! Taking a pageblock out of use and back.
//!
//! Linux 6.12: `set_migratetype_isolate`, `unset_migratetype_isolate`, for one pageblock; ranges of them come with contiguous
//! allocation.

use platform::Platform;
use sync::Cpu;
use units::{MigrateType, Pfn};

use crate::allocator::PageAllocator;
use crate::pressure::Hooks;

/// Why a pageblock cannot be isolated, or given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IsolateError {
    /// The pageblock is not wholly inside one zone.
    NotInZone,
    /// It is isolated already (or, on the way back, it is not).
    WrongState(MigrateType),
}

impl<P: Platform, H: Hooks> PageAllocator<P, H> {
    /// Isolates the pageblock around `pfn`: its free pages cannot be allocated, nor can pages freed from then on.
    ///
    /// Returns the type that it had. Pages on per-CPU lists stay there until they are drained; free blocks larger than the
    /// pageblock are cut.
    ///
    /// # Errors
    /// [`IsolateError`]; nothing changes then.
    pub fn isolate_pageblock(&self, cpu: &Cpu, pfn: Pfn) -> Result<MigrateType, IsolateError> {
        let before = self.change_pageblock(cpu, pfn, |found| {
            if found == MigrateType::Isolate { Err(IsolateError::WrongState(found)) } else { Ok(MigrateType::Isolate) }
        })?;
        self.drain_all_pages(cpu, self.nodes());
        Ok(before)
    }

    /// Gives the isolated pageblock around `pfn` back to allocations of `migratetype`.
    ///
    /// # Errors
    /// [`IsolateError`]; nothing changes then.
    pub fn unisolate_pageblock(&self, cpu: &Cpu, pfn: Pfn, migratetype: MigrateType) -> Result<(), IsolateError> {
        self.change_pageblock(cpu, pfn, |found| {
            if found == MigrateType::Isolate { Ok(migratetype) } else { Err(IsolateError::WrongState(found)) }
        })?;
        Ok(())
    }

    fn change_pageblock(
        &self,
        cpu: &Cpu,
        pfn: Pfn,
        decide: impl FnOnce(MigrateType) -> Result<MigrateType, IsolateError>,
    ) -> Result<MigrateType, IsolateError> {
        let zone = self.zone_of(pfn).ok_or(IsolateError::NotInZone)?;
        let mut locked = self.lock(zone, cpu);
        let range = locked.whole_pageblock(pfn).ok_or(IsolateError::NotInZone)?;
        let from = self.map.pageblocks.get(pfn);
        let to = decide(from)?;
        locked.cut_to_pageblock(range.start, from);
        locked.move_free_blocks(range, from, to);
        self.map.pageblocks.set(pfn, to);
        locked.merge_pageblock(range.start, to);
        Ok(from)
    }
}
