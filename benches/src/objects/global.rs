//! Allocators of the whole process: the system's, mimalloc and snmalloc. They take memory from the host as they need it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;

use super::workloads::{self, MILLION, SIZE};
use super::{Candidate, Objects, two_threads};

/// An allocator that is there without being made.
trait Global: GlobalAlloc + Sized + 'static {
    const NAME: &'static str;
    const IT: Self;
}

impl Global for System {
    const NAME: &'static str = "system allocator";
    const IT: Self = Self;
}

#[cfg(feature = "native-peers")]
impl Global for mimalloc::MiMalloc {
    const NAME: &'static str = "mimalloc";
    const IT: Self = Self;
}

#[cfg(feature = "native-peers")]
impl Global for snmalloc_rs::SnMalloc {
    const NAME: &'static str = "snmalloc";
    const IT: Self = Self;
}

/// Describes the candidate that `A` is.
const fn candidate<A: Global>() -> Candidate {
    Candidate {
        name: A::NAME,
        run: |column, quick| {
            if column.is_of_two() {
                two_threads::on(column, quick, |_| Calls(A::IT))
            } else {
                workloads::on(&mut Calls(A::IT), column, quick)
            }
        },
        overhead: || resident_in_child(A::NAME),
    }
}

/// The candidates of this file, as far as they were built.
pub(crate) const CANDIDATES: &[Candidate] = &[
    #[cfg(feature = "native-peers")]
    candidate::<mimalloc::MiMalloc>(),
    #[cfg(feature = "native-peers")]
    candidate::<snmalloc_rs::SnMalloc>(),
    candidate::<System>(),
];

struct Calls<A>(A);

/// Alignment to 8 bytes, as kmalloc gives at least.
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap_or(Layout::new::<u64>())
}

impl<A: Global> Objects for Calls<A> {
    #[inline]
    fn alloc(&mut self, size: usize) -> *mut u8 {
        // SAFETY: the size is not 0.
        unsafe { self.0.alloc(layout(size)) }
    }

    #[inline]
    unsafe fn free(&mut self, object: *mut u8, size: usize) {
        // SAFETY: the caller's contract; the layout is that of the allocation.
        unsafe { self.0.dealloc(object, layout(size)) };
    }
}

/// Runs [`resident_overhead`] in a process of its own, where nothing was allocated and freed before.
fn resident_in_child(name: &str) -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new(program).args(["objects", "--overhead-of", name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Returns the bytes that an object takes beside its own in the allocator called `name`, from the process's resident memory.
pub(crate) fn resident_overhead(name: &str) -> Option<f64> {
    match name {
        System::NAME => resident::<System>(),
        #[cfg(feature = "native-peers")]
        mimalloc::MiMalloc::NAME => resident::<mimalloc::MiMalloc>(),
        #[cfg(feature = "native-peers")]
        snmalloc_rs::SnMalloc::NAME => resident::<snmalloc_rs::SnMalloc>(),
        _ => None,
    }
}

fn resident<A: Global>() -> Option<f64> {
    // The pages of the vector are touched here, and counted below.
    let mut live = vec![std::ptr::dangling_mut(); MILLION as usize];
    let before = resident_bytes()?;
    let mut objects = Calls(A::IT);
    for slot in &mut live {
        let object = objects.alloc(SIZE);
        // SAFETY: the object was just allocated; a null pointer ends the process, which the parent takes for no figure.
        unsafe { object.write(1) };
        *slot = object;
    }
    let taken = resident_bytes()? - before;
    std::hint::black_box(&live);
    Some(taken as f64 / live.len() as f64 - SIZE as f64)
}

fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * i64::try_from(rustix::param::page_size()).ok()?)
}
