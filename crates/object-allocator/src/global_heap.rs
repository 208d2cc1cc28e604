//! kmalloc as a Rust program's global allocator, for kernels that use `alloc`.
//!
//! `static HEAP: GlobalHeap<Machine> = GlobalHeap::new(Gfp::KERNEL)` with `#[global_allocator]`; before [`GlobalHeap::set`], and on code
//! paths where the machine does not know its CPU, allocation fails as if memory were short.
//! Locking: none of its own.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use page_allocator::{Hooks, NoPressure};
use platform::Platform;
use sync::Cpu;
use units::Gfp;

use crate::ObjectAllocator;
use crate::remote_list::RemoteList;

/// Alignment that kmalloc gives every size.
const KMALLOC_ALIGN: usize = 8;

/// A global allocator on top of one machine's object allocator.
///
/// # Invariants
/// `objects` is null or the address of an allocator that lives for ever.
#[derive(Debug)]
pub struct GlobalHeap<P: Platform + 'static, H: Hooks + 'static = NoPressure> {
    objects: AtomicPtr<ObjectAllocator<P, H>>,
    /// Freed where the CPU was not known.
    remote: RemoteList,
    gfp: Gfp,
}

impl<P: Platform, H: Hooks> GlobalHeap<P, H> {
    /// Makes a heap that cannot allocate yet and will do so with `gfp`.
    #[cfg(not(loom))]
    pub const fn new(gfp: Gfp) -> Self {
        Self { objects: AtomicPtr::new(ptr::null_mut()), remote: RemoteList::new(), gfp }
    }

    /// Starts allocating from `objects`.
    pub fn set(&self, objects: &'static ObjectAllocator<P, H>) {
        // INVARIANT: the reference is valid for ever.
        // Release: pairs with the Acquire in `with`.
        self.objects.store(ptr::from_ref(objects).cast_mut(), Ordering::Release);
    }

    /// Returns true if `address` is memory that this heap handed out.
    pub fn owns(&self, address: *const u8) -> bool {
        let object = NonNull::new(address.cast_mut());
        self.objects().zip(object).is_some_and(|(objects, object)| objects.ksize(object).is_some())
    }

    fn objects(&self) -> Option<&'static ObjectAllocator<P, H>> {
        // SAFETY: by the type invariant the allocator lives for ever.
        unsafe { self.objects.load(Ordering::Acquire).as_ref() }
    }

    /// Runs `f` on the allocator and the CPU that runs this, with what others freed without one freed before.
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&ObjectAllocator<P, H>, &Cpu) -> R) -> Option<R> {
        let objects = self.objects()?;
        objects.pages().platform().with_current_cpu(|cpu| {
            if !self.remote.is_empty() {
                self.free_remote(objects, cpu);
            }
            f(objects, cpu)
        })
    }

    #[cold]
    fn free_remote(&self, objects: &ObjectAllocator<P, H>, cpu: &Cpu) {
        for object in self.remote.take() {
            // SAFETY: `dealloc` put it there instead of freeing it.
            unsafe { objects.kfree(cpu, object) };
        }
    }

    fn alloc_with(&self, layout: Layout, gfp: Gfp) -> *mut u8 {
        let size = if layout.align() > KMALLOC_ALIGN {
            layout.size().max(layout.align()).checked_next_power_of_two().unwrap_or(usize::MAX)
        } else {
            layout.size()
        };
        let allocated = self.with(|objects, cpu| {
            let object = objects.kmalloc(cpu, size, gfp).ok()?;
            if object.as_ptr().addr().is_multiple_of(layout.align()) {
                return Some(object);
            }
            // More than a block's own alignment.
            // SAFETY: just allocated.
            unsafe { objects.kfree(cpu, object) };
            None
        });
        allocated.flatten().map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

// SAFETY: objects are aligned as checked, exclusive until they are freed, and at least as large as asked.
unsafe impl<P: Platform, H: Hooks> GlobalAlloc for GlobalHeap<P, H> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.alloc_with(layout, self.gfp)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.alloc_with(layout, self.gfp | Gfp::ZERO)
    }

    unsafe fn dealloc(&self, object: *mut u8, _layout: Layout) {
        let Some(object) = NonNull::new(object) else { return };
        // SAFETY: the caller gives up what `alloc` returned.
        if self.with(|objects, cpu| unsafe { objects.kfree(cpu, object) }).is_none() {
            // SAFETY: the caller gives the object up; every size class has room for a word.
            unsafe { self.remote.push(object) };
        }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (Some(old), Ok(new)) = (NonNull::new(object), Layout::from_size_align(new_size, layout.align())) else {
            return ptr::null_mut();
        };
        if layout.align() <= KMALLOC_ALIGN {
            // SAFETY: the caller gives the old address up if another one is returned.
            let moved = self.with(|objects, cpu| unsafe { objects.krealloc(cpu, old, new_size, self.gfp) });
            return moved.and_then(Result::ok).map_or(ptr::null_mut(), NonNull::as_ptr);
        }
        let Some(moved) = NonNull::new(self.alloc_with(new, self.gfp)) else { return ptr::null_mut() };
        // SAFETY: both have the smaller of the sizes, and the caller owns both.
        unsafe { moved.copy_from_nonoverlapping(old, layout.size().min(new_size)) };
        // SAFETY: the old address is given up.
        unsafe { self.dealloc(object, layout) };
        moved.as_ptr()
    }
}
