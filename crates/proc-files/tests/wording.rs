//! What a machine without a recording prints: the words of Linux 6.12, and what 6.1 and 6.18 print otherwise.

use mmkit_proc_files::buddyinfo::FreeBlocks;
use mmkit_proc_files::iomem::Resource;
use mmkit_proc_files::meminfo::{MemInfo, NodeMemInfo};
use mmkit_proc_files::pagetypeinfo::{BlocksHeading, BlocksRow, FreeCount, FreeRow, Heading};
use mmkit_proc_files::show_mem::{self, HugePages, Summary, TypeSet};
use mmkit_proc_files::zoneinfo::{PageSet, PopulatedZone, ZoneInfo, ZonePages};
use mmkit_proc_files::{Config, MemorySource, Profile, Release, ShowMem};
use units::{CpuId, MigrateType, NodeId, Order, Pfn, PhysAddr, ZoneType};

const SMALL: Config = Config::NUMA.union(Config::THP).union(Config::CMA).union(Config::MEMORY_FAILURE);

/// One node with the zones DMA32 and Normal, whose every counter is the length of its name.
struct Machine;

impl MemorySource for Machine {
    fn total(&self, name: &str) -> u64 {
        name.len() as u64
    }

    fn node(&self, index: usize) -> Option<NodeId> {
        (index == 0).then_some(NodeId::ZERO)
    }

    fn node_kb(&self, _: NodeId, name: &str) -> u64 {
        name.len() as u64
    }

    fn all_unreclaimable(&self, _: NodeId) -> u64 {
        1
    }

    fn zone(&self, index: usize) -> Option<(NodeId, ZoneType)> {
        [ZoneType::Dma32, ZoneType::Normal].get(index).map(|zone| (NodeId::ZERO, *zone))
    }

    fn zone_kb(&self, _: NodeId, zone: ZoneType, name: &str) -> u64 {
        (name.len() + zone.index()) as u64
    }

    fn lowmem_reserve(&self, _: NodeId, zone: ZoneType, index: usize) -> Option<u64> {
        (index < 3).then_some(if zone == ZoneType::Dma32 && index > 1 { 321 } else { 0 })
    }

    fn free_blocks(&self, _: NodeId, zone: ZoneType, order: Order) -> Option<show_mem::FreeBlocks> {
        let types = TypeSet::default().with(MigrateType::Isolate).with(MigrateType::Unmovable);
        let empty = show_mem::FreeBlocks::default();
        let full = show_mem::FreeBlocks { nr_free: 3, types };
        (order.raw() <= 2).then_some(if zone == ZoneType::Normal && order.raw() == 1 { full } else { empty })
    }

    fn huge_pages(&self, index: usize) -> Option<HugePages> {
        let pool = HugePages { node: NodeId::ZERO, total: 1, free: 2, surplus: 3, size_kb: 2048 };
        (index == 0).then_some(pool)
    }

    fn summary(&self) -> Summary {
        Summary {
            pagecache: 1,
            swap_cache: 2,
            free_swap_kb: 3,
            total_swap_kb: 4,
            ram: 5,
            highmem: 6,
            reserved: 7,
            cma_reserved: 8,
            hwpoisoned: 9,
        }
    }
}

fn report(release: Release, config: Config) -> String {
    ShowMem { profile: Profile::new(release, config), page_shift: 12, source: &Machine }.to_string()
}

