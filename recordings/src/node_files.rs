//! What a recorded machine's /sys/devices/system/node said: the distances between its nodes, and which CPUs are near which node.
//!
//! The files lie beside the others of a recording as `node-nodeN-distance` and `node-nodeN-cpulist`. Each may be missing.
//! Linux 6.12: drivers/base/node.c (`node_read_distance`, `cpulist_read`), lib/vsprintf.c (lists of bits).

use std::path::{Path, PathBuf};

use boot_memory::firmware::{LOCAL_DISTANCE, REMOTE_DISTANCE};
use units::{CpuId, NodeId, NodeMask};

use crate::input_error::{InputError, Place, quoted, read_text};

/// Distances between nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeDistances {
    /// Rows of the nodes that had a file; the columns are the same nodes.
    rows: Vec<(NodeId, Vec<u8>)>,
}

impl NodeDistances {
    /// Distances of a machine that has no such files.
    pub const UNKNOWN: Self = Self { rows: Vec::new() };

    /// Reads the files of all nodes in `directory`.
    ///
    /// # Errors
    /// A file is not one line of distances, with one for each node that has a file.
    pub fn read(directory: &Path) -> Result<Self, InputError> {
        let mut found = Vec::new();
        for node in NodeMask::ALL.iter() {
            let path = directory.join(format!("node-node{node}-distance"));
            if let Some(text) = line_of(&path)?.filter(|text| !text.is_empty()) {
                found.push((node, path, text));
            }
        }
        let nr_nodes = found.len();
        let rows = found.into_iter().map(|(node, path, text)| {
            let bad = |expected: String| InputError::new(&path, Place::Line(1), quoted(text.as_bytes()), expected);
            let row: Option<Vec<u8>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
            let row = row.filter(|row| row.iter().all(|distance| *distance >= LOCAL_DISTANCE));
            let row = row.ok_or_else(|| bad("distances from 10 to 255, one for each node".to_owned()))?;
            if row.len() == nr_nodes {
                return Ok((node, row));
            }
            Err(bad(format!("{nr_nodes} distances, one for each node with such a file")))
        });
        Ok(Self { rows: rows.collect::<Result<_, _>>()? })
    }

    /// Returns the distance between two nodes; 10 and 20 where the files say nothing.
    pub fn get(&self, from: NodeId, to: NodeId) -> u8 {
        let column = self.rows.iter().position(|(node, _)| *node == to);
        let row = self.rows.iter().find(|(node, _)| *node == from);
        let known = row.zip(column).and_then(|((_, row), column)| row.get(column).copied());
        known.unwrap_or(if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE })
    }
}

/// The CPUs of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuList {
    /// The node.
    pub node: NodeId,
    /// Its CPUs; none if it has only memory.
    pub cpus: Vec<CpuId>,
}

impl CpuList {
    /// Reads numbers and ranges of CPUs with commas between them, as the kernel prints them: `0-3,8`. Returns `None` for anything else.
    pub fn parse(node: NodeId, text: &str) -> Option<Self> {
        let mut cpus = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let [first, last] = [first, last].map(|word| {
                let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| word.parse().ok().and_then(CpuId::try_new)).flatten()
            });
            let (first, last) = (first?, last?);
            if last < first {
                return None;
            }
            cpus.extend((u64::from(first.raw())..=u64::from(last.raw())).filter_map(CpuId::try_new));
        }
        Some(Self { node, cpus })
    }

    /// What [`CpuList::parse`] takes, for messages.
    pub const FORM: &str = "CPU numbers and ranges below 4096, as 0-3,8";

    /// Returns the file of `node` in `directory`.
    pub fn path(directory: &Path, node: NodeId) -> PathBuf {
        directory.join(format!("node-node{node}-cpulist"))
    }

    /// Reads the files of all nodes in `directory`; nodes without a file are left out.
    ///
    /// # Errors
    /// A file is not one line that [`CpuList::parse`] takes.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>, InputError> {
        let mut lists = Vec::new();
        for node in NodeMask::ALL.iter() {
            let path = Self::path(directory, node);
            let Some(text) = line_of(&path)? else { continue };
            let list = Self::parse(node, &text)
                .ok_or_else(|| InputError::new(&path, Place::Line(1), quoted(text.as_bytes()), Self::FORM))?;
            lists.push(list);
        }
        Ok(lists)
    }
}

/// Reads a file of one line, without what surrounds it; `None` if there is none.
fn line_of(path: &Path) -> Result<Option<String>, InputError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(path)?;
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.next() {
        None => Ok(Some(first)),
        Some(second) => Err(InputError::new(path, Place::Line(2), quoted(second.as_bytes()), "a single line")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory(test: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("mmkit-node-files-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        directory
    }

    fn distances(test: &str, files: &[(&str, &str)]) -> Result<NodeDistances, InputError> {
        let directory = directory(test, files);
        let read = NodeDistances::read(&directory);
        fs::remove_dir_all(&directory).unwrap();
        read
    }

    fn lists(test: &str, files: &[(&str, &str)]) -> Result<Vec<CpuList>, InputError> {
        let directory = directory(test, files);
        let read = CpuList::read_all(&directory);
        fs::remove_dir_all(&directory).unwrap();
        read
    }

    fn node(raw: u64) -> NodeId {
        NodeId::try_new(raw).unwrap()
    }

    #[test]
    fn recorded_distances_read_back_and_the_rest_is_the_kernels_default() {
        let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boots/numa2");
        let read = NodeDistances::read(&boot).unwrap();
        assert_eq!((read.get(node(0), node(0)), read.get(node(0), node(1))), (10, 21));
        assert_eq!((read.get(node(5), node(5)), read.get(node(5), node(1))), (10, 20));
    }

    #[test]
    fn distances_of_another_number_of_nodes_are_refused() {
        let error = distances("three", &[("node-node0-distance", "10 20 30\n")]).unwrap_err();
        assert!(error.file.ends_with("node-node0-distance"));
        assert_eq!((error.place, error.found.as_str()), (Place::Line(1), "\"10 20 30\""));
        for text in ["10 x\n", "10 300\n", "10 5\n"] {
            let both = [("node-node0-distance", text), ("node-node1-distance", "20 10\n")];
            assert!(distances("bad", &both).unwrap_err().expected.starts_with("distances from 10"), "{text}");
        }
    }

    #[test]
    fn cpu_lists_read_as_the_kernel_prints_them() {
        let read = lists("lists", &[("node-node0-cpulist", "0-2,8\n"), ("node-node2-cpulist", "\n")]).unwrap();
        let numbers: Vec<Vec<u16>> = read.iter().map(|list| list.cpus.iter().map(|cpu| cpu.raw()).collect()).collect();
        assert_eq!(numbers, [vec![0, 1, 2, 8], Vec::new()]);
        assert_eq!(read[1].node, node(2));
    }

    #[test]
    fn damaged_cpu_lists_are_refused_with_file_and_line() {
        for text in ["x", "3-1", "0-", "0,,1", "4096", "+1", "0 1", "0-99999"] {
            let error = lists("damaged", &[("node-node1-cpulist", text)]).unwrap_err();
            assert!(error.file.ends_with("node-node1-cpulist"), "{text}");
            assert_eq!((error.place, error.expected.as_str()), (Place::Line(1), CpuList::FORM), "{text}");
        }
        let error = lists("two", &[("node-node1-cpulist", "0\n1\n")]).unwrap_err();
        assert_eq!(error.place, Place::Line(2));
    }
}
