//! First lines of a report: who could not allocate what.
//!
//! Written by the allocator's slow path above a [`ShowMem`](crate::ShowMem).
//! Linux 6.12: mm/page_alloc.c (`warn_alloc`), mm/oom_kill.c (`dump_header`).

use core::fmt;

use units::{NodeMask, Order};

use crate::GfpText;

/// `comm: page allocation failure: ...`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocationFailure<N> {
    /// Name of the task.
    pub comm: N,
    /// Order of the request.
    pub order: Order,
    /// Flags of the request.
    pub gfp: GfpText,
    /// Nodes that the caller allowed; `None` if it did not restrict them.
    pub nodemask: Option<NodeMask>,
    /// Path of the task's cpuset.
    pub cpuset: N,
    /// Nodes that the cpuset allows.
    pub mems_allowed: NodeMask,
}

impl<N: AsRef<str>> fmt::Display for AllocationFailure<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: page allocation failure: order:{}, ", self.comm.as_ref(), self.order)?;
        write!(f, "mode:{}, nodemask={}", self.gfp, OptionalNodes(self.nodemask))?;
        write!(f, ",cpuset={},mems_allowed={}", self.cpuset.as_ref(), NodeList(self.mems_allowed))
    }
}

/// `comm invoked oom-killer: ...`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OomInvocation<N> {
    /// Name of the task.
    pub comm: N,
    /// Flags of the request that found no memory.
    pub gfp: GfpText,
    /// Order of that request.
    pub order: Order,
    /// The task's own badness adjustment.
    pub oom_score_adj: i16,
}

impl<N: AsRef<str>> fmt::Display for OomInvocation<N> {
    /// Writes the line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} invoked oom-killer: gfp_mask={}, ", self.comm.as_ref(), self.gfp)?;
        write!(f, "order={}, oom_score_adj={}", self.order, self.oom_score_adj)
    }
}

struct OptionalNodes(Option<NodeMask>);

impl fmt::Display for OptionalNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nodes) => NodeList(nodes).fmt(f),
            None => f.write_str("(null)"),
        }
    }
}

/// A set of nodes as the kernel lists them: `0-3,8`.
pub(crate) struct NodeList(pub(crate) NodeMask);

impl fmt::Display for NodeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.0.iter().peekable();
        let mut separator = "";
        while let Some(first) = nodes.next() {
            write!(f, "{separator}{first}")?;
            separator = ",";
            let mut last = first;
            while let Some(next) = nodes.next_if(|next| next.raw() == last.raw() + 1) {
                last = next;
            }
            if last != first {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;
    use crate::Release;
    use units::NodeId;

    fn nodes(raw: &[u64]) -> NodeMask {
        raw.iter().fold(NodeMask::EMPTY, |mask, &raw| mask.with(NodeId::try_new(raw).unwrap()))
    }

    #[test]
    fn runs_of_nodes_are_folded() {
        assert_eq!(NodeList(nodes(&[0, 1, 2, 3, 8, 62, 63])).to_string(), "0-3,8,62-63");
        assert_eq!(NodeList(NodeMask::EMPTY).to_string(), "");
    }

    #[test]
    fn a_failure_prints_as_linux_does() {
        let failure = AllocationFailure {
            comm: "kswapd0",
            order: Order::ZERO,
            gfp: GfpText { release: Release::V6_18, bits: 0xc_0c40 },
            nodemask: None,
            cpuset: "/",
            mems_allowed: nodes(&[0]),
        };
        assert_eq!(
            failure.to_string(),
            "kswapd0: page allocation failure: order:0, mode:0xc0c40(GFP_NOFS|__GFP_COMP|__GFP_NOMEMALLOC), \
             nodemask=(null),cpuset=/,mems_allowed=0"
        );
    }

    #[test]
    fn an_invocation_of_the_killer_prints_as_linux_does() {
        let gfp = GfpText { release: Release::V6_1, bits: 0x14_0dca };
        let invocation = OomInvocation { comm: "busybox", gfp, order: Order::ZERO, oom_score_adj: -17 };
        assert_eq!(
            invocation.to_string(),
            "busybox invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, \
             oom_score_adj=-17"
        );
    }
}
