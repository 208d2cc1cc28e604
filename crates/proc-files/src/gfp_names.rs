//! Names of allocation flags, as `%pGg` prints them in reports and traces.
//!
//! The longest compound name that fits is taken first, then single flags; bits without a name follow as a number.
//! Linux 6.12: include/trace/events/mmflags.h (`__def_gfpflag_names`), lib/vsprintf.c (`format_flags`).

use core::fmt;

use units::Gfp;

use crate::Release;

/// The flag that 6.1 has in the place of an unused bit: part of its GFP_ATOMIC.
const GFP_ATOMIC_BIT_6_1: u32 = 1 << 9;

type Name = (u32, &'static str);

/// Combinations with names of their own, in the order in which they are tried; GFP_ATOMIC and GFP_NOWAIT, whose bits
/// changed, follow in the tables below.
const COMPOUNDS: &[Name] = &[
    (Gfp::TRANSHUGE.bits(), "GFP_TRANSHUGE"),
    (Gfp::TRANSHUGE_LIGHT.bits(), "GFP_TRANSHUGE_LIGHT"),
    (Gfp::HIGHUSER_MOVABLE.bits(), "GFP_HIGHUSER_MOVABLE"),
    (Gfp::HIGHUSER.bits(), "GFP_HIGHUSER"),
    (Gfp::USER.bits(), "GFP_USER"),
    (Gfp::KERNEL_ACCOUNT.bits(), "GFP_KERNEL_ACCOUNT"),
    (Gfp::KERNEL.bits(), "GFP_KERNEL"),
    (Gfp::NOFS.bits(), "GFP_NOFS"),
];

const ATOMIC_6_1: &[Name] = &[
    (Gfp::ATOMIC.bits() | GFP_ATOMIC_BIT_6_1, "GFP_ATOMIC"),
    (Gfp::NOIO.bits(), "GFP_NOIO"),
    (Gfp::KSWAPD_RECLAIM.bits(), "GFP_NOWAIT"),
];

const ATOMIC: &[Name] =
    &[(Gfp::ATOMIC.bits(), "GFP_ATOMIC"), (Gfp::NOIO.bits(), "GFP_NOIO"), (Gfp::NOWAIT.bits(), "GFP_NOWAIT")];

/// Single flags in the order of 6.1 and 6.12.
const FLAGS: &[Name] = &[
    (Gfp::DMA.bits(), "GFP_DMA"),
    (Gfp::HIGHMEM.bits(), "__GFP_HIGHMEM"),
    (Gfp::DMA32.bits(), "GFP_DMA32"),
    (Gfp::HIGH.bits(), "__GFP_HIGH"),
    (Gfp::IO.bits(), "__GFP_IO"),
    (Gfp::FS.bits(), "__GFP_FS"),
    (Gfp::NOWARN.bits(), "__GFP_NOWARN"),
    (Gfp::RETRY_MAYFAIL.bits(), "__GFP_RETRY_MAYFAIL"),
    (Gfp::NOFAIL.bits(), "__GFP_NOFAIL"),
    (Gfp::NORETRY.bits(), "__GFP_NORETRY"),
    (Gfp::COMP.bits(), "__GFP_COMP"),
    (Gfp::ZERO.bits(), "__GFP_ZERO"),
    (Gfp::NOMEMALLOC.bits(), "__GFP_NOMEMALLOC"),
    (Gfp::MEMALLOC.bits(), "__GFP_MEMALLOC"),
    (Gfp::HARDWALL.bits(), "__GFP_HARDWALL"),
    (Gfp::THISNODE.bits(), "__GFP_THISNODE"),
    (Gfp::RECLAIMABLE.bits(), "__GFP_RECLAIMABLE"),
    (Gfp::MOVABLE.bits(), "__GFP_MOVABLE"),
    (Gfp::ACCOUNT.bits(), "__GFP_ACCOUNT"),
    (Gfp::WRITE.bits(), "__GFP_WRITE"),
    (Gfp::RECLAIM.bits(), "__GFP_RECLAIM"),
    (Gfp::DIRECT_RECLAIM.bits(), "__GFP_DIRECT_RECLAIM"),
    (Gfp::KSWAPD_RECLAIM.bits(), "__GFP_KSWAPD_RECLAIM"),
    (Gfp::ZEROTAGS.bits(), "__GFP_ZEROTAGS"),
];

/// Single flags in the order of 6.18, which is that of their bits behind the zone names.
const FLAGS_6_18: &[Name] = &[
    (Gfp::DMA.bits(), "GFP_DMA"),
    (Gfp::DMA32.bits(), "GFP_DMA32"),
    (Gfp::RECLAIM.bits(), "__GFP_RECLAIM"),
    (Gfp::HIGHMEM.bits(), "__GFP_HIGHMEM"),
    (Gfp::MOVABLE.bits(), "__GFP_MOVABLE"),
    (Gfp::RECLAIMABLE.bits(), "__GFP_RECLAIMABLE"),
    (Gfp::HIGH.bits(), "__GFP_HIGH"),
    (Gfp::IO.bits(), "__GFP_IO"),
    (Gfp::FS.bits(), "__GFP_FS"),
    (Gfp::ZERO.bits(), "__GFP_ZERO"),
    (Gfp::DIRECT_RECLAIM.bits(), "__GFP_DIRECT_RECLAIM"),
    (Gfp::KSWAPD_RECLAIM.bits(), "__GFP_KSWAPD_RECLAIM"),
    (Gfp::WRITE.bits(), "__GFP_WRITE"),
    (Gfp::NOWARN.bits(), "__GFP_NOWARN"),
    (Gfp::RETRY_MAYFAIL.bits(), "__GFP_RETRY_MAYFAIL"),
    (Gfp::NOFAIL.bits(), "__GFP_NOFAIL"),
    (Gfp::NORETRY.bits(), "__GFP_NORETRY"),
    (Gfp::MEMALLOC.bits(), "__GFP_MEMALLOC"),
    (Gfp::COMP.bits(), "__GFP_COMP"),
    (Gfp::NOMEMALLOC.bits(), "__GFP_NOMEMALLOC"),
    (Gfp::HARDWALL.bits(), "__GFP_HARDWALL"),
    (Gfp::THISNODE.bits(), "__GFP_THISNODE"),
    (Gfp::ACCOUNT.bits(), "__GFP_ACCOUNT"),
    (Gfp::ZEROTAGS.bits(), "__GFP_ZEROTAGS"),
    (Gfp::NO_OBJ_EXT.bits(), "__GFP_NO_OBJ_EXT"),
];

/// A flag mask as text: `0xcc0(GFP_KERNEL)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GfpText {
    /// Release whose names are used.
    pub release: Release,
    /// The mask in that release's bits, which for 6.12 are those of [`Gfp`].
    pub bits: u32,
}

