//! The kernel releases whose boot rules differ here. Used by every computation that changed between them.

/// Rules of which release apply.
///
/// The recorded machines ran 6.1; the reference is 6.12. Where the two agree nothing asks for this value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Release {
    /// Linux 6.1: descriptors count against a zone before hand-over, a node without memory heads its own fallback
    /// order, ZONE_MOVABLE takes part in the min watermark, per-CPU lists have one fixed `high`.
    V6_1,
    /// Linux 6.12.
    #[default]
    V6_12,
}

impl Release {
    /// Chooses the rules for kernel `major.minor`.
    ///
    /// Releases between 6.1 and 6.12 changed one rule at a time; from 6.7 on most follow 6.12.
    pub const fn of_version(major: u32, minor: u32) -> Self {
        if major > 6 || (major == 6 && minor >= 7) { Self::V6_12 } else { Self::V6_1 }
    }
}
