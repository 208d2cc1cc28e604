//! The tree of /sys: as much of it as there is to tell about huge pages. Linux 6.12: mm/huge_memory.c (`hugepage_init_sysfs`), mm/khugepaged.c.

use kernel_mm::HugeFile;

use super::{S_IFDIR, S_IFREG};
use crate::khugepaged::KhugepagedFile;

/// A node of /sys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SysNode {
    Root,
    /// /sys/kernel.
    Kernel,
    /// /sys/kernel/mm.
    Mm,
    /// /sys/kernel/mm/transparent_hugepage.
    Huge,
    File(HugeFile),
    /// The directory beside them, and its files.
    Khugepaged,
    Thread(KhugepagedFile),
}

/// The name of khugepaged's directory, behind the files about huge pages.
const KHUGEPAGED: &str = "khugepaged";

/// Directories from the root down, each with its path and the name of the one below it.
const DIRECTORIES: [(SysNode, &str, &str); 5] = [
    (SysNode::Root, "/sys", "kernel"),
    (SysNode::Kernel, "/sys/kernel", "mm"),
    (SysNode::Mm, "/sys/kernel/mm", "transparent_hugepage"),
    (SysNode::Huge, "/sys/kernel/mm/transparent_hugepage", KHUGEPAGED),
    (SysNode::Khugepaged, "/sys/kernel/mm/transparent_hugepage/khugepaged", ""),
];

impl SysNode {
    /// Returns how far below the root a directory is; of a file that of its own.
    const fn depth(self) -> usize {
        match self {
            Self::Root => 0,
            Self::Kernel => 1,
            Self::Mm => 2,
            Self::Huge | Self::File(_) => 3,
            Self::Khugepaged | Self::Thread(_) => 4,
        }
    }

    /// Returns a file's name and permissions.
    fn file(self) -> Option<(&'static str, u32)> {
        let huge = HugeFile::ALL.iter().find(|(_, file, _)| self == Self::File(*file)).map(|it| (it.0, it.2));
        huge.or_else(|| {
            KhugepagedFile::ALL.iter().find(|(_, file, _)| self == Self::Thread(*file)).map(|it| (it.0, it.2))
        })
    }

    /// Returns type and permissions.
    pub(crate) fn mode(self) -> u32 {
        self.file().map_or(S_IFDIR | 0o555, |(_, permissions)| S_IFREG | permissions)
    }

    /// Returns the node of a name in a directory.
    pub(crate) fn child(self, name: &[u8]) -> Option<Self> {
        match self {
            Self::Huge if name != KHUGEPAGED.as_bytes() => {
                HugeFile::ALL.iter().find(|(known, ..)| known.as_bytes() == name).map(|it| Self::File(it.1))
            }
            Self::Khugepaged => {
                KhugepagedFile::ALL.iter().find(|(known, ..)| known.as_bytes() == name).map(|it| Self::Thread(it.1))
            }
            Self::File(_) | Self::Thread(_) => None,
            _ => {
                let (.., below) = DIRECTORIES.get(self.depth())?;
                let (child, ..) = DIRECTORIES.get(self.depth() + 1)?;
                (below.as_bytes() == name).then_some(*child)
            }
        }
    }

    /// Returns the directory that a node is in; `None` of the root.
    pub(crate) fn parent(self) -> Option<Self> {
        match self {
            Self::File(_) => Some(Self::Huge),
            Self::Thread(_) => Some(Self::Khugepaged),
            _ => DIRECTORIES.get(self.depth().checked_sub(1)?).map(|it| it.0),
        }
    }

    /// Returns the name at a place of a directory.
    pub(crate) fn fixed_name(self, index: usize) -> Option<&'static str> {
        match self {
            Self::Huge if index < HugeFile::ALL.len() => HugeFile::ALL.get(index).map(|it| it.0),
            Self::Huge => (index == HugeFile::ALL.len()).then_some(KHUGEPAGED),
            Self::Khugepaged => KhugepagedFile::ALL.get(index).map(|it| it.0),
            Self::File(_) | Self::Thread(_) => None,
            _ => DIRECTORIES.get(self.depth()).filter(|_| index == 0).map(|it| it.2),
        }
    }

    /// Returns the path of the directory, and of a file its name in it.
    pub(crate) fn path(self) -> (&'static str, Option<&'static str>) {
        (DIRECTORIES.get(self.depth()).map_or("", |it| it.1), self.file().map(|it| it.0))
    }

    /// Returns a number that no other node of /sys has.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::File(file) => 16 + file as u64,
            Self::Thread(file) => 32 + file as u64,
            _ => self.depth() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_down_and_back() {
        let mut node = SysNode::Root;
        for name in ["kernel", "mm", "transparent_hugepage", "enabled"] {
            assert!((0..).map_while(|index| node.fixed_name(index)).any(|fixed| fixed == name));
            let child = node.child(name.as_bytes()).unwrap();
            assert_eq!(child.parent(), Some(node));
            node = child;
        }
        assert_eq!(node.path(), ("/sys/kernel/mm/transparent_hugepage", Some("enabled")));
        assert_eq!((node.mode(), node.child(b"enabled"), SysNode::Root.parent()), (S_IFREG | 0o644, None, None));
        assert_eq!(SysNode::Mm.child(b"ksm"), None);
        let thread = SysNode::Huge.child(b"khugepaged").unwrap();
        let setting = thread.child(b"pages_to_scan").unwrap();
        assert_eq!((thread.parent(), setting.parent()), (Some(SysNode::Huge), Some(thread)));
        assert_eq!(setting.path(), ("/sys/kernel/mm/transparent_hugepage/khugepaged", Some("pages_to_scan")));
    }
}
