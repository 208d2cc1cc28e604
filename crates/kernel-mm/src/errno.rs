//! Linux's error numbers for the errors of the calls.
//!
//! The only place that knows them. Linux 6.12: include/uapi/asm-generic/errno-base.h, errno.h.

use address_space::{Absent, MmError};

/// Returns the number that a failed call returns, negated, to its process.
pub const fn errno(error: MmError) -> i32 {
    match error {
        MmError::NotPermitted => 1,
        MmError::Io => 5,
        MmError::BadFile => 9,
        MmError::TryAgain => 11,
        MmError::NoMemory => 12,
        MmError::AccessDenied => 13,
        MmError::BadAddress => 14,
        MmError::Busy => 16,
        MmError::Exists => 17,
        MmError::NoDevice => 19,
        // As of a kernel without CONFIG_HUGETLBFS, which knows no size of such pages.
        MmError::Invalid | MmError::Absent(Absent::HugeTlb) => 22,
        MmError::TooLarge => 27,
        MmError::NoSpace => 28,
        MmError::Absent(_) => 38,
        MmError::Overflow => 75,
        MmError::NotSupported => 95,
    }
}
