//! What a process may have, and the rules that the machine was configured with.
//!
//! Linux 6.12: RLIMIT_, CAP_, sysctl vm.*, x86's TASK_SIZE.

use units::VirtAddr;

use crate::huge::HugePolicy;

bitflags::bitflags! {
    /// Capabilities and personality that calls ask for.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Rights: u32 {
        /// CAP_IPC_LOCK: no limit on locked memory.
        const IPC_LOCK = 1;
        /// CAP_SYS_RAWIO: may map below vm.mmap_min_addr.
        const SYS_RAWIO = 2;
        /// CAP_SYS_ADMIN: may use the reserve of committed memory.
        const SYS_ADMIN = 4;
        /// CAP_SYS_NICE: may advise on another process's memory.
        const SYS_NICE = 16;
        /// READ_IMPLIES_EXEC of the personality.
        const READ_IMPLIES_EXEC = 8;
    }
}

/// Value of a limit that is none (RLIM_INFINITY).
pub const NO_LIMIT: u64 = u64::MAX;

/// Limits of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// RLIMIT_AS.
    pub address_space: u64,
    /// RLIMIT_DATA.
    pub data: u64,
    /// Hard RLIMIT_DATA, which counts if the soft one is 0.
    pub data_max: u64,
    /// RLIMIT_STACK.
    pub stack: u64,
    /// RLIMIT_MEMLOCK.
    pub locked: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { address_space: NO_LIMIT, data: NO_LIMIT, data_max: NO_LIMIT, stack: 8 << 20, locked: 8 << 20 }
    }
}

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// What it may do.
    pub rights: Rights,
    /// What it may have.
    pub limits: Limits,
}

/// Which kernel's rules apply where releases differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Release {
    /// The reference, with its corrections up to 6.12.117.
    #[default]
    V6_12,
    /// As of 6.18.44, which lacks the latest of those corrections: MREMAP_DONTUNMAP unlocks all of the old area, may make one area of both places, and leaves the
    /// old one's page offset. Any advice for oneself by process_madvise (6.13), a huge page in the place of one of zeros that is written to (6.13), page tables freed by MADV_DONTNEED (6.14), merges where only one of the areas has anonymous pages (6.16), checks mremap's arguments before anything is done (6.17), moves several areas in one mremap (6.17), collapses what cannot be written (6.18).
    V6_18,
}

/// vm.* settings and constants of the build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whose rules apply.
    pub release: Release,
    /// vm.max_map_count.
    pub max_map_count: usize,
    /// Below this no address is given out: vm.mmap_min_addr, or CONFIG_LSM_MMAP_MIN_ADDR if that is higher.
    pub min_addr: VirtAddr,
    /// Below this a fixed address needs CAP_SYS_RAWIO: vm.mmap_min_addr (`dac_mmap_min_addr`).
    pub privileged_below: VirtAddr,
    /// Bytes that stay free below a stack (stack_guard_gap).
    pub guard_gap: u64,
    /// End of the addresses of a process (TASK_SIZE_MAX).
    pub task_size: VirtAddr,
    /// End of the addresses that are given out unasked (DEFAULT_MAP_WINDOW).
    pub default_window: VirtAddr,
    /// Bytes of a huge page (PMD_SIZE); 0 for a build without transparent huge pages.
    pub huge_page: u64,
    /// Which areas get huge pages (transparent_hugepage/enabled).
    pub huge: HugePolicy,
    /// Reads where a huge page may be map one of zeros that all share (transparent_hugepage/use_zero_page).
    pub use_zero_page: bool,
    /// Swap space or its code exists (CONFIG_SWAP): MADV_WILLNEED accepts anonymous areas.
    pub swap: SwapSupport,
    /// Protection keys: what may be executed only cannot be read.
    pub keys: ProtectionKeys,
}

/// Whether the processor has protection keys for a process's pages (PKU).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtectionKeys {
    /// X86_FEATURE_OSPKE. Only the key for what may be executed only is given out.
    Present,
    /// None.
    Absent,
}

/// Whether a kernel was built with swap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapSupport {
    /// CONFIG_SWAP.
    Built,
    /// None.
    Absent,
}

impl Settings {
    /// Linux's defaults on x86-64 with four levels of page tables.
    pub const X86_64: Self = Self {
        release: Release::V6_12,
        max_map_count: 65530,
        min_addr: VirtAddr::new(65536),
        privileged_below: VirtAddr::new(65536),
        guard_gap: 256 << 12,
        task_size: VirtAddr::new((1 << 47) - 4096),
        default_window: VirtAddr::new((1 << 47) - 4096),
        huge_page: 2 << 20,
        huge: HugePolicy::Always,
        use_zero_page: true,
        swap: SwapSupport::Built,
        keys: ProtectionKeys::Absent,
    };

    /// With five levels: addresses above 128 TiB are given out when asked for.
    pub const X86_64_LA57: Self = Self { task_size: VirtAddr::new((1 << 56) - 4096), ..Self::X86_64 };
}
