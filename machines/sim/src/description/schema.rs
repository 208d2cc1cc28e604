//! The form of a machine file, as serde reads it; nothing is checked here but the form of single values.
//!
//! Used by `check`, which makes a `Machine` of it.

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;
use units::{PhysAddr, PhysRange};

use super::arch::Granule;
use super::{LinuxVersion, MemoryModel};
use boot_memory::firmware::{RangeKind, take_size};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct MachineFile {
    pub(super) arch: ArchName,
    pub(super) page_size: Option<Spanned<Granule>>,
    #[serde(default)]
    pub(super) memory_model: MemoryModel,
    #[serde(default)]
    pub(super) linux: LinuxVersion,
    pub(super) cmdline: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) kernel: KernelTable,
    pub(super) nodes: Spanned<Vec<NodeTable>>,
    pub(super) distances: Option<Spanned<Distances>>,
    #[serde(default)]
    pub(super) firmware: Vec<FirmwareTable>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchName {
    #[serde(rename = "x86-64")]
    X86_64,
    #[serde(rename = "x86-64-la57")]
    X86_64La57,
    #[serde(rename = "i386")]
    I386,
    #[serde(rename = "arm64")]
    Arm64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct KernelTable {
    pub(super) image: Option<Spanned<RangeText>>,
    #[serde(default)]
    pub(super) reserved: Vec<Spanned<RangeText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeTable {
    pub(super) cpus: Option<Cpus>,
    #[serde(default)]
    pub(super) memory: Vec<Spanned<RangeText>>,
    #[serde(default)]
    pub(super) hotplug: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of CPUs or a list of CPU numbers")]
pub(super) enum Cpus {
    Count(u16),
    Numbers(Vec<u16>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a table of distances, or { remote = N } with optional group and near")]
pub(super) enum Distances {
    Table(Vec<Vec<u8>>),
    Rule(DistanceRule),
}

/// Distances by rule: `near` within a group of `group` neighbouring nodes, `remote` between groups.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DistanceRule {
    pub(super) remote: u8,
    pub(super) group: Option<usize>,
    pub(super) near: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FirmwareTable {
    pub(super) range: Spanned<RangeText>,
    pub(super) kind: KindText,
    #[serde(default)]
    pub(super) mirror: bool,
}

/// `START+SIZE`, sizes with suffixes, or `0xSTART-0xLAST`, both inclusive.
#[derive(Clone, Copy)]
pub(super) struct RangeText(pub(super) PhysRange);

impl<'de> Deserialize<'de> for RangeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected =
            "expected a range such as \"1M+511M\" (start and size) or \"0x100000-0x1fffffff\" (first and last byte)";
        parse_range(&text).map(Self).ok_or_else(|| de::Error::custom(format!("{expected}, found {text:?}")))
    }
}

fn parse_range(text: &str) -> Option<PhysRange> {
    let (start, rest) = take_size(text.trim())?;
    let end = match rest.split_at_checked(1)? {
        ("+", size) => start.checked_add(whole_size(size)?)?,
        ("-", last) => whole_size(last)?.checked_add(1)?,
        _ => return None,
    };
    (start < end).then(|| PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)))
}

fn whole_size(text: &str) -> Option<u64> {
    take_size(text).filter(|(_, rest)| rest.is_empty()).map(|(size, _)| size)
}

pub(super) struct KindText(pub(super) RangeKind);

impl<'de> Deserialize<'de> for KindText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error| de::Error::custom(format!("{error}, found {text:?}")))
    }
}
