//! The tree of /proc: which names exist where. What its files say is written by `calls`, which may touch address spaces.
//!
//! Linux 6.12: fs/proc/base.c (`tgid_base_stuff`), fs/proc/root.c.

use super::{SysNode, SysctlNode};

/// A file of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProcessFile {
    Maps,
    Smaps,
    SmapsRollup,
    Status,
    Statm,
    Stat,
    Comm,
    Cmdline,
    Pagemap,
    ClearRefs,
    NumaMaps,
    Environ,
    Auxv,
    Limits,
    Mem,
}

/// A file of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GlobalFile {
    Meminfo,
    Buddyinfo,
    Pagetypeinfo,
    Vmstat,
    Zoneinfo,
    Slabinfo,
    Vmallocinfo,
    Uptime,
    Loadavg,
    Version,
    Cmdline,
    Mounts,
    Filesystems,
}

/// A node of /proc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProcNode {
    Root,
    /// /proc/self, a link.
    SelfLink,
    /// /proc/PID.
    Process(u32),
    ProcessFile(u32, ProcessFile),
    /// /proc/PID/task.
    Tasks(u32),
    /// /proc/PID/task/TID.
    Task(u32, u32),
    /// A file of a thread; those of its process have the same names.
    TaskFile(u32, u32, ProcessFile),
    /// /proc/PID/exe, a link.
    Exe(u32),
    /// /proc/PID/cwd, a link.
    Directory(u32),
    /// /proc/PID/fd.
    Descriptors(u32),
    /// /proc/PID/fd/N, a link.
    Descriptor(u32, u32),
    Global(GlobalFile),
    /// A node of /sys, which is of the same kind.
    Sys(SysNode),
    /// A node of /proc/sys.
    Sysctl(SysctlNode),
}

/// Files of a process with their permissions, in the order of their numbers.
const PROCESS_FILES: [(&str, ProcessFile, u32); 15] = [
    ("maps", ProcessFile::Maps, 0o444),
    ("smaps", ProcessFile::Smaps, 0o444),
    ("smaps_rollup", ProcessFile::SmapsRollup, 0o444),
    ("status", ProcessFile::Status, 0o444),
    ("statm", ProcessFile::Statm, 0o444),
    ("stat", ProcessFile::Stat, 0o444),
    ("comm", ProcessFile::Comm, 0o644),
    ("cmdline", ProcessFile::Cmdline, 0o444),
    ("pagemap", ProcessFile::Pagemap, 0o400),
    ("clear_refs", ProcessFile::ClearRefs, 0o200),
    ("numa_maps", ProcessFile::NumaMaps, 0o444),
    ("environ", ProcessFile::Environ, 0o400),
    ("auxv", ProcessFile::Auxv, 0o400),
    ("limits", ProcessFile::Limits, 0o444),
    ("mem", ProcessFile::Mem, 0o600),
];

const GLOBAL_FILES: [(&str, GlobalFile); 13] = [
    ("meminfo", GlobalFile::Meminfo),
    ("buddyinfo", GlobalFile::Buddyinfo),
    ("pagetypeinfo", GlobalFile::Pagetypeinfo),
    ("vmstat", GlobalFile::Vmstat),
    ("zoneinfo", GlobalFile::Zoneinfo),
    ("slabinfo", GlobalFile::Slabinfo),
    ("vmallocinfo", GlobalFile::Vmallocinfo),
    ("uptime", GlobalFile::Uptime),
    ("loadavg", GlobalFile::Loadavg),
    ("version", GlobalFile::Version),
    ("cmdline", GlobalFile::Cmdline),
    ("mounts", GlobalFile::Mounts),
    ("filesystems", GlobalFile::Filesystems),
];

impl GlobalFile {
    /// Returns the file's name in /proc.
    pub(crate) fn name(self) -> &'static str {
        GLOBAL_FILES.iter().find(|(_, file)| *file == self).map_or("", |(name, _)| name)
    }
}

impl ProcessFile {
    /// Returns the file's name in /proc/PID.
    pub(crate) fn name(self) -> &'static str {
        PROCESS_FILES.iter().find(|(_, file, _)| *file == self).map_or("", |(name, ..)| name)
    }

    fn permissions(self) -> u32 {
        PROCESS_FILES.iter().find(|(_, file, _)| *file == self).map_or(0, |(_, _, permissions)| *permissions)
    }
}

/// Permissions and type of a node, as stat's mode.
const FILE_MODE: u32 = super::S_IFREG | 0o444;
const DIRECTORY_MODE: u32 = super::S_IFDIR | 0o555;
const LINK_MODE: u32 = super::S_IFLNK | 0o777;

