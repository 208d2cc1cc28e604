//! A page of a file that moves to another frame.
//!
//! Linux 6.12: mm/migrate.c (`folio_migrate_mapping`, `filemap_migrate_folio`).

use address_space::PAGE_SHIFT;
use frame_table::{OwnedBlock, PageBytes, PageFlags, PageRef};
use object_allocator::vmstat::NodeItem;
use page_allocator::Hooks;
use platform::Platform;

use crate::file::DIRTY;
use crate::files::FileCall;

impl<P: Platform, H: Hooks + Sync> FileCall<'_, '_, P, H> {
    /// Puts the bytes of `from`, a page of a file that is mapped nowhere and held by the caller once, into `to`, which is the file's page then.
    ///
    /// The bytes are copied under the file's lock, as nobody may find the page meanwhile.
    ///
    /// # Errors
    /// Gives the block back if the page is no file's, another size, or held by somebody else.
    pub fn migrate_page(&self, from: &PageRef, to: OwnedBlock) -> Result<(), OwnedBlock> {
        let old = self.frames().at(from.pfn());
        let (number, index) = old.mapping();
        let Some(mut state) = self.lock_any(number) else { return Err(to) };
        let is_there = state.pages.get(index).is_some_and(|page| page == from);
        // The file's reference and the caller's.
        if !is_there || old.count() != 2 || old.mapcount() != 0 || to.order() != from.order() {
            return Err(to);
        }
        let platform = self.files.objects.pages().platform();
        if PageBytes::copy_page(platform, &to, (from, from.pfn()), PAGE_SHIFT).is_err() {
            return Err(to);
        }
        let page = to.into_ref(self.frames());
        let new = self.frames().at(page.pfn());
        let fits = new.set_mapping(number, index);
        debug_assert!(fits, "it is the index of a page");
        new.set_flags(old.flags() & PageFlags::MIGRATED);
        let (kind, is_dirty) = (state.page_kind(), state.pages.has_mark(index, DIRTY));
        for (pfn, delta) in [(from.pfn(), -1), (page.pfn(), 1)] {
            self.count(pfn, kind, delta);
            if is_dirty {
                self.count_item(pfn, NodeItem::NrDirty, delta);
            }
        }
        let (Ok(replaced) | Err(replaced)) = state.pages.replace(index, page);
        old.set_mapping(0, 0);
        drop(state);
        self.put_page(replaced);
        Ok(())
    }
}
