//! Handles of per-CPU memory: one that is bare, and one that knows its type.
//!
//! Linux: a `__percpu` pointer, `per_cpu_ptr`, `this_cpu_ptr`, `alloc_percpu`.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use sync::Cpu;
use units::CpuId;

use super::allocator::PercpuAllocator;
use super::chunk::Chunk;
use super::row::Row;

/// Size and alignment of an area in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaLayout {
    /// Bytes; at least 1 and at most [`super::MAX_AREA`].
    pub size: usize,
    /// Power of two, at most the page size.
    pub align: usize,
}

impl AreaLayout {
    /// Returns the layout of a value.
    pub const fn of<T>() -> Self {
        Self { size: size_of::<T>(), align: align_of::<T>() }
    }
}

/// An area of per-CPU memory without a type. Freed by the allocator that it came from; dropping it leaks the area.
///
/// # Invariants
/// `row` is the row of the page that holds the area's first byte, `in_page` its offset there; every CPU of the row has `size` bytes there
/// that nobody else uses. `chunk` is `None` for static memory, which is never freed.
#[must_use = "dropping the area leaks it"]
pub struct PercpuArea {
    pub(super) row: Row,
    pub(super) chunk: Option<NonNull<Chunk>>,
    pub(super) offset: u32,
    pub(super) in_page: u32,
    pub(super) size: u32,
}

// SAFETY: the area is memory of the machine that its holder alone may use; the chunk is touched under its lock only.
unsafe impl Send for PercpuArea {}

// SAFETY: through a shared area only pointers are computed.
unsafe impl Sync for PercpuArea {}

impl PercpuArea {
    /// Returns the size in bytes.
    pub const fn size(&self) -> usize {
        self.size as usize
    }

    /// Returns the number of CPUs that have the area.
    pub const fn nr_cpus(&self) -> usize {
        self.row.nr_cpus() as usize
    }

    /// Returns where the area lies for a CPU; `None` for a CPU that the machine lacks (Linux: per_cpu_ptr).
    ///
    /// # Safety
    /// The allocator that the area came from exists.
    #[inline]
    pub unsafe fn ptr(&self, cpu: CpuId) -> Option<NonNull<u8>> {
        // SAFETY: the area is allocated, so its chunk exists as long as the allocator does.
        let page = unsafe { self.row.get(cpu) }?;
        // SAFETY: by the type invariant the page holds the area from this offset on.
        Some(unsafe { page.add(self.in_page as usize) })
    }

    /// Iterates over the CPUs that have the area.
    pub fn cpus(&self) -> impl Iterator<Item = CpuId> + use<> {
        (0..u64::from(self.row.nr_cpus())).filter_map(CpuId::try_new)
    }
}

impl fmt::Debug for PercpuArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PercpuArea").field("offset", &self.offset).field("size", &self.size).finish_non_exhaustive()
    }
}

/// A value of its own for each CPU, of an allocator that lives for `'a`. Dropping it leaks the values.
///
/// Other CPUs may look at a CPU's value, so it changes through atomics, locks or owner cells.
///
/// # Invariants
/// The area holds an initialised `T` for every CPU.
#[must_use = "dropping the handle leaks the values"]
pub struct PerCpu<'a, T> {
    area: PercpuArea,
    /// The allocator, which the borrow keeps where it is.
    pub(super) home: &'a PercpuAllocator,
    values: PhantomData<T>,
}

impl<'a, T: Sync> PerCpu<'a, T> {
    /// Fills an area with `init(cpu)`.
    ///
    /// # Safety
    /// The area was allocated for the layout of `T` by `home`, whose memory lives for `'a`.
    pub(super) unsafe fn init(area: PercpuArea, home: &'a PercpuAllocator, mut init: impl FnMut(CpuId) -> T) -> Self {
        for cpu in area.cpus() {
            // SAFETY: the allocator lives by the caller's contract.
            if let Some(place) = unsafe { area.ptr(cpu) } {
                // SAFETY: the place is aligned and large enough by the caller's contract, and nobody else uses it.
                unsafe { place.cast::<T>().write(init(cpu)) };
            }
        }
        // INVARIANT: just filled.
        Self { area, home, values: PhantomData }
    }

    /// Returns the value of a CPU; `None` for a CPU that the machine lacks (Linux: per_cpu_ptr).
    #[inline]
    pub fn get(&self, cpu: CpuId) -> Option<&T> {
        // SAFETY: the allocator lives for `'a`.
        let place = unsafe { self.area.ptr(cpu) }?;
        // SAFETY: by the type invariant an initialised value is there; it is shared as `T: Sync` allows.
        Some(unsafe { place.cast::<T>().as_ref() })
    }

    /// Returns the value of the CPU that asks; `None` if it is one of another machine with more CPUs (Linux: this_cpu_ptr).
    #[inline]
    pub fn this(&self, cpu: &Cpu) -> Option<&T> {
        self.get(cpu.id())
    }

    /// Iterates over the values of all CPUs (Linux: for_each_possible_cpu).
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.area.cpus().filter_map(|cpu| self.get(cpu))
    }

    /// Drops the values and returns the area.
    pub(super) fn into_area(self) -> PercpuArea {
        for cpu in self.area.cpus() {
            // SAFETY: the allocator lives for `'a`.
            if let Some(place) = unsafe { self.area.ptr(cpu) } {
                // SAFETY: by the type invariant a value is there, and `self` was the only way to it.
                unsafe { place.cast::<T>().drop_in_place() };
            }
        }
        self.area
    }
}

impl<T> fmt::Debug for PerCpu<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerCpu").field(&self.area).finish()
    }
}