#[test]
fn a_memory_report_of_6_12() {
    let expected = "\
Mem-Info:
active_anon:11 inactive_anon:13 isolated_anon:13
 active_file:11 inactive_file:13 isolated_file:13
 unevictable:11 dirty:5 writeback:9
 slab_reclaimable:16 slab_unreclaimable:18
 mapped:6 shmem:5 pagetables:10
 sec_pagetables:14 bounce:6
 kernel_misc_reclaimable:23
 free:4 free_pcp:8 free_cma:8
Node 0 active_anon:11kB inactive_anon:13kB active_file:11kB inactive_file:13kB unevictable:11kB isolated(anon):14kB \
isolated(file):14kB mapped:6kB dirty:5kB writeback:9kB shmem:5kB shmem_thp:9kB shmem_pmdmapped:15kB anon_thp:8kB \
writeback_tmp:13kB kernel_stack:12kB pagetables:10kB sec_pagetables:14kB all_unreclaimable? yes
Node 0 DMA32 free:5kB boost:6kB min:4kB low:4kB high:5kB reserved_highatomic:20KB active_anon:12kB inactive_anon:14kB \
active_file:12kB inactive_file:14kB unevictable:12kB writepending:13kB present:8kB managed:8kB mlocked:8kB bounce:7kB \
free_pcp:9kB local_pcp:10kB free_cma:9kB
lowmem_reserve[]: 0 0 321
Node 0 Normal free:6kB boost:7kB min:5kB low:5kB high:6kB reserved_highatomic:21KB active_anon:13kB inactive_anon:15kB \
active_file:13kB inactive_file:15kB unevictable:13kB writepending:14kB present:9kB managed:9kB mlocked:9kB bounce:8kB \
free_pcp:10kB local_pcp:11kB free_cma:10kB
lowmem_reserve[]: 0 0 0
Node 0 DMA32: 0*4kB 0*8kB 0*16kB = 0kB
Node 0 Normal: 0*4kB 3*8kB (UI) 0*16kB = 24kB
Node 0 hugepages_total=1 hugepages_free=2 hugepages_surp=3 hugepages_size=2048kB
1 total pagecache pages
2 pages in swap cache
Free swap  = 3kB
Total swap = 4kB
5 pages RAM
6 pages HighMem/MovableOnly
7 pages reserved
8 pages cma reserved
9 pages hwpoisoned
";
    assert_eq!(report(Release::V6_12, SMALL), expected);
}

#[test]
fn memory_reports_of_other_releases_differ_in_fields_and_spacing() {
    let words = |release, config| report(release, config).split_whitespace().map(String::from).collect::<Vec<_>>();
    let of_6_12 = words(Release::V6_12, SMALL);
    let added: Vec<_> = words(Release::V6_18, SMALL).into_iter().filter(|word| !of_6_12.contains(word)).collect();
    assert_eq!(added, ["Balloon:7kB", "free_highatomic:16KB", "zspages:8kB", "free_highatomic:17KB", "zspages:9kB"]);
    assert!(!words(Release::V6_18, SMALL).contains(&"writeback_tmp:13kB".to_string()));
    assert!(
        report(Release::V6_1, SMALL).contains(" shmem_thp: 9kB shmem_pmdmapped: 15kB anon_thp: 8kB writeback_tmp:13kB")
    );
    let bare = report(Release::V6_12, Config::empty());
    assert!(
        bare.contains("\nDMA32 free:5kB") && bare.contains("\nNormal: 0*4kB") && bare.ends_with("\n7 pages reserved\n")
    );
    assert!(!bare.contains("_thp"));
}

#[test]
fn blocks_of_a_larger_page_size_start_at_it() {
    let profile = Profile::new(Release::V6_12, SMALL);
    let text = ShowMem { profile, page_shift: 16, source: &Machine }.to_string();
    assert!(text.contains("Node 0 Normal: 0*64kB 3*128kB (UI) 0*256kB = 384kB\n"));
}

fn zone_text(release: Release, populated: Option<PopulatedZone<'_>>) -> String {
    let pages =
        ZonePages { free: 1, boost: 2, min: 3, low: 4, high: 5, promo: 6, spanned: 7, present: 8, managed: 9, cma: 10 };
    let profile = Profile::new(release, Config::empty());
    ZoneInfo {
        profile,
        node: NodeId::ZERO,
        zone: ZoneType::Normal,
        node_stats: None,
        pages,
        protection: &[0, 11],
        populated,
    }
    .to_string()
}

const UNPOPULATED_6_12: &str = "\
Node 0, zone   Normal
  pages free     1
        boost    2
        min      3
        low      4
        high     5
        promo    6
        spanned  7
        present  8
        managed  9
        cma      10
        protection: (0, 11)
";

#[test]
fn an_unpopulated_zone_ends_behind_its_protection() {
    assert_eq!(zone_text(Release::V6_12, None), UNPOPULATED_6_12);
    assert_eq!(zone_text(Release::V6_18, None), UNPOPULATED_6_12);
    assert_eq!(zone_text(Release::V6_1, None), UNPOPULATED_6_12.replace("        promo    6\n", ""));
}

