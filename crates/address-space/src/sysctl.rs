//! Settings that change while the machine runs.
//!
//! Each is read once by a call that it matters to. Locking: none. Linux 6.12: kernel/sysctl.c (`vm_table`), security/min_addr.c.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use page_allocator::Hooks;
use platform::Platform;
use units::VirtAddr;

use crate::limits::Settings;
use crate::spaces::AddressSpaces;

/// What of the [`Settings`] may be set later.
#[derive(Debug)]
pub(crate) struct Sysctls {
    max_map_count: AtomicUsize,
    min_addr: AtomicU64,
    privileged_below: AtomicU64,
    /// Below this no address is ever given out (CONFIG_LSM_MMAP_MIN_ADDR).
    floor: VirtAddr,
}

impl Sysctls {
    pub(crate) const fn new(settings: &Settings) -> Self {
        Self {
            max_map_count: AtomicUsize::new(settings.max_map_count),
            min_addr: AtomicU64::new(settings.min_addr.raw()),
            privileged_below: AtomicU64::new(settings.privileged_below.raw()),
            floor: settings.min_addr,
        }
    }
}

impl<P: Platform, H: Hooks> AddressSpaces<'_, P, H> {
    /// Returns vm.max_map_count.
    #[inline]
    pub fn max_map_count(&self) -> usize {
        // Relaxed here and below: a value by itself, which may be set a moment later as well.
        self.sysctls.max_map_count.load(Relaxed)
    }

    /// Sets vm.max_map_count. Who has more areas keeps them.
    pub fn set_max_map_count(&self, count: usize) {
        self.sysctls.max_map_count.store(count, Relaxed);
    }

    /// Returns the address below which none is given out.
    #[inline]
    pub(crate) fn min_addr(&self) -> VirtAddr {
        VirtAddr::new(self.sysctls.min_addr.load(Relaxed))
    }

    /// Returns vm.mmap_min_addr, the address below which one has to be asked for by who may.
    #[inline]
    pub fn privileged_below(&self) -> VirtAddr {
        VirtAddr::new(self.sysctls.privileged_below.load(Relaxed))
    }

    /// Sets vm.mmap_min_addr (Linux: `update_mmap_min_addr`).
    pub fn set_privileged_below(&self, addr: VirtAddr) {
        self.sysctls.privileged_below.store(addr.raw(), Relaxed);
        self.sysctls.min_addr.store(addr.max(self.sysctls.floor).raw(), Relaxed);
    }
}
