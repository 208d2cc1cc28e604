//! Migratetypes: the mobility classes by which free memory is grouped.
//!
//! Numbered as in a kernel with CMA and isolation; [`MigrateType::from_raw_without_cma`] reads the numbering of kernels built
//! without CMA, where Isolate is 4. Linux 6.12: include/linux/mmzone.h (`enum migratetype`).

/// Mobility class of a pageblock or a free block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum MigrateType {
    /// Kernel memory that stays where it is.
    Unmovable = 0,
    /// Memory whose contents can be moved to another frame.
    Movable = 1,
    /// Kernel memory that can be given up on demand, such as inode caches.
    Reclaimable = 2,
    /// Pageblocks held back for atomic allocations of order 1 and above.
    HighAtomic = 3,
    /// Pageblocks of a contiguous-memory area, lent to movable allocations.
    Cma = 4,
    /// Pageblocks from which nothing may be allocated.
    Isolate = 5,
}

impl MigrateType {
    /// Number of migratetypes.
    pub const COUNT: usize = 6;
    /// Number of types that the per-CPU lists keep apart (Linux: MIGRATE_PCPTYPES).
    pub const PCP_COUNT: usize = 3;
    /// Every type in numeric order.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Unmovable, Self::Movable, Self::Reclaimable, Self::HighAtomic, Self::Cma, Self::Isolate];

    /// Reads the number of a kernel with CMA.
    #[inline]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        if (raw as usize) < Self::COUNT { Some(Self::ALL[raw as usize]) } else { None }
    }

    /// Reads the number of a kernel built without CMA.
    pub const fn from_raw_without_cma(raw: u8) -> Option<Self> {
        match raw {
            4 => Some(Self::Isolate),
            _ if raw < 4 => Self::from_raw(raw),
            _ => None,
        }
    }

    /// Returns the number as an array index, below [`MigrateType::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the per-CPU list that pages of this type go to (Linux: get_pfnblock_migratetype handling in free_unref_page).
    ///
    /// HighAtomic and CMA pages are handed out as movable ones; isolated pages never enter a list.
    #[inline]
    pub const fn pcp_type(self) -> Option<Self> {
        match self {
            Self::Unmovable | Self::Movable | Self::Reclaimable => Some(self),
            Self::HighAtomic | Self::Cma => Some(Self::Movable),
            Self::Isolate => None,
        }
    }

    /// Returns true for the types whose pageblocks may take in free pages of other types (Linux: migratetype_is_mergeable).
    #[inline]
    pub const fn is_mergeable(self) -> bool {
        (self as usize) < Self::PCP_COUNT
    }

    /// Returns the name that /proc/pagetypeinfo prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Reclaimable => "Reclaimable",
            Self::HighAtomic => "HighAtomic",
            Self::Cma => "CMA",
            Self::Isolate => "Isolate",
        }
    }

    /// Returns the letter that a Mem-Info report prints behind a free count.
    pub const fn letter(self) -> char {
        match self {
            Self::Unmovable => 'U',
            Self::Movable => 'M',
            Self::Reclaimable => 'E',
            Self::HighAtomic => 'H',
            Self::Cma => 'C',
            Self::Isolate => 'I',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cma_isolate_is_four() {
        assert_eq!(MigrateType::from_raw(4), Some(MigrateType::Cma));
        assert_eq!(MigrateType::from_raw_without_cma(4), Some(MigrateType::Isolate));
        assert_eq!(MigrateType::from_raw_without_cma(5), None);
    }

    #[test]
    fn isolated_pages_have_no_pcp_list() {
        assert_eq!(MigrateType::Isolate.pcp_type(), None);
        assert_eq!(MigrateType::HighAtomic.pcp_type(), Some(MigrateType::Movable));
    }
}
