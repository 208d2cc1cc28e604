//! Users of something that empties with the last of them, and references that keep the emptied rest.
//!
//! Linux 6.12: `mm_users` and `mm_count` of include/linux/mm_types.h, include/linux/sched/mm.h.

use crate::atomic::{AtomicU64, Ordering, fence};

/// Users and references.
///
/// # Invariants
/// While there are users, they have one reference together.
#[derive(Debug)]
pub struct UseCount {
    users: AtomicU64,
    references: AtomicU64,
}

impl Default for UseCount {
    fn default() -> Self {
        Self { users: AtomicU64::new(0), references: AtomicU64::new(0) }
    }
}

impl UseCount {
    /// Starts with `users` users and one reference, theirs or, without users, the caller's. Nobody else has the object yet.
    pub fn begin(&self, users: u64) {
        // Relaxed: published with the object.
        self.users.store(users, Ordering::Relaxed);
        self.references.store(1, Ordering::Relaxed);
    }

    /// Returns the number of users; a hint while others come and go.
    pub fn users(&self) -> u64 {
        // Relaxed: a hint.
        self.users.load(Ordering::Relaxed)
    }

    /// Counts another user; the caller is one.
    pub fn get(&self) {
        // Relaxed: the caller keeps the object, and has seen what it needs of it.
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts another user if there is one; the caller has a reference. Returns whether it did.
    pub fn get_not_zero(&self) -> bool {
        let mut users = self.users();
        while users != 0 {
            // Relaxed: what users see of the object is ordered by its locks.
            match self.users.compare_exchange(users, users + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => users = other,
            }
        }
        false
    }

    /// Counts a user no longer; true for the last, who has their reference then.
    pub fn put(&self) -> bool {
        is_last(&self.users)
    }

    /// Counts another reference; the caller has one.
    pub fn grab(&self) {
        // Relaxed: as in `get`.
        self.references.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reference no longer; true for the last.
    pub fn release(&self) -> bool {
        is_last(&self.references)
    }
}

/// Counts one down; true for the last.
fn is_last(count: &AtomicU64) -> bool {
    // Release: pairs with the fence below, so the last one sees what the others did.
    let before = count.fetch_sub(1, Ordering::Release);
    debug_assert!(before > 0, "what is given back was counted");
    if before != 1 {
        return false;
    }
    fence(Ordering::Acquire);
    true
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn users_end_before_references_do() {
        let uses = UseCount::default();
        uses.begin(1);
        uses.grab();
        assert!(uses.get_not_zero());
        assert_eq!((uses.put(), uses.put()), (false, true));
        assert!(!uses.get_not_zero());
        assert_eq!((uses.release(), uses.release()), (false, true));
    }
}
