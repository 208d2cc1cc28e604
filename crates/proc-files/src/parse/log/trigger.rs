//! The line that says why a memory report follows.

use std::fmt;
use std::string::String;
use std::vec::Vec;

use units::Gfp;

use crate::gfp_from_name;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TriggerKind {
    /// `page allocation failure`
    AllocationFailure,
    /// `invoked oom-killer`
    OomKiller,
    /// `vmalloc: allocation failure` or `vmalloc error`
    Vmalloc,
}

/// A line that starts a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// What happened.
    pub kind: TriggerKind,
    /// Name of the task.
    pub comm: String,
    /// Order of the request; -1 where the killer was called by hand, `None` for vmalloc.
    pub order: Option<i32>,
    /// Flags of the request, in the bits of the release that wrote the line.
    pub gfp_bits: Option<u32>,
    /// Names of the flags; empty before 4.6, which printed none.
    pub gfp_names: Vec<String>,
    /// Nodes that the caller allowed, as printed; `None` if the line does not say.
    pub nodemask: Option<String>,
    /// Cpuset of the task, from 5.0 on.
    pub cpuset: Option<String>,
    /// Nodes that the cpuset allows, as printed, from 5.0 on.
    pub mems_allowed: Option<String>,
    text: String,
}

impl Trigger {
    /// Reads a line without its prefix; `None` if it is something else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (comm, kind, details) = split(text)?;
        let (gfp_bits, gfp_names) = gfp(details);
        let order = value(details, "order:").or_else(|| value(details, "order="));
        Some(Self {
            kind,
            comm: comm.into(),
            order: order.and_then(|order| order.parse().ok()),
            gfp_bits,
            gfp_names,
            nodemask: value(details, "nodemask=").map(Into::into),
            cpuset: value(details, "cpuset=").map(Into::into),
            mems_allowed: list_value(details, "mems_allowed=").map(Into::into),
            text: text.into(),
        })
    }

    /// Returns the flags by their names, whose meaning did not change between releases as their bits did.
    ///
    /// `None` if the line has no names, or one that 6.12 does not know.
    pub fn gfp(&self) -> Option<Gfp> {
        if self.gfp_names.is_empty() {
            return None;
        }
        self.gfp_names.iter().try_fold(Gfp::empty(), |all, name| gfp_from_name(name).map(|gfp| all | gfp))
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits a trigger into the task's name, the kind and the details behind.
fn split(text: &str) -> Option<(&str, TriggerKind, &str)> {
    const KINDS: [(&str, TriggerKind); 5] = [
        (": page allocation failure: ", TriggerKind::AllocationFailure),
        (": page allocation failure. ", TriggerKind::AllocationFailure),
        (" invoked oom-killer: ", TriggerKind::OomKiller),
        (": vmalloc: allocation failure: ", TriggerKind::Vmalloc),
        (": vmalloc error: ", TriggerKind::Vmalloc),
    ];
    KINDS.iter().find_map(|(words, kind)| text.split_once(words).map(|(comm, details)| (comm, *kind, details)))
}

/// Returns what follows `key`, up to a comma or blank.
fn value<'a>(details: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = details.split_once(key)?;
    rest.split([',', ' ']).next()
}

/// Returns the list that follows `key`: numbers and ranges with commas between.
fn list_value<'a>(details: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = details.split_once(key)?;
    rest.split(|c: char| !c.is_ascii_digit() && c != ',' && c != '-').next()
}

fn gfp(details: &str) -> (Option<u32>, Vec<String>) {
    let Some((_, rest)) = details.split_once("mode:0x").or_else(|| details.split_once("gfp_mask=0x")) else {
        return (None, Vec::new());
    };
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or("");
    let names = rest.get(digits.len()..).and_then(|rest| rest.strip_prefix('(')).and_then(|rest| rest.split_once(')'));
    let names = names.map_or("", |(names, _)| names);
    let names = names.split('|').filter(|name| !name.is_empty());
    (u32::from_str_radix(digits, 16).ok(), names.map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_6_12_reads_whole() {
        let line = "kworker/u32:12: page allocation failure: order:2, mode:0xc04(GFP_NOIO|GFP_DMA32), \
                    nodemask=0-1,cpuset=/a,mems_allowed=0-1,3";
        let trigger = Trigger::read(line).unwrap();
        assert_eq!((trigger.kind, trigger.comm.as_str()), (TriggerKind::AllocationFailure, "kworker/u32:12"));
        assert_eq!((trigger.order, trigger.gfp_bits), (Some(2), Some(0xc04)));
        assert_eq!(trigger.gfp(), Some(Gfp::NOIO | Gfp::DMA32));
        assert_eq!(trigger.nodemask.as_deref(), Some("0-1"));
        assert_eq!((trigger.cpuset.as_deref(), trigger.mems_allowed.as_deref()), (Some("/a"), Some("0-1,3")));
    }

    #[test]
    fn older_forms_give_what_they_have() {
        let trigger = Trigger::read("exe: page allocation failure. order:6, mode:0x10c0d0").unwrap();
        assert_eq!((trigger.order, trigger.gfp_bits, trigger.gfp()), (Some(6), Some(0x10_c0d0), None));
        let trigger = Trigger::read(
            "nfsd invoked oom-killer: gfp_mask=0x6040c0(GFP_KERNEL|__GFP_COMP), nodemask=(null), order=-1",
        )
        .unwrap();
        assert_eq!((trigger.kind, trigger.order), (TriggerKind::OomKiller, Some(-1)));
        let line = "a: vmalloc error: size 0, page order 9, failed to allocate pages, mode:0xcc2(GFP_KERNEL)";
        assert_eq!(
            Trigger::read(line).map(|trigger| (trigger.kind, trigger.order)),
            Some((TriggerKind::Vmalloc, None))
        );
    }

    #[test]
    fn a_flag_that_is_gone_leaves_the_names_only() {
        let line = "sh invoked oom-killer: gfp_mask=0x27080c0(GFP_KERNEL_ACCOUNT|__GFP_NOTRACK), order=0";
        let trigger = Trigger::read(line).unwrap();
        assert_eq!((trigger.gfp(), trigger.gfp_names.len()), (None, 2));
    }
}
