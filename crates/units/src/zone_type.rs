//! Kinds of zones, lowest first.

/// Kind of a zone. The order is the order in which allocations may fall back, from the last to the first.
///
/// Which kinds a machine has depends on its architecture: x86-64 has no HighMem, 32-bit x86 no Dma32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ZoneType {
    /// Memory that devices with the narrowest address bus reach (x86: 16 MiB).
    Dma = 0,
    /// Memory below 4 GiB.
    Dma32 = 1,
    /// Memory that the kernel maps permanently.
    Normal = 2,
    /// Memory beyond the kernel's permanent mapping (32-bit only).
    HighMem = 3,
    /// Memory reserved for movable contents.
    Movable = 4,
    /// Device memory with descriptors.
    Device = 5,
}

impl ZoneType {
    /// Number of kinds.
    pub const COUNT: usize = 6;
    /// Every kind, lowest first.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Dma, Self::Dma32, Self::Normal, Self::HighMem, Self::Movable, Self::Device];

    /// Reads an array index.
    #[inline]
    pub const fn from_index(index: usize) -> Option<Self> {
        if index < Self::COUNT { Some(Self::ALL[index]) } else { None }
    }

    /// Returns the kind as an array index, below [`ZoneType::COUNT`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the name that Linux prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::HighMem => "HighMem",
            Self::Movable => "Movable",
            Self::Device => "Device",
        }
    }

    /// Reads a name that Linux prints.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|zone| zone.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for zone in ZoneType::ALL {
            assert_eq!(ZoneType::from_name(zone.name()), Some(zone));
        }
        assert_eq!(ZoneType::from_name("dma"), None);
    }
}
