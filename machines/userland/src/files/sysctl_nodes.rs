//! The tree of /proc/sys: one directory, with the settings of memory.
//!
//! Linux 6.12: fs/proc/proc_sysctl.c, kernel/sysctl.c.

use kernel_mm::VmFile;

use super::{S_IFDIR, S_IFREG};

/// A node of /proc/sys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SysctlNode {
    Root,
    Vm,
    File(VmFile),
}

impl SysctlNode {
    /// Returns type and permissions.
    pub(crate) const fn mode(self) -> u32 {
        match self {
            Self::Root | Self::Vm => S_IFDIR | 0o555,
            Self::File(_) => S_IFREG | 0o644,
        }
    }

    /// Returns the node of a name in a directory.
    pub(crate) fn child(self, name: &[u8]) -> Option<Self> {
        match self {
            Self::Root => (name == b"vm").then_some(Self::Vm),
            Self::Vm => VmFile::ALL.iter().find(|(known, _)| known.as_bytes() == name).map(|it| Self::File(it.1)),
            Self::File(_) => None,
        }
    }

    /// Returns the directory that a node is in; `None` of the root.
    pub(crate) const fn parent(self) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Vm => Some(Self::Root),
            Self::File(_) => Some(Self::Vm),
        }
    }

    /// Returns the name at a place of a directory.
    pub(crate) fn fixed_name(self, index: usize) -> Option<&'static str> {
        match self {
            Self::Root => (index == 0).then_some("vm"),
            Self::Vm => VmFile::ALL.get(index).map(|it| it.0),
            Self::File(_) => None,
        }
    }

    /// Returns the path of the directory, and of a file its name in it.
    pub(crate) fn path(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Root => ("/proc/sys", None),
            Self::Vm => ("/proc/sys/vm", None),
            Self::File(file) => ("/proc/sys/vm", VmFile::ALL.iter().find(|(_, known)| *known == file).map(|it| it.0)),
        }
    }

    /// Returns a number that no other node of /proc/sys has.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Root => 0,
            Self::Vm => 1,
            Self::File(file) => 16 + file as u64,
        }
    }
}
