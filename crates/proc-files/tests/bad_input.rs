//! Foreign input never panics; an error names a line and column that the input has.

use std::fmt::Display;
use std::path::Path;

use mmkit_proc_files::parse::{
    BuddyInfo, Iomem, Log, Maps, MemInfo, NumaMaps, PageRuns, PageTypeInfo, ParseError, SlabInfo, Smaps, Status,
    VmStat, VmallocInfo, ZoneInfo,
};
use proptest::prelude::*;

/// Parses, and judges what comes back: either the text survives, or the error points into it.
fn check<T: Display>(text: &str, parse: impl Fn(&str) -> Result<T, ParseError>) -> Result<(), TestCaseError> {
    match parse(text) {
        Ok(parsed) => prop_assert_eq!(parsed.to_string(), text),
        Err(error) => {
            let line = text.split('\n').nth(error.line.wrapping_sub(1));
            prop_assert!(line.is_some_and(|line| (1..=line.len() + 1).contains(&error.column)), "{}", error);
        }
    }
    Ok(())
}

fn check_all(text: &str) -> Result<(), TestCaseError> {
    check(text, BuddyInfo::parse)?;
    check(text, PageTypeInfo::parse)?;
    check(text, VmStat::parse)?;
    check(text, MemInfo::parse)?;
    check(text, Iomem::parse)?;
    check(text, SlabInfo::parse)?;
    check(text, VmallocInfo::parse)?;
    check(text, PageRuns::parse)?;
    check(text, Maps::parse)?;
    check(text, Smaps::parse)?;
    check(text, Status::parse)?;
    check(text, NumaMaps::parse)?;
    check(text, |text| Ok(Log::parse(text)))?;
    for problem in Log::parse(text).problems() {
        check(text, |_| Err::<String, _>(problem.clone()))?;
    }
    check(text, ZoneInfo::parse)
}

fn recorded() -> impl Strategy<Value = String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let machine = data.join("boots/arm64-cma");
    const FILES: [&str; 8] =
        ["buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat", "meminfo", "iomem", "slabinfo", "vmallocinfo"];
    let files = FILES.map(|name| machine.join(name));
    let mut files = files.to_vec();
    files.push(data.join("vm/hello.vm/t1.exit.smaps"));
    files.push(data.join("reports/oom-i386-highmem-linux-6.1.txt"));
    files.push(data.join("reports/page-allocation-failure-arm64-64k.txt"));
    let mut texts: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    texts.push(RUNS.to_string());
    prop::sample::select(texts)
}

/// Runs of frames, which are too large to keep a recorded file of them here.
const RUNS: &str = "# mono_ns_begin 5 mono_ns_end 9\n0 256 r\n100 3840 b\n1000 4620 r\n220c 118 -\nfffffffff0 16 k\n";

/// A recorded file with a piece replaced, and cut off.
fn damaged() -> impl Strategy<Value = String> {
    let junk = prop_oneof![
        Just(String::new()),
        Just("99999999999999999999999".to_string()),
        Just("é\u{2028}".to_string()),
        "[ -~\n]{0,12}",
    ];
    (recorded(), any::<prop::sample::Index>(), 0..30_usize, junk, any::<prop::sample::Index>()).prop_map(
        |(text, at, removed, junk, end)| {
            let chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            let rest = chars.iter().skip(at + removed);
            let all: Vec<char> = chars.iter().take(at).copied().chain(junk.chars()).chain(rest.copied()).collect();
            let end = if end.index(4) == 0 { end.index(all.len() + 1) } else { all.len() };
            all.into_iter().take(end).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_parse_or_name_their_line(text in damaged()) {
        check_all(&text)?;
    }

    #[test]
    fn any_text_parses_or_names_its_line(text in "\\PC{0,200}") {
        check_all(&text)?;
    }
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    let error = BuddyInfo::parse("Node 0, zone      DMA      0      1 \nNode 0, zone    DMB      2 \n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 17: expected a zone name (DMA, DMA32, Normal, HighMem, Movable or Device), found `DMB      2`"
    );
    let error = ZoneInfo::parse("Node 0, zone      DMA\n  pages free     \n").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 18: expected a number, found the end of the line");
}

#[test]
fn lines_in_other_forms_are_kept_beside_what_was_read() {
    let text = "Node 0, zone DMA 1 2 3\r\n\nNode  1, zone Normal 4";
    let parsed = BuddyInfo::parse(text).unwrap();
    assert_eq!(parsed.to_string(), text);
    assert_eq!(parsed.nr_verbatim(), 3);
    let counts: Vec<_> = parsed.zones().map(|row| row.nr_free.clone()).collect();
    assert_eq!(counts, [vec![1, 2, 3], vec![4]]);
}

#[test]
fn a_list_that_was_not_counted_to_its_end_keeps_its_mark() {
    let text = "Node    0, zone   Normal, type      Movable >100000      2 \n";
    let parsed = PageTypeInfo::parse(text).unwrap();
    assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 0));
    let counts = parsed.free().next().unwrap().nr_free.clone();
    assert_eq!(counts[0], mmkit_proc_files::pagetypeinfo::FreeCount::capped(100_000));
}