impl fmt::Display for GfpText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}(", self.bits)?;
        let (atomic, flags) = match self.release {
            Release::V6_1 => (ATOMIC_6_1, FLAGS),
            Release::V6_12 => (ATOMIC, FLAGS),
            Release::V6_18 => (ATOMIC, FLAGS_6_18),
        };
        let mut left = self.bits;
        for (mask, name) in COMPOUNDS.iter().chain(atomic).chain(flags) {
            if left & mask == *mask {
                left &= !mask;
                write!(f, "{name}{}", if left == 0 { "" } else { "|" })?;
            }
        }
        if left == 0 { f.write_str(")") } else { write!(f, "{left:#x})") }
    }
}

/// Returns the flags of a printed name; `None` for a name that 6.12 does not have.
///
/// Names keep their meaning over the releases while bits move, so a report of any release reads right through its names.
/// The one exception is GFP_NOWAIT, which did not include NOWARN in 6.1; the flags returned here do.
pub fn gfp_from_name(name: &str) -> Option<Gfp> {
    let mut names = COMPOUNDS.iter().chain(ATOMIC).chain(FLAGS_6_18);
    let (bits, _) = names.find(|(_, known)| *known == name)?;
    Gfp::from_bits(*bits)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn text(release: Release, bits: u32) -> std::string::String {
        GfpText { release, bits }.to_string()
    }

    #[test]
    fn masks_of_published_reports_print_their_names() {
        assert_eq!(text(Release::V6_1, 0x14_0dca), "0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO)");
        assert_eq!(text(Release::V6_1, 0xa20), "0xa20(GFP_ATOMIC)");
        assert_eq!(text(Release::V6_12, 0x820), "0x820(GFP_ATOMIC)");
        assert_eq!(text(Release::V6_12, 0xcc2), "0xcc2(GFP_KERNEL|__GFP_HIGHMEM)");
        assert_eq!(text(Release::V6_18, 0xc04), "0xc04(GFP_NOIO|GFP_DMA32)");
        assert_eq!(text(Release::V6_18, 0xc_0c40), "0xc0c40(GFP_NOFS|__GFP_COMP|__GFP_NOMEMALLOC)");
    }

    #[test]
    fn nowait_changed_with_the_release() {
        assert_eq!(text(Release::V6_1, 0x800), "0x800(GFP_NOWAIT)");
        assert_eq!(text(Release::V6_12, 0x2800), "0x2800(GFP_NOWAIT)");
        assert_eq!(text(Release::V6_12, 0x800), "0x800(__GFP_KSWAPD_RECLAIM)");
    }

    #[test]
    fn bits_without_a_name_follow_as_a_number() {
        assert_eq!(text(Release::V6_12, 0x8000_0cc0), "0x80000cc0(GFP_KERNEL|0x80000000)");
        assert_eq!(text(Release::V6_12, 0), "0x0()");
    }

    #[test]
    fn a_name_reads_back_whatever_bits_its_release_gave_it() {
        assert_eq!(gfp_from_name("GFP_ATOMIC"), Some(Gfp::ATOMIC));
        assert_eq!(gfp_from_name("__GFP_NOTRACK"), None);
    }
}
