//! Mapping in one address space what another one maps: fork.
//!
//! Linux 6.12: mm/memory.c (`copy_present_ptes`), include/linux/rmap.h (`folio_try_dup_anon_rmap_ptes`).

use core::sync::atomic::Ordering;

use frame_table::PageRef;
use page_allocator::Hooks;
use platform::{Attributes, Platform, Prot};
use units::{Order, Pfn};

use super::Mmu;
use super::entry::{EntryRef, Mapped, PageKind, Pte};

impl<P: Platform, H: Hooks> Mmu<'_, P, H> {
    /// Maps what `entry` maps at `child` too, an empty entry of the same level in another address space, allowing `prot`. `pte` was read from the entry,
    /// which still maps the same if this does anything. Returns what the page is counted as; `None` if nothing was mapped, or only the page of zeros.
    ///
    /// Not for entries for which tables wait ([`Mmu::duplicate_large`]). An anonymous page belongs to no address space alone then: neither entry may allow writing. The caller keeps others from changing what either maps.
    #[inline(always)]
    pub fn duplicate(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pte: Pte,
        child: &EntryRef<'_, P::Format>,
        prot: Prot,
    ) -> Option<PageKind> {
        let (pfn, attributes) = entry.leaf(pte)?;
        if entry.level() != child.level() {
            return None;
        }
        match entry.mapped_frame(pfn) {
            Some(mapped) if mapped.is_plain() => self.duplicate_plain(entry, pfn, &mapped, child, prot),
            Some(_) => self.duplicate_part(*entry, pte, *child, prot),
            None => {
                if pfn == self.zero_page() {
                    child.install_zero(Pte::NONE, Attributes { prot, ..attributes });
                }
                None
            }
        }
    }

    /// The common case: a page of one frame, whose descriptor is at hand.
    #[inline(always)]
    fn duplicate_plain(
        &self,
        entry: &EntryRef<'_, P::Format>,
        pfn: Pfn,
        mapped: &Mapped<'_>,
        child: &EntryRef<'_, P::Format>,
        prot: Prot,
    ) -> Option<PageKind> {
        mapped.make_shared();
        if !mapped.frame.try_get() {
            return None;
        }
        // Looked at again, as in `Mmu::page`: what is held cannot change its shape, and the entry may still map it.
        let is_plain = mapped.is_still_plain();
        let order = if is_plain { Order::ZERO } else { self.objects().frames().compound_order(pfn) };
        // SAFETY: the reference that was taken, to a page of this order.
        let page = unsafe { PageRef::from_raw(pfn, order) };
        // Acquire: as there.
        let now = entry.load_as(Ordering::Acquire);
        if !is_plain || entry.leaf(now).is_none_or(|(at, _)| at != pfn) {
            self.put(page);
            return None;
        }
        let kind = mapped.kind();
        match child.install_same(page, mapped.frame, now, prot) {
            Ok(()) => Some(kind),
            Err(page) => {
                self.put(page);
                None
            }
        }
    }

    /// The general case: a part of a larger page.
    #[cold]
    #[inline(never)]
    fn duplicate_part(
        &self,
        entry: EntryRef<'_, P::Format>,
        pte: Pte,
        child: EntryRef<'_, P::Format>,
        prot: Prot,
    ) -> Option<PageKind> {
        let (pfn, _) = entry.leaf(pte)?;
        if entry.has_deposit(pte) {
            return None;
        }
        entry.make_shared(pte);
        let (page, now) = self.page_seen(&entry, pfn)?;
        let kind = entry.kind(now);
        let head = self.objects().frames().at(page.pfn());
        match child.install_same(page, head, now, prot) {
            Ok(()) => kind,
            Err(page) => {
                self.put(page);
                None
            }
        }
    }
}
