//! The layout of the kernel's address space, and the page tables that make it so.
//!
//! Built once on the boot CPU while it still runs on the boot page tables. Until [`activate`] only the low 4 GiB
//! are seen, through the same direct map address. Linux 6.12: Documentation/arch/x86/x86_64/mm.rst.

use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use boot_memory::page_tables::{DirectMap, MapError, PageTables, TableMemory};
use platform::{Attributes, Level, MemoryType, PageTableFormat, X86_64};
use units::{PhysAddr, PhysRange, VirtAddr};

use crate::apic;
use crate::instructions::{has_gigabyte_pages, load_page_table};
use crate::start::Image;

/// The format of the page tables.
pub(crate) type Format = X86_64<4>;

/// Bytes of a table, and of the smallest page.
pub(crate) const TABLE_SIZE: u64 = 1 << Format::PAGE_SHIFT;
/// Bytes that a table of the lowest level maps.
const LARGE_PAGE: u64 = 2 << 20;
/// Where the frame descriptors are.
pub(crate) const VMEMMAP: VirtAddr = VirtAddr::new(0xffff_ea00_0000_0000);
/// Bytes set aside for the frame descriptors.
pub(crate) const VMEMMAP_SIZE: u64 = 1 << 40;
/// Where physical address 0 would be seen by the image.
const IMAGE_BASE: VirtAddr = VirtAddr::new(0xffff_ffff_8000_0000);
/// Where the interrupt controller's registers are.
pub(crate) const APIC_PAGE: VirtAddr = VirtAddr::new(0xffff_ffff_ff5f_d000);
/// End of what the boot page tables map.
pub(crate) const BOOT_MAPPED: PhysAddr = PhysAddr::new(4 << 30);
/// Table pages for what does not grow with memory: top tables, image, interrupt controller.
const FIXED_TABLES: u64 = 24;
/// Most bytes of frame descriptors for each byte of memory: 32 for 4,096, with room for a larger descriptor.
const MEMMAP_SHARE: u64 = 64;

/// Returns where the direct map shows `phys`; whether it is mapped is the caller's to know.
pub(crate) fn direct(phys: PhysAddr) -> VirtAddr {
    Format::DIRECT_MAP_BASE.saturating_add(phys.raw())
}