/// Reads a decimal number without sign, leading zero or rest.
pub(crate) fn number(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    if has_leading_zero || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Returns the file of a name in a process's directory.
fn process_file(name: &[u8]) -> Option<ProcessFile> {
    PROCESS_FILES.iter().find(|(known, ..)| known.as_bytes() == name).map(|it| it.1)
}

impl ProcNode {
    /// Returns type and permissions.
    pub(crate) fn mode(self) -> u32 {
        match self {
            Self::Root | Self::Process(_) | Self::Tasks(_) | Self::Task(..) | Self::Descriptors(_) => DIRECTORY_MODE,
            Self::SelfLink | Self::Exe(_) | Self::Directory(_) | Self::Descriptor(..) => LINK_MODE,
            Self::ProcessFile(_, file) | Self::TaskFile(_, _, file) => super::S_IFREG | file.permissions(),
            Self::Global(_) => FILE_MODE,
            Self::Sys(node) => node.mode(),
            Self::Sysctl(node) => node.mode(),
        }
    }

    /// Returns the file of a process or thread that the node is, with the process's number.
    pub(crate) const fn file(self) -> Option<(u32, ProcessFile)> {
        match self {
            Self::ProcessFile(pid, file) | Self::TaskFile(pid, _, file) => Some((pid, file)),
            _ => None,
        }
    }

    /// Returns the number of the process that the node is of.
    pub(crate) const fn process(self) -> Option<u32> {
        match self {
            Self::Root | Self::SelfLink | Self::Global(_) | Self::Sys(_) | Self::Sysctl(_) => None,
            Self::Process(pid)
            | Self::ProcessFile(pid, _)
            | Self::Tasks(pid)
            | Self::Task(pid, _)
            | Self::TaskFile(pid, ..)
            | Self::Exe(pid)
            | Self::Directory(pid)
            | Self::Descriptors(pid)
            | Self::Descriptor(pid, _) => Some(pid),
        }
    }

    /// Returns the node of a name in a directory; whether a process or descriptor of that number exists is the caller's to check.
    pub(crate) fn child(self, name: &[u8]) -> Option<Self> {
        match self {
            Self::Root => match name {
                b"self" | b"thread-self" => Some(Self::SelfLink),
                b"sys" => Some(Self::Sysctl(SysctlNode::Root)),
                _ => number(name).map(Self::Process).or_else(|| {
                    let file = GLOBAL_FILES.iter().find(|(known, _)| known.as_bytes() == name)?.1;
                    Some(Self::Global(file))
                }),
            },
            Self::Process(pid) => match name {
                b"exe" => Some(Self::Exe(pid)),
                b"cwd" => Some(Self::Directory(pid)),
                b"fd" => Some(Self::Descriptors(pid)),
                b"task" => Some(Self::Tasks(pid)),
                _ => process_file(name).map(|file| Self::ProcessFile(pid, file)),
            },
            Self::Tasks(pid) => number(name).map(|tid| Self::Task(pid, tid)),
            Self::Task(pid, tid) => process_file(name).map(|file| Self::TaskFile(pid, tid, file)),
            Self::Descriptors(pid) => number(name).map(|descriptor| Self::Descriptor(pid, descriptor)),
            Self::Sys(node) => node.child(name).map(Self::Sys),
            Self::Sysctl(node) => node.child(name).map(Self::Sysctl),
            _ => None,
        }
    }

    /// Returns the directory that a directory is in; `None` of the root.
    pub(crate) fn parent(self) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Sys(node) => node.parent().map(Self::Sys),
            Self::Sysctl(node) => Some(node.parent().map_or(Self::Root, Self::Sysctl)),
            Self::Descriptors(pid) | Self::Tasks(pid) => Some(Self::Process(pid)),
            Self::Task(pid, _) => Some(Self::Tasks(pid)),
            _ => Some(Self::Root),
        }
    }

    /// Returns the name at a place among the fixed names of a directory.
    pub(crate) fn fixed_name(self, index: usize) -> Option<&'static str> {
        match self {
            Self::Root => match index {
                0 => Some("self"),
                1 => Some("sys"),
                _ => Some(GLOBAL_FILES.get(index - 2)?.0),
            },
            Self::Process(_) => match index {
                0 => Some("exe"),
                1 => Some("cwd"),
                2 => Some("fd"),
                3 => Some("task"),
                _ => Some(PROCESS_FILES.get(index - 4)?.0),
            },
            Self::Task(..) => Some(PROCESS_FILES.get(index)?.0),
            Self::Sys(node) => node.fixed_name(index),
            Self::Sysctl(node) => node.fixed_name(index),
            _ => None,
        }
    }

    /// Returns the inode number.
    pub(crate) const fn number(self) -> u64 {
        const PROCESS_SHIFT: u32 = 24;
        const OF_TASK: u64 = 1 << 60;
        match self {
            Self::Root => 1,
            Self::SelfLink => 2,
            Self::Tasks(pid) => (pid as u64) << PROCESS_SHIFT | 4,
            Self::Task(_, tid) => OF_TASK | (tid as u64) << PROCESS_SHIFT,
            Self::TaskFile(_, tid, file) => OF_TASK | (tid as u64) << PROCESS_SHIFT | (16 + file as u64),
            Self::Global(file) => 16 + file as u64,
            Self::Sys(node) => 1 << 16 | node.number(),
            Self::Sysctl(node) => 1 << 17 | node.number(),
            Self::Process(pid) => (pid as u64) << PROCESS_SHIFT,
            Self::Exe(pid) => (pid as u64) << PROCESS_SHIFT | 1,
            Self::Directory(pid) => (pid as u64) << PROCESS_SHIFT | 2,
            Self::Descriptors(pid) => (pid as u64) << PROCESS_SHIFT | 3,
            Self::ProcessFile(pid, file) => ((pid as u64) << PROCESS_SHIFT) | (16 + file as u64),
            Self::Descriptor(pid, descriptor) => ((pid as u64) << PROCESS_SHIFT) | (64 + descriptor as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixed_name_leads_to_a_node() {
        for directory in [ProcNode::Root, ProcNode::Process(7), ProcNode::Task(7, 8)] {
            let names: alloc::vec::Vec<_> = (0..).map_while(|index| directory.fixed_name(index)).collect();
            assert!(names.len() > 10);
            assert!(names.iter().all(|name| directory.child(name.as_bytes()).is_some()));
        }
    }

    #[test]
    fn only_plain_numbers_are_processes() {
        assert_eq!(ProcNode::Root.child(b"12"), Some(ProcNode::Process(12)));
        for name in [&b"012"[..], b"+1", b"", b"1x", b"99999999999"] {
            assert_eq!(ProcNode::Root.child(name), None);
        }
    }
}
