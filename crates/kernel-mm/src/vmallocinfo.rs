//! /proc/vmallocinfo of a machine.
//!
//! Areas in the order of their addresses, then those that wait for a purge, as Linux before 6.9 wrote them; since then they come in the
//! order of the kernel's hash buckets, which this one has not.

use core::fmt;

use object_allocator::{AreaInfo, AreaKind};
use page_allocator::Hooks;
use platform::Platform;
use proc_files::vmallocinfo::{AreaDetails, AreaWords, VmallocLine};

use crate::proc_view::ProcView;

impl<P: Platform, H: Hooks> ProcView<'_, P, H> {
    /// Writes /proc/vmallocinfo.
    ///
    /// # Errors
    /// As [`ProcView::write_buddyinfo`].
    pub fn write_vmallocinfo(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut result = Ok(());
        for waiting in [false, true] {
            self.kernel.objects().for_each_area(self.cpu, |area| {
                if area.kind.is_none() == waiting {
                    result = result.and_then(|()| write_area(out, area));
                }
            });
        }
        result
    }
}

fn write_area(out: &mut dyn fmt::Write, area: &AreaInfo) -> fmt::Result {
    let words = match area.kind {
        None => None,
        Some(AreaKind::Vmalloc) => Some(AreaWords::VMALLOC),
        Some(AreaKind::Vmap) => Some(AreaWords::VMAP),
        Some(AreaKind::Ioremap) => Some(AreaWords::IOREMAP),
        Some(AreaKind::MapRam) => Some(AreaWords::empty()),
    };
    let details = match words {
        None => AreaDetails::Unpurged,
        Some(words) if words.is_empty() => AreaDetails::MapRam,
        Some(words) => AreaDetails::Owned {
            caller: Some(area.caller),
            pages: area.nr_pages,
            phys: area.phys,
            words,
            node_pages: &area.node_pages,
        },
    };
    writeln!(out, "{}", VmallocLine { range: area.range, details })
}