#[test]
fn a_field_of_a_later_release_is_read_by_name() {
    let text = "Node 0, zone      DMA\n  pages free     7\n        parked   5\n        cma      0\n        protection: (0)\n      nr_from_the_future 3\n  colour: blue\n";
    let parsed = ZoneInfo::parse(text).unwrap();
    let zone = parsed.zones().next().unwrap();
    assert_eq!((zone.pages("parked"), zone.stat("nr_from_the_future")), (Some(5), Some(3)));
    assert_eq!((parsed.to_string().as_str(), parsed.nr_verbatim()), (text, 1));
}

#[test]
fn runs_out_of_order_or_beyond_the_address_space_are_refused() {
    let refused = |text: &str| PageRuns::parse(text).unwrap_err().to_string();
    assert_eq!(refused("0 256 r\nff 1 b\n"), "line 2, column 1: expected a run above the one before, found `ff 1 b`");
    assert!(refused("0 0 r\n").starts_with("line 1, column 3: expected a number of frames from 1 up"));
    assert!(refused("ffffffffff 2 r\n").starts_with("line 1, column 12: expected a number of frames from 1 up"));
    assert!(refused("0 18446744073709551615 r\n").starts_with("line 1, column 3: expected a number of frames"));
    assert!(refused("0 1 rr\n").ends_with("expected one of the kinds b a f s t m k r o -, found `rr`"));
    assert_eq!(PageRuns::parse(RUNS).unwrap().runs().count(), 5);
}

#[test]
fn a_range_below_nothing_or_turned_round_is_refused() {
    let refused = |text: &str| Iomem::parse(text).unwrap_err().to_string();
    assert!(refused("  00000000-00000fff : Reserved\n").contains("at most one level below"));
    assert!(refused("00001000-00000fff : Reserved\n").contains("does not end before it starts"));
    let text = "00000000-ffffffffffffffff : a : b\n  00000000-00000fff : c\n";
    assert_eq!(Iomem::parse(text).unwrap().nr_verbatim(), 0);
}

#[test]
fn a_report_names_the_lines_that_a_mailer_wrapped() {
    let text = "a: page allocation failure: order:1, mode:0xcc0(GFP_KERNEL)\nMem-Info:\nNode 0 DMA free:4kB min:1kB\n\
                high:3kB boost:0kB\nlowmem_reserve[]: 0\nNode 0 DMA: 1*4kB (U)\n0*8kB = 4kB\nSLUB: foreign words\n9 pages RAM\n";
    let log = Log::parse(text);
    assert_eq!(log.to_string(), text);
    let lines: Vec<_> = log.problems().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [4, 6, 7]);
    let report = log.reports().next().unwrap();
    let zone = report.zones()[0];
    assert_eq!((zone.field("min"), zone.field("high"), zone.lowmem_reserve), (Some(1), None, [0].as_slice()));
    assert_eq!((report.count("pages RAM"), zone.page_kb()), (Some(9), None));
}

#[test]
fn newlines_that_a_logger_escaped_are_seen_through() {
    let text = "Mem-Info:\nactive_anon:1 inactive_anon:2#012 active_file:3\\x0a free:4\n";
    let log = Log::parse(text);
    let report = log.reports().next().unwrap();
    assert_eq!([report.total("inactive_anon"), report.total("active_file"), report.total("free")], [2, 3, 4].map(Some));
    assert_eq!((log.to_string().as_str(), log.problems()), (text, [].as_slice()));
}
