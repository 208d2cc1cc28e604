//! Why a call on an address space failed. Linux's error numbers are given to these by `kernel-mm` only.

use core::fmt;

use object_allocator::ObjectError;

/// A call failed. What it changed before is said by the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmError {
    /// An argument that no address space could serve (EINVAL).
    Invalid,
    /// No memory, address, permitted size or number of areas is left, or part of a range is not mapped (ENOMEM).
    NoMemory,
    /// More would be locked than the process may lock, or there was no memory for advice or for populating locked pages (EAGAIN).
    TryAgain,
    /// No area lies where one is needed (EFAULT).
    BadAddress,
    /// Something is mapped there (EEXIST).
    Exists,
    /// The process may not do this (EPERM).
    NotPermitted,
    /// The file or area may not be used that way (EACCES).
    AccessDenied,
    /// The file cannot be mapped (ENODEV).
    NoDevice,
    /// The range does not fit the file's offsets (EOVERFLOW).
    Overflow,
    /// A flag that this file's mapping does not know (EOPNOTSUPP).
    NotSupported,
    /// Nothing stands behind the advice for this area (EBADF).
    BadFile,
    /// The area is locked in memory (EBUSY).
    Busy,
    /// A part of Linux that this memory manager does not have: the call has done nothing (ENOSYS).
    Absent(Absent),
    /// Reading or writing the file failed (EIO).
    Io,
    /// More memory would be promised to a file than may be (ENOSPC).
    NoSpace,
    /// The file would be larger than a file may be (EFBIG).
    TooLarge,
}

/// Parts of Linux that are not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// Pages of hugetlbfs.
    HugeTlb,
    /// Guard regions (MADV_GUARD_INSTALL).
    GuardRegions,
}

impl fmt::Display for MmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the arguments cannot be served",
            Self::NoMemory => "no memory, address or area is left, or part of the range is not mapped",
            Self::TryAgain => "no memory for it now, or more would be locked than the limit allows",
            Self::BadAddress => "no suitable area is there",
            Self::Exists => "something is mapped there",
            Self::NotPermitted => "the process may not do this",
            Self::AccessDenied => "the file or area does not allow it",
            Self::NoDevice => "the file cannot be mapped",
            Self::Overflow => "the range does not fit the file's offsets",
            Self::NotSupported => "a flag that the mapping does not know",
            Self::BadFile => "the area has nothing that the advice is about",
            Self::Busy => "the area is locked in memory",
            Self::Absent(Absent::HugeTlb) => "pages of hugetlbfs are not here",
            Self::Absent(Absent::GuardRegions) => "guard regions are not here",
            Self::Io => "the file could not be read or written",
            Self::NoSpace => "no memory may be promised to the file",
            Self::TooLarge => "the file would be too large",
        })
    }
}

impl core::error::Error for MmError {}

impl From<ObjectError> for MmError {
    fn from(_: ObjectError) -> Self {
        Self::NoMemory
    }
}