/// Returns a pointer to where the direct map shows `phys`.
pub(crate) fn direct_pointer(phys: PhysAddr) -> NonNull<u8> {
    let address = direct(phys).raw() as usize;
    NonNull::new(ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
}

/// Returns the bytes of table pages for a machine whose memory ends at `end`.
///
/// The direct map takes a table for each GiB, the frame descriptors at worst one for each 2 MiB of them.
pub(crate) fn table_room(end: PhysAddr) -> u64 {
    let gigabytes = (end.raw() >> 30) + 1;
    let memmap_tables = end.raw() / MEMMAP_SHARE / LARGE_PAGE + 2;
    (gigabytes + gigabytes / 512 + memmap_tables + memmap_tables / 512 + FIXED_TABLES) * TABLE_SIZE
}

/// Memory for table pages, handed out from its low end.
///
/// # Invariants
/// `room` is mapped by the direct map, whole pages, and belongs to this value alone. `free` is its unused upper part.
pub(crate) struct TablePool {
    room: PhysRange,
    free: PhysRange,
}

impl TablePool {
    /// Takes over `room`.
    ///
    /// # Safety
    /// `room` is whole pages of memory below [`BOOT_MAPPED`] that nobody else uses from here on.
    pub(crate) unsafe fn new(room: PhysRange) -> Self {
        // INVARIANT: the caller's contract; both direct maps show what lies below BOOT_MAPPED.
        Self { room, free: room }
    }

    /// Returns where entry `index` of a table of the pool is.
    fn entry(&self, table: PhysAddr, index: usize) -> Option<NonNull<u64>> {
        let at = table.checked_add(index as u64 * 8)?;
        let inside = self.room.contains(at) && at.raw().is_multiple_of(8);
        inside.then(|| direct_pointer(at).cast())
    }
}

impl TableMemory for TablePool {
    fn alloc_table(&mut self) -> Option<PhysAddr> {
        if self.free.len() < TABLE_SIZE {
            return None;
        }
        let page = self.free.start;
        self.free.start = page.saturating_add(TABLE_SIZE);
        // SAFETY: by the type invariant the page is mapped and ours.
        unsafe { direct_pointer(page).write_bytes(0, TABLE_SIZE as usize) };
        Some(page)
    }

    fn read_entry(&self, table: PhysAddr, index: usize) -> u64 {
        // SAFETY: by the type invariant an entry inside the room is mapped and ours; the processor may set bits of it.
        self.entry(table, index).map_or(0, |entry| unsafe { entry.read_volatile() })
    }

    fn write_entry(&mut self, table: PhysAddr, index: usize, value: u64) {
        if let Some(entry) = self.entry(table, index) {
            // SAFETY: by the type invariant an entry inside the room is mapped and ours.
            unsafe { entry.write_volatile(value) };
        }
    }
}

/// The kernel's page tables with the memory that they grow in while it boots.
pub(crate) struct BootTables {
    tables: PageTables<Format>,
    pool: TablePool,
}

impl BootTables {
    /// Returns the root table, under which vmalloc hangs tables of its own later.
    pub(crate) fn root(&self) -> PhysAddr {
        self.tables.root()
    }

    /// Maps `range` at `virt` with pages of 2 MiB where they fit.
    pub(crate) fn map(&mut self, virt: VirtAddr, range: PhysRange, attributes: Attributes) -> Result<(), MapError> {
        self.tables.map(&mut self.pool, virt, range, attributes, Level::PMD)
    }

    /// Prints every run of equal mappings.
    pub(crate) fn dump(&self, out: &mut impl fmt::Write) -> fmt::Result {
        self.tables.dump(&self.pool, out)
    }
}

/// Builds tables that map the image by its parts, the interrupt controller, and all of `memory` into the direct map.
///
/// `guards` are pages of the image's data that its mapping leaves out, in any order.
pub(crate) fn build<G: Iterator<Item = VirtAddr>>(
    pool: TablePool,
    image: &Image,
    memory: impl Iterator<Item = PhysRange>,
    guards: impl Fn() -> G,
) -> Result<BootTables, MapError> {
    let mut pool = pool;
    let tables = PageTables::alloc(&mut pool)?;
    let mut tables = BootTables { tables, pool };
    map_image(&mut tables, PhysRange::new(image.start, image.text_end), Attributes::KERNEL_CODE)?;
    map_image(&mut tables, PhysRange::new(image.text_end, image.rodata_end), Attributes::KERNEL_READ_ONLY)?;
    for part in between(PhysRange::new(image.rodata_end, image.end), guards) {
        map_image(&mut tables, part, Attributes::KERNEL_DATA)?;
    }
    let device = Attributes { memory_type: MemoryType::StrictDevice, ..Attributes::KERNEL_DATA };
    tables.map(APIC_PAGE, PhysRange::with_len(apic::PHYS_BASE, TABLE_SIZE), device)?;
    let direct = DirectMap::new::<Format>(PhysAddr::ZERO);
    let largest = if has_gigabyte_pages() { Level::PUD } else { Level::PMD };
    tables.tables.map_direct(&mut tables.pool, &direct, memory, Attributes::KERNEL_DATA, largest)?;
    Ok(tables)
}

fn map_image(tables: &mut BootTables, part: PhysRange, attributes: Attributes) -> Result<(), MapError> {
    tables.map(IMAGE_BASE.saturating_add(part.start.raw()), part, attributes)
}

/// Iterates over the parts of `data` between guard pages.
fn between<G: Iterator<Item = VirtAddr>>(data: PhysRange, guards: impl Fn() -> G) -> impl Iterator<Item = PhysRange> {
    let mut start = data.start;
    core::iter::from_fn(move || {
        if start >= data.end {
            return None;
        }
        let guard = guards().map(|guard| PhysAddr::new(guard.since(IMAGE_BASE))).filter(|&guard| guard >= start).min();
        let end = guard.unwrap_or(data.end).min(data.end);
        let part = PhysRange::new(start, end);
        start = end.saturating_add(TABLE_SIZE);
        Some(part)
    })
}

/// Top table of the kernel's page tables, for CPUs that start; 0 before [`activate`].
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Switches this CPU to `tables`, and every CPU that is started later.
///
/// # Safety
/// The tables map what this CPU reaches, as the current ones do, and live until the end.
pub(crate) unsafe fn activate(tables: &BootTables) {
    // Release: pairs with the Acquire load in `activate_again`; the entries are visible to the CPU that walks them.
    ROOT.store(tables.tables.root().raw(), Ordering::Release);
    // SAFETY: the caller's contract.
    unsafe { load_page_table(tables.tables.root()) };
}

/// Switches this CPU to the tables that the boot CPU activated.
///
/// # Safety
/// Called after [`activate`].
pub(crate) unsafe fn activate_again() {
    // Acquire: pairs with the Release store in `activate`.
    let root = PhysAddr::new(ROOT.load(Ordering::Acquire));
    // SAFETY: the tables map the image, all stacks and areas among it, as the boot page tables do.
    unsafe { load_page_table(root) };
}

/// Returns an entry of the kernel's root table.
pub(crate) fn kernel_root_entry(index: usize) -> u64 {
    // Acquire: pairs with the Release store in `activate`.
    let root = PhysAddr::new(ROOT.load(Ordering::Acquire));
    let entry: NonNull<u64> = direct_pointer(root.saturating_add(8 * index as u64)).cast();
    if root == PhysAddr::ZERO || index >= TABLE_SIZE as usize / 8 {
        return 0;
    }
    // SAFETY: the root table is in the direct map and stays; the processor may set bits of it.
    unsafe { entry.read_volatile() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_room_covers_the_direct_map_and_small_pages_for_all_descriptors() {
        let tables = |end: u64| table_room(PhysAddr::new(end)) / TABLE_SIZE;
        assert_eq!(tables(1 << 30), 2 + 10 + FIXED_TABLES);
        // 8 GiB: 9 for the direct map, 64 tables of 512 small pages for 128 MiB of descriptors.
        assert_eq!(tables(8 << 30), 9 + 66 + FIXED_TABLES);
    }

    #[test]
    fn guard_pages_are_left_out_of_the_data() {
        let range = |start, end| PhysRange::new(PhysAddr::new(start), PhysAddr::new(end));
        let guards = || [0x9000, 0x4000, 0x5000].into_iter().map(|offset| IMAGE_BASE.saturating_add(offset));
        let parts = between(range(0x1000, 0xa000), guards);
        assert!(parts.eq([range(0x1000, 0x4000), range(0x5000, 0x5000), range(0x6000, 0x9000)]));
    }
}
