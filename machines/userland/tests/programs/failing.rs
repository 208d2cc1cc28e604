//! An allocator that fails where a test asks for it: on the test's own thread, and not in what stands in for the machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Which allocations fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fails {
    /// The one of this number, counted from 1.
    Only(u64),
    /// That one and all behind it.
    From(u64),
}

thread_local! {
    static PLAN: Cell<Option<Fails>> = const { Cell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static EXEMPT: Cell<u32> = const { Cell::new(0) };
}

/// The allocator of the tests.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Counts an allocation; true if it is to fail.
fn fails() -> bool {
    let Some(plan) = PLAN.get().filter(|_| EXEMPT.get() == 0) else { return false };
    COUNT.set(COUNT.get() + 1);
    match plan {
        Fails::Only(number) => COUNT.get() == number,
        Fails::From(number) => COUNT.get() >= number,
    }
}

// SAFETY: every block is the system allocator's, which is asked with the caller's own layout; a null pointer says that there is none.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` is the system allocator's, with this layout, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: `block` is the system allocator's, with this layout, as the caller promises, who promises `bytes` too.
        unsafe { System.realloc(block, layout, bytes) }
    }
}

/// Runs `what` with allocations that fail as planned; returns its result and how many it asked for.
pub(crate) fn with_failures<R>(plan: Fails, what: impl FnOnce() -> R) -> (R, u64) {
    COUNT.set(0);
    PLAN.set(Some(plan));
    let result = what();
    PLAN.set(None);
    (result, COUNT.get())
}

/// While it lives nothing fails and nothing is counted.
pub(crate) struct Exempt(());

impl Exempt {
    pub(crate) fn begin() -> Self {
        EXEMPT.set(EXEMPT.get() + 1);
        Self(())
    }
}

impl Drop for Exempt {
    fn drop(&mut self) {
        EXEMPT.set(EXEMPT.get() - 1);
    }
}
