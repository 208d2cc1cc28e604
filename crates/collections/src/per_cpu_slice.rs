//! A row of values for each CPU, in memory near that CPU.

use core::fmt;
use core::ptr::NonNull;

use crate::BootSlice;

/// Owner of `len` values for each CPU, each CPU's side by side in memory of their own.
///
/// Like [`BootSlice`], it does not free the memory and does not drop the values.
///
/// # Invariants
/// Each of `rows` points to `len` initialised values of `T`, aligned, that are reached through this value alone while it exists. No two rows
/// overlap.
pub struct PerCpuSlice<T> {
    rows: BootSlice<NonNull<T>>,
    len: usize,
}

impl<T> PerCpuSlice<T> {
    /// Takes over `len` values in each of `rows`, by the number of the CPU.
    ///
    /// # Safety
    /// The type's invariant, until the returned value is dropped.
    pub const unsafe fn from_rows(rows: BootSlice<NonNull<T>>, len: usize) -> Self {
        // INVARIANT: handed to the caller as the safety contract.
        Self { rows, len }
    }

    /// Divides one table into equal rows, a CPU's values one after the other. The room for the rows says how many there are.
    pub fn divide(mut values: BootSlice<T>, mut rows: BootSlice<NonNull<T>>) -> Self {
        let len = values.len().checked_div(rows.len()).unwrap_or(0);
        for (row, part) in rows.iter_mut().zip(values.chunks_exact_mut(len.max(1))) {
            *row = NonNull::from(part).cast();
        }
        // INVARIANT: the parts are disjoint, and `values`, whose memory stays, is given up. If there are none, `len` is 0.
        Self { rows, len }
    }

    /// Returns a value of a CPU; `None` for a CPU or a place that there is not.
    #[inline(always)]
    pub fn get(&self, cpu: usize, at: usize) -> Option<&T> {
        let row = self.rows.get(cpu)?;
        if at >= self.len {
            return None;
        }
        // SAFETY: by the type invariant the row has a value at every place below `len`.
        let value = unsafe { row.add(at) };
        // SAFETY: as above; `&self` makes it shared.
        Some(unsafe { value.as_ref() })
    }

    /// Gives each CPU's values to an owner of their own, by the number of the CPU.
    pub fn into_slices(self) -> impl Iterator<Item = BootSlice<T>> {
        (0..self.rows.len()).map_while(move |cpu| {
            let row = *self.rows.get(cpu)?;
            // SAFETY: by the type invariant the row has `len` values that nobody else reaches. `self` is given up, and each row taken once.
            Some(unsafe { BootSlice::from_raw(row, self.len) })
        })
    }

    /// Iterates over the values, CPU by CPU.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.rows.len()).flat_map(move |cpu| (0..self.len).filter_map(move |at| self.get(cpu, at)))
    }
}

impl<T: fmt::Debug> fmt::Debug for PerCpuSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

// SAFETY: by the type invariant this is the only path to its values, so they move between threads with it.
unsafe impl<T: Send> Send for PerCpuSlice<T> {}

// SAFETY: shared, it gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for PerCpuSlice<T> {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_table_is_divided_among_the_cpus() {
        let values = BootSlice::from_static(Box::leak(Box::new([1, 2, 3, 4, 5, 6, 7])));
        let rows = BootSlice::from_static(Box::leak(Box::new([NonNull::dangling(); 2])));
        let slice = PerCpuSlice::divide(values, rows);
        assert_eq!((slice.get(0, 0), slice.get(1, 2), slice.get(1, 3)), (Some(&1), Some(&6), None));
        assert!(slice.into_slices().map(|row| row.to_vec()).eq([[1, 2, 3], [4, 5, 6]]));
        let none = PerCpuSlice::<u8>::divide(BootSlice::empty(), BootSlice::empty());
        assert_eq!((none.get(0, 0), none.iter().count()), (None, 0));
    }

    #[test]
    fn each_cpu_has_its_own_row() {
        let rows = [[1, 2, 3], [4, 5, 6]].map(|row| NonNull::from(Box::leak(Box::new(row))).cast::<i32>());
        let rows = BootSlice::from_static(Box::leak(Box::new(rows)));
        // SAFETY: the leaked boxes live for ever and have no other user.
        let slice = unsafe { PerCpuSlice::from_rows(rows, 3) };
        assert_eq!((slice.get(0, 2), slice.get(1, 0)), (Some(&3), Some(&4)));
        assert_eq!((slice.get(1, 3), slice.get(2, 0)), (None, None));
        assert_eq!(slice.iter().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }
}
