//! Tests of the reader of memory reports.

use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use units::{MigrateType, NodeId, Order, ZoneType};

use super::*;
use crate::show_mem::TypeSet;

/// A report of a machine with two nodes, with what a log puts around it.
const NUMA: &str = "\
[   10.000001] eth0: link up
[   12.345678] dd: page allocation failure: order:3, mode:0x40dc0(GFP_KERNEL|__GFP_COMP|__GFP_ZERO), nodemask=0-1,cpuset=/,mems_allowed=0-1
[   12.345679] CPU: 1 UID: 0 PID: 7 Comm: dd Not tainted 6.12.0 #1
[   12.345680] Mem-Info:
[   12.345681] active_anon:1 inactive_anon:2 isolated_anon:3
[   12.345681]  free:900 free_pcp:5 free_cma:6
[   12.345682] Node 0 active_anon:4kB shmem_thp:0kB all_unreclaimable? no
[   12.345683] Node 1 active_anon:8kB shmem_thp:0kB all_unreclaimable? yes
[   12.345684] Node 0 DMA32 free:1600kB boost:0kB min:40kB reserved_highatomic:2048KB
[   12.345685] lowmem_reserve[]: 0 0 77
[   12.345686] Node 1 Normal free:2000kB boost:4kB min:44kB reserved_highatomic:0KB
[   12.345687] lowmem_reserve[]: 0 0 0
[   12.345688] Node 0 DMA32: 0*4kB 200*8kB (UME) = 1600kB
[   12.345689] Node 1 Normal: 100*4kB (MC) 200*8kB (UMH) = 2000kB
[   12.345690] Node 0 hugepages_total=1 hugepages_free=2 hugepages_surp=3 hugepages_size=2048kB
[   12.345691] 33 total pagecache pages
[   12.345692] 4 pages in swap cache
[   12.345693] Free swap  = 5kB
[   12.345694] Total swap = 6kB
[   12.345695] 1000 pages RAM
[   12.345696] 0 pages HighMem/MovableOnly
[   12.345697] eth0: link down
";

fn node(raw: u64) -> NodeId {
    NodeId::try_new(raw).unwrap()
}

#[test]
fn a_report_of_two_nodes_is_read_whole() {
    let log = Log::parse(NUMA);
    assert_eq!((log.to_string().as_str(), log.problems()), (NUMA, [].as_slice()));
    // The two lines about the network and the one about the CPU.
    assert_eq!(log.nr_verbatim(), 3);
    let report = log.reports().next().unwrap();
    assert_eq!((report.line, report.trigger.unwrap().order), (4, Some(3)));
    assert_eq!(["isolated_anon", "free", "mapped"].map(|name| report.total(name)), [Some(3), Some(900), None]);
    let nodes: Vec<_> = report.nodes().map(|node| (node.node, node.field("all_unreclaimable"))).collect();
    assert_eq!(nodes, [(node(0), Some(0)), (node(1), Some(1))]);
    assert_eq!((report.count("total pagecache pages"), report.count("pages RAM")), (Some(33), Some(1000)));
    assert_eq!((report.swap_kb("Free swap"), report.swap_kb("Total swap")), (Some(5), Some(6)));
    let pool = HugePages { node: node(0), total: 1, free: 2, surplus: 3, size_kb: 2048 };
    assert_eq!(report.huge_pages().collect::<Vec<_>>(), [pool]);
}

#[test]
fn zones_have_their_fields_reserves_and_lists() {
    let log = Log::parse(NUMA);
    let zones = log.reports().next().unwrap().zones();
    let names: Vec<_> = zones.iter().map(|zone| (zone.node, zone.zone)).collect();
    assert_eq!(names, [(Some(node(0)), ZoneType::Dma32), (Some(node(1)), ZoneType::Normal)]);
    assert_eq!((zones[0].field("reserved_highatomic"), zones[1].field("boost")), (Some(2048), Some(4)));
    assert_eq!((zones[0].lowmem_reserve, zones[0].page_kb()), ([0, 0, 77].as_slice(), Some(4)));
    let types =
        TypeSet::default().with(MigrateType::Unmovable).with(MigrateType::Movable).with(MigrateType::HighAtomic);
    let one = Order::try_new(1).unwrap();
    assert_eq!(zones[1].free_blocks(one), Some(FreeBlocks { nr_free: 200, types }));
    assert_eq!(zones[1].free_blocks(Order::try_new(2).unwrap()), None);
}

#[test]
fn reports_that_follow_each_other_are_kept_apart() {
    let second = NUMA.replace("free:900", "free:901").replace("order:3", "order:0");
    let log = Log::parse(&format!("{NUMA}{second}"));
    let found: Vec<_> = log.reports().map(|report| (report.total("free"), report.trigger.unwrap().order)).collect();
    assert_eq!(found, [(Some(900), Some(3)), (Some(901), Some(0))]);
}

#[test]
fn a_report_may_lack_its_trigger() {
    let without: Vec<_> = NUMA.lines().filter(|line| !line.contains("failure")).collect();
    let log = Log::parse(&without.join("\n"));
    let report = log.reports().next().unwrap();
    assert_eq!((report.line, report.trigger, report.zones().len()), (3, None, 2));
}

