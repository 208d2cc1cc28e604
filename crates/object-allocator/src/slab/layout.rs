//! How the objects of a cache lie in its slabs: stride, order, objects a slab.
//!
//! Pure functions of sizes. Linux 6.12: mm/slub.c (`calculate_sizes`, `calculate_order`, `calc_slab_order`),
//! mm/slab_common.c (`calculate_alignment`).

use units::Order;

use super::object_shape::ObjectShape;
use super::params::CacheFlags;
use crate::error::ObjectError;

/// Bytes of a cache line of the processor.
const CACHE_LINE: usize = 64;
/// Objects start on multiples of this at least (Linux: ARCH_KMALLOC_MINALIGN without DMA limits, `sizeof(void *)`).
pub(crate) const WORD: usize = 8;
/// Slabs of higher orders are used only for objects that fit no smaller one (Linux: slub_max_order).
const MAX_ORDER: Order = Order::COSTLY;
/// Most objects whose free bits fit the head's word.
pub(crate) const INLINE_OBJECTS: u32 = u64::BITS;

/// Sizes of the machine that layouts depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineSizes {
    pub(crate) page_size: usize,
    pub(crate) max_order: Order,
    pub(crate) nr_cpus: usize,
}

impl MachineSizes {
    const fn slab_bytes(&self, order: Order) -> usize {
        self.page_size << order.raw()
    }

    const fn order_covering(&self, bytes: usize) -> Option<Order> {
        Order::covering(bytes.div_ceil(self.page_size) as u64)
    }

    /// Most objects of a slab: what one bitmap object has bits for.
    const fn most_objects(&self) -> usize {
        self.page_size / WORD
    }
}

/// Geometry of a cache's slabs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlabLayout {
    /// Bytes that the user may use.
    pub(crate) object_size: u32,
    /// Bytes from one object to the next.
    pub(crate) stride: u32,
    /// Bytes of a stride before the object.
    left: u32,
    /// 2^40 / stride, rounded up, to divide by multiplying.
    reciprocal: u64,
    /// Order that slabs are asked for.
    pub(crate) order: Order,
    /// Order of slabs when `order` cannot be had: the smallest that holds one object.
    pub(crate) min_order: Order,
    /// Objects of a slab of `order`.
    pub(crate) objects: u32,
    /// Objects of a slab of `min_order`.
    min_objects: u32,
}

const RECIPROCAL_SHIFT: u32 = 40;

impl SlabLayout {
    /// Lays out objects of `size` bytes in strides that are multiples of `align`, a power of two.
    ///
    /// # Errors
    /// [`ObjectError::BadSize`] if no block of the machine holds one object.
    pub(crate) fn new(
        size: usize,
        shape: &ObjectShape,
        align: usize,
        machine: &MachineSizes,
    ) -> Result<Self, ObjectError> {
        let bad = ObjectError::BadSize(size);
        let stride = shape.total.checked_next_multiple_of(align).filter(|_| size > 0).ok_or(bad)?;
        let min_order = machine.order_covering(stride).filter(|&order| order <= machine.max_order).ok_or(bad)?;
        let order = order_of(stride, min_order, machine);
        let objects = |order| (machine.slab_bytes(order) / stride).min(machine.most_objects()) as u32;
        Ok(Self {
            object_size: u32::try_from(size).map_err(|_| bad)?,
            stride: u32::try_from(stride).map_err(|_| bad)?,
            left: u32::try_from(shape.left).map_err(|_| bad)?,
            reciprocal: (1u64 << RECIPROCAL_SHIFT).div_ceil(stride as u64),
            order,
            min_order,
            objects: objects(order),
            min_objects: objects(min_order),
        })
    }

    /// Leaves objects out so that the head's word has a bit for each: for the caches that bitmaps of others come from.
    pub(crate) fn with_bits_in_head(self) -> Self {
        let most = INLINE_OBJECTS;
        Self { objects: self.objects.min(most), min_objects: self.min_objects.min(most), ..self }
    }

    /// Returns the objects of a slab of `order`, one of the layout's two.
    #[inline]
    pub(crate) const fn objects_in(&self, order: Order) -> u32 {
        if order.raw() == self.order.raw() { self.objects } else { self.min_objects }
    }

    /// Returns true if slabs keep their free bits in an object of their own.
    #[inline]
    pub(crate) const fn has_outside_bits(&self) -> bool {
        self.objects > INLINE_OBJECTS
    }

    /// Returns which object starts `offset` bytes into a slab with `objects` of them, if one does.
    ///
    /// The multiplication is exact while `offset * stride` is below 2^40. Slabs with more than one object have at most 8 pages of 64 KiB,
    /// which keeps it below 2^38; an only object is at 0.
    #[inline]
    pub(crate) fn index_at(&self, offset: u64, objects: u32) -> Option<u32> {
        let offset = offset.wrapping_sub(u64::from(self.left));
        let index = (offset.wrapping_mul(self.reciprocal) >> RECIPROCAL_SHIFT) as u32;
        (index < objects && u64::from(index) * u64::from(self.stride) == offset).then_some(index)
    }

