//! Foreign input never panics; an error names a line and column that the input has.

use std::fmt::Display;
use std::path::Path;

use mmkit_proc_files::parse::{BuddyInfo, Log, PageTypeInfo, ParseError, VmStat, ZoneInfo};
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
    check(text, |text| Ok(Log::parse(text)))?;
    for problem in Log::parse(text).problems() {
        check(text, |_| Err::<String, _>(problem.clone()))?;
    }
    check(text, ZoneInfo::parse)
}

fn recorded() -> impl Strategy<Value = String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let machine = data.join("boots/arm64-cma");
    let files = ["buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat"].map(|name| machine.join(name));
    let mut files = files.to_vec();
    files.push(data.join("reports/oom-i386-highmem-linux-6.1.txt"));
    files.push(data.join("reports/page-allocation-failure-arm64-64k.txt"));
    prop::sample::select(files).prop_map(|path| std::fs::read_to_string(path).unwrap())
}

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