#[test]
fn a_populated_zone_goes_on_with_counters_and_page_sets() {
    let stats = |name: &str| name.len() as u64;
    let cpu = CpuId::try_new(3).unwrap();
    let set = PageSet { cpu, count: 1, high: 2, batch: 3, high_min: 4, high_max: 5, stat_threshold: 6 };
    let pagesets = |index: usize| (index == 0).then_some(set);
    let populated =
        PopulatedZone { stats: &stats, pagesets: &pagesets, node_unreclaimable: 0, start_pfn: Pfn::new(4096) };
    let tail = |text: String| text.split_once("(0, 11)\n").unwrap().1.to_string();
    let of_6_12 = "      nr_free_pages 13
      nr_zone_inactive_anon 21
      nr_zone_active_anon 19
      nr_zone_inactive_file 21
      nr_zone_active_file 19
      nr_zone_unevictable 19
      nr_zone_write_pending 21
      nr_mlock     8
      nr_bounce    9
      nr_zspages   10
      nr_free_cma  11
  pagesets
    cpu: 3
              count: 1
              high:  2
              batch: 3
  vm stats threshold: 6
  node_unreclaimable:  0
  start_pfn:           4096
";
    assert_eq!(tail(zone_text(Release::V6_12, Some(populated))), of_6_12);
    let of_6_18 = tail(zone_text(Release::V6_18, Some(populated)));
    assert!(of_6_18.contains(
        "              count:    1\n              high:     2\n              batch:    3\n              high_min: 4\n              \
         high_max: 5\n  vm stats"
    ));
}

#[test]
fn buddyinfo_and_pagetypeinfo_take_arrays() {
    let (node, zone) = (NodeId::ZERO, ZoneType::Dma);
    let row = FreeBlocks { node, zone, nr_free: [1, 22, 1_234_567] };
    assert_eq!(row.to_string(), "Node 0, zone      DMA      1     22 1234567 ");
    let nr_free = [FreeCount::capped(99_999), FreeCount::capped(100_000), FreeCount::capped(u64::MAX)];
    let row = FreeRow { node, zone, migrate_type: MigrateType::Cma, nr_free };
    assert_eq!(row.to_string(), "Node    0, zone      DMA, type          CMA  99999 >100000 >100000 ");
    let types = [MigrateType::Unmovable, MigrateType::Isolate];
    assert_eq!(BlocksHeading { types }.to_string(), "\nNumber of blocks type     Unmovable      Isolate \n");
    let row = BlocksRow { node, zone, nr_blocks: [7, 8] };
    assert_eq!(row.to_string(), "Node 0, zone      DMA            7            8 ");
    let heading = Heading { pageblock_order: Order::try_new(9).unwrap(), max_order: Order::try_new(1).unwrap() };
    assert_eq!(
        heading.to_string(),
        "Page block order: 9\nPages per block:  512\n\nFree pages count per migrate type at order       0      1 \n"
    );
}

#[test]
fn meminfo_lines_of_unusual_width() {
    let values = |name: &str| if name == "VmallocTotal" { 34_359_738_367 } else { 1 };
    let config = Config::MEMORY_FAILURE.union(Config::UNACCEPTED).union(Config::THP);
    let profile = Profile::new(Release::V6_12, config);
    let text = MemInfo { profile, values: &values }.to_string();
    for line in [
        "MemTotal:              1 kB",
        "VmallocTotal:   34359738367 kB",
        "HardwareCorrupted:     1 kB",
        "FileHugePages:         1 kB",
        "Unaccepted:            1 kB",
        "HugePages_Total:       1",
        "Hugepagesize:          1 kB",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    let text = NodeMemInfo { profile, node: NodeId::try_new(1).unwrap(), values: &values }.to_string();
    for line in
        ["Node 1 MemUsed:               1 kB", "Node 1 FileHugePages:        1 kB", "Node 1 HugePages_Surp:      1"]
    {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn a_resource_is_indented_by_its_depth() {
    let resource =
        Resource { depth: 2, start: PhysAddr::new(0x1000), last: PhysAddr::new(0x1_0000_0fff), name: "Kernel code" };
    assert_eq!(resource.to_string(), "    00001000-100000fff : Kernel code");
}