    /// Returns where in its slab an object starts.
    #[inline]
    pub(crate) const fn offset_of(&self, index: u32) -> usize {
        index as usize * self.stride as usize + self.left as usize
    }
}

/// Returns the alignment of objects that ask for `align` (Linux: calculate_alignment).
pub(crate) fn object_align(size: usize, align: usize, flags: CacheFlags) -> usize {
    let mut line = WORD;
    if flags.contains(CacheFlags::HWCACHE_ALIGN) {
        line = CACHE_LINE;
        while size <= line / 2 {
            line /= 2;
        }
    }
    align.max(line).max(WORD)
}

/// Returns the order of slabs: the smallest with enough objects that wastes at most a sixteenth, or else an eighth, and so on.
fn order_of(stride: usize, min_order: Order, machine: &MachineSizes) -> Order {
    let log2_cpus = usize::BITS - machine.nr_cpus.leading_zeros();
    let most = (machine.slab_bytes(MAX_ORDER) / stride).max(1);
    let wanted = (4 * (log2_cpus as usize + 1)).min(most);
    let first = machine.order_covering(wanted * stride).unwrap_or(min_order);
    for fraction in [16, 8, 4, 2] {
        let wastes_little = |order: &Order| {
            let bytes = machine.slab_bytes(*order);
            bytes % stride <= bytes / fraction
        };
        let limit = MAX_ORDER.min(machine.max_order);
        if let Some(order) = first.through(limit).find(wastes_little) {
            return order;
        }
    }
    min_order
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::fs;
    use std::path::Path;
    use std::vec::Vec;

    use proc_files::parse::SlabInfo;

    use super::*;

    fn layout(size: usize, machine: &MachineSizes) -> Result<SlabLayout, ObjectError> {
        SlabLayout::new(size, &ObjectShape::new(size, 8, CacheFlags::empty()).unwrap(), 8, machine)
    }

    fn machine(nr_cpus: usize) -> MachineSizes {
        MachineSizes { page_size: 4096, max_order: Order::new_truncate(10), nr_cpus }
    }

    #[test]
    fn every_object_of_every_layout_is_found_by_its_offset_and_nothing_else_is() {
        for stride in [8usize, 24, 96, 192, 680, 4096, 8192, 40_000, 1 << 20] {
            let layout = layout(stride, &machine(4)).unwrap();
            for index in 0..layout.objects {
                let offset = layout.offset_of(index) as u64;
                assert_eq!(layout.index_at(offset, layout.objects), Some(index));
                assert_eq!(layout.index_at(offset + 1, layout.objects), None);
            }
            assert_eq!(layout.index_at((layout.objects as usize * stride) as u64, layout.objects), None);
        }
    }

    /// CPUs of a recorded machine, by its QEMU command line.
    fn recorded_cpus(boot: &Path) -> Option<usize> {
        let command = fs::read_to_string(boot.join("machine.txt")).ok()?;
        let words: Vec<&str> = command.split_whitespace().collect();
        let smp = words.windows(2).find(|pair| pair[0] == "-smp");
        Some(smp.map_or(1, |pair| pair[1].parse().unwrap()))
    }

    #[test]
    fn slabs_of_every_recorded_cache_have_the_shape_that_linux_chose() {
        let boots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/boots");
        let mut compared = 0;
        for boot in fs::read_dir(boots).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(text) = fs::read_to_string(boot.join("slabinfo")) else { continue };
            // 32-bit kernels align objects to 4 bytes.
            if boot.file_name().unwrap().to_str().unwrap().starts_with("i386") {
                continue;
            }
            let machine = machine(recorded_cpus(&boot).unwrap());
            for cache in SlabInfo::parse(&text).unwrap().caches() {
                let size = cache.objsize as usize;
                let layout = layout(size, &machine).unwrap();
                let shape = (u64::from(layout.objects), layout.order.nr_pages());
                assert_eq!(shape, (cache.objperslab, cache.pagesperslab), "{} in {}", cache.name, boot.display());
                compared += 1;
            }
        }
        assert!(compared > 1000, "{compared} caches compared");
    }

    #[test]
    fn objects_that_no_block_holds_are_refused() {
        let size = (4096 << 10) + 1;
        assert_eq!(layout(size, &machine(1)), Err(ObjectError::BadSize(size)));
        assert_eq!(layout(0, &machine(1)), Err(ObjectError::BadSize(0)));
        assert_eq!(layout(4096 << 10, &machine(1)).map(|layout| layout.objects), Ok(1));
    }

    #[test]
    fn small_objects_share_a_line_but_do_not_straddle_two() {
        assert_eq!(object_align(20, 8, CacheFlags::HWCACHE_ALIGN), 32);
        assert_eq!(object_align(33, 8, CacheFlags::HWCACHE_ALIGN), 64);
        assert_eq!(object_align(33, 256, CacheFlags::HWCACHE_ALIGN), 256);
        assert_eq!(object_align(33, 1, CacheFlags::empty()), 8);
    }
}