#[test]
fn the_same_report_is_read_behind_any_prefix() {
    let bare = |line: &str| line.split_once("] ").unwrap().1.to_string();
    for prefix in ["", "\t", "> > ", "Mar  8 01:02:03 host kernel: ", "[Mon Mar 25 10:00:00 2019] ", "[    1.0][T1] "] {
        let text: Vec<_> = NUMA.lines().map(|line| format!("{prefix}{}", bare(line))).collect();
        let text = text.join("\n");
        let log = Log::parse(&text);
        assert_eq!((log.to_string().as_str(), log.problems()), (text.as_str(), [].as_slice()), "{prefix}");
        let report = log.reports().next().unwrap();
        assert_eq!((report.zones().len(), report.count("pages RAM")), (2, Some(1000)), "{prefix}");
    }
}

#[test]
fn other_output_between_the_lines_costs_nothing() {
    let noise = "[   12.5]  ? finish_wait+0x280/0x280\n[   12.5] RIP: 0033:0x47b6fd\n[   12.5] 7 strange things\n";
    let text: Vec<_> = NUMA.lines().map(|line| format!("{line}\n{noise}")).collect();
    let text = text.concat();
    let log = Log::parse(&text);
    assert_eq!((log.to_string().as_str(), log.problems()), (text.as_str(), [].as_slice()));
    let report = log.reports().next().unwrap();
    assert_eq!((report.zones()[1].lowmem_reserve.len(), report.huge_pages().count()), (3, 1));
}

#[test]
fn words_of_a_report_outside_one_are_foreign() {
    let text = "Node 0 DMA free:0kB\nlowmem_reserve[]: 1\n7 pages RAM\nfree:7\n";
    let log = Log::parse(text);
    assert_eq!((log.reports().count(), log.nr_verbatim(), log.problems().len()), (0, 4, 0));
}

#[test]
fn a_kernel_without_numa_prints_bare_zones() {
    let text = "Mem-Info:\nNormal free:8kB\nlowmem_reserve[]: 0\nNormal: 2*4kB (R) = 8kB\n";
    let log = Log::parse(text);
    let zone = log.reports().next().unwrap().zones()[0];
    assert_eq!((zone.node, zone.zone, zone.field("free")), (None, ZoneType::Normal, Some(8)));
    // The reserve of kernels before 4.4 is not among the types.
    let blocks = FreeBlocks { nr_free: 2, types: TypeSet::default() };
    assert_eq!(zone.free_blocks(Order::ZERO), Some(blocks));
    assert_eq!((log.to_string().as_str(), log.problems()), (text, [].as_slice()));
}

#[test]
fn the_first_order_tells_the_page_size() {
    let orders: Vec<_> = (0..14_u32).map(|order| format!("1*{}kB (U) ", 64_u64 << order)).collect();
    let text = format!("Mem-Info:\nNormal free:1kB\nNormal: {}= 1048512kB\n", orders.concat());
    let log = Log::parse(&text);
    let zone = log.reports().next().unwrap().zones()[0];
    assert_eq!((zone.page_kb(), zone.free_blocks(Order::MAX).map(|blocks| blocks.nr_free)), (Some(64), Some(1)));
    assert_eq!(log.nr_verbatim(), 0);
}

#[test]
fn lines_that_cannot_be_right_are_named() {
    let problem = |line: &str| {
        let log = Log::parse(&format!("Mem-Info:\n{line}\n"));
        assert_eq!(log.to_string(), format!("Mem-Info:\n{line}\n"));
        let problems: Vec<_> = log.problems().iter().map(|error| (error.line, error.column)).collect();
        problems
    };
    assert_eq!(problem("Normal: 1*4kB 1*16kB = 20kB"), vec![(2, 15)]);
    assert_eq!(problem("Normal: 1*4kB (u) = 4kB"), vec![(2, 16)]);
    assert_eq!(problem("Normal: 1*4kB"), vec![(2, 14)]);
    assert_eq!(problem("Normal free:4kB min:xkB"), vec![(2, 21)]);
    assert_eq!(problem("Node 0 active_anon:4kB all_unreclaimable? maybe"), vec![(2, 24)]);
    assert_eq!(problem("Node 99 DMA free:4kB"), vec![(2, 6)]);
    assert_eq!(problem("lowmem_reserve[]: 0 x"), vec![(2, 21)]);
    assert_eq!(problem("Free swap  : 0kB"), vec![(2, 12)]);
    assert_eq!(problem("Node 0 hugepages_total=0 hugepages_free=1"), vec![(2, 42)]);
    assert_eq!(problem("mlocked:0kB bounce:0kB"), vec![(2, 1)]);
    assert_eq!(problem("Unreclaimable slab info:"), vec![]);
}

#[test]
fn lines_behind_the_last_counts_are_foreign() {
    let text = format!(
        "{NUMA}DMA: preallocated 1024 KiB GFP_KERNEL pool\nNode 1 went offline\n3 pages reserved\nNode 9 DMA free:x\n"
    );
    let log = Log::parse(&text);
    assert_eq!((log.to_string(), log.problems()), (text, [].as_slice()));
    assert_eq!(log.reports().next().unwrap().count("pages reserved"), Some(3));
}
