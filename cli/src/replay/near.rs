//! Which CPUs of the recorded machine are near which node: what the user says, what the recording's files say, or what its trace shows.

use recordings::CpuList;
use recordings::pages::{CpuNodeSource, CpuNodes, Recording, Snapshot};
use units::NodeId;

use crate::failure::Failure;

/// Reads a value of `--node-cpus`.
pub(super) fn parse(text: &str) -> Result<CpuList, String> {
    let (node, cpus) = text.split_once('=').ok_or("expected NODE=CPUS, as 0=0-3,8")?;
    let node = node.parse().ok().and_then(NodeId::try_new).ok_or("expected a node from 0 to 63 before the =")?;
    CpuList::parse(node, cpus).ok_or_else(|| format!("expected {} after the =", CpuList::FORM))
}

/// Finds the node of every CPU of a recording; `given` is what the user says.
pub(super) fn cpu_nodes(recording: &Recording, before: &Snapshot, given: &[CpuList]) -> Result<CpuNodes, Failure> {
    let reader = recording.events()?;
    let nr_cpus = reader.header().nr_cpus;
    if !given.is_empty() {
        return CpuNodes::listed(given, CpuNodeSource::Given, before, nr_cpus)
            .map_err(|conflict| Failure::Usage(format!("--node-cpus {}: {conflict}", conflict.node)));
    }
    let directory = recording.directory_before();
    let lists = CpuList::read_all(directory)?;
    if !lists.is_empty() {
        return Ok(CpuNodes::listed(&lists, CpuNodeSource::Files, before, nr_cpus)
            .map_err(|conflict| conflict.in_files(directory))?);
    }
    match CpuNodes::on_one_node(before, nr_cpus) {
        Some(nodes) => Ok(nodes),
        None => Ok(CpuNodes::inferred(before, reader)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_cpus_read_back() {
        let list = parse("1=0-1,4").unwrap();
        assert_eq!((list.node.raw(), list.cpus.len()), (1, 3));
        assert_eq!(parse("2=").unwrap().cpus, []);
    }

    #[test]
    fn other_values_are_refused() {
        for (text, expected) in [("0-3", "expected NODE=CPUS"), ("64=0", "from 0 to 63"), ("0=x", "after the =")] {
            assert!(parse(text).unwrap_err().contains(expected), "{text}");
        }
    }
}
