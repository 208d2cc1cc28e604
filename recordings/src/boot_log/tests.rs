//! Replays of the recorded boots, and of damaged copies of them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn boots() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let directories = ["boots", "boot-logs"].map(|directory| fs::read_dir(data.join(directory)).unwrap());
    let entries = directories.into_iter().flatten();
    let mut boots: Vec<_> = entries.map(|entry| entry.unwrap().path().join("dmesg")).collect();
    boots.sort();
    assert!(boots.len() >= 22, "the recorded boots are there");
    boots
}

fn recorded(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boots");
    fs::read(directory.join(name).join("dmesg")).unwrap()
}

fn replayed(log: &[u8]) -> BootReplay {
    replay(&BootLog::parse(log).unwrap(), Until::End).unwrap()
}

#[test]
fn every_recorded_boot_replays_without_a_difference() {
    for path in boots() {
        let log = BootLog::parse(&fs::read(&path).unwrap()).unwrap();
        let replay = replay(&log, Until::End).unwrap();
        replay.memblock.check_invariants();
        let different = replay.lines.iter().find(|line| line.verdict == Verdict::Different);
        assert_eq!(different, None, "{}", path.display());
        let ours =
            log.lines.iter().filter(|line| line.starts_with("memblock_") || line.starts_with("MEMBLOCK")).count();
        assert!(replay.lines.len() >= ours, "{}: every memblock line is compared", path.display());
        assert!(replay.given <= 1, "{}: only a line that lost its request is taken over", path.display());
    }
}

#[test]
fn a_changed_result_is_a_difference_and_changes_what_follows() {
    let log = String::from_utf8(recorded("m2g")).unwrap();
    let line = "memblock_reserve: [0x0000000000098000-0x000000000009efff]";
    let changed = log.replace(line, "memblock_reserve: [0x0000000000097000-0x000000000009dfff]");
    assert_ne!(log, changed);
    let replay = replayed(changed.as_bytes());
    let different: Vec<_> = replay.lines.iter().filter(|line| line.verdict == Verdict::Different).collect();
    assert_eq!(different.len(), replay.differences);
    assert!(different[0].ours.as_deref().unwrap().starts_with(line), "{different:?}");
}

#[test]
fn a_missing_result_is_a_difference() {
    let log = String::from_utf8(recorded("m2g")).unwrap();
    let shorter: String =
        log.lines().filter(|line| !line.contains("[0x000000007ecb4000-")).map(|line| format!("{line}\n")).collect();
    let replay = replayed(shorter.as_bytes());
    let first = replay.lines.iter().find(|line| line.verdict == Verdict::Different).unwrap();
    assert_eq!((replay.differences, first.recorded.as_deref()), (1, None));
}

#[test]
fn a_log_that_lost_its_beginning_replays_without_a_difference() {
    for (name, dump) in [("m2g", 69), ("i386-m3g", 25), ("arm64-numa2", 940), ("memmap-holes", 85)] {
        let log = String::from_utf8(recorded(name)).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        for start in (0..dump).step_by(dump / 25) {
            let replay = replayed(lines[start..].join("\n").as_bytes());
            assert_eq!(replay.differences, 0, "{name} from line {}", start + 1);
            assert!(replay.given <= 1, "{name} from line {}", start + 1);
        }
    }
}

#[test]
fn a_doubled_array_lies_where_the_kernel_put_it() {
    let log = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boot-logs/growth/dmesg")).unwrap();
    let arrays: Vec<_> = replayed(&log).memblock.grown_arrays().collect();
    assert_eq!(arrays, [PhysRange::with_len(units::PhysAddr::new(0x18fa_5000), 0x2000)]);
}

#[test]
fn the_hand_over_leaves_what_the_kernel_had_reserved() {
    let log = BootLog::parse(&recorded("arm64-m2g")).unwrap();
    let at_end = replay(&log, Until::End).unwrap().memblock.reserved_size();
    let at_hand_over = replay(&log, Until::HandOver).unwrap().memblock.reserved_size();
    assert_eq!(at_hand_over - at_end, 0xf2000, "the initrd is freed later");
}

#[test]
fn nodes_are_those_of_the_firmware() {
    let replay = replayed(&recorded("numa4"));
    let nodes: Vec<_> = replay.nodes.iter().map(|block| (block.node.raw(), block.range.start.raw())).collect();
    assert_eq!(nodes, [(0, 0), (1, 0x4000_0000), (2, 0x8000_0000), (3, 0x1_2000_0000)]);
    assert!(replayed(&recorded("i386-m900")).nodes.iter().all(|block| block.node == units::NodeId::ZERO));
}

#[test]
fn notes_keep_the_lines_about_zones() {
    let log = BootLog::parse(&recorded("numa2")).unwrap();
    assert_eq!(log.notes_of(NoteKind::ZoneRanges).count(), 5);
    assert_eq!(log.notes_of(NoteKind::FallbackOrder).count(), 2);
    assert_eq!(log.notes_of(NoteKind::Memory).next().map(|note| note.line), Some(273));
    assert_eq!(log.zone_range("DMA").map(|range| range.start.raw()), Some(0x1000));
    assert_eq!(log.early_node_ranges().len(), 4);
}

#[test]
fn a_log_without_memblock_lines_is_refused() {
    let error = BootLog::parse(b"[    0.000000] Linux version 6.1.0\n").unwrap_err();
    let expected =
        "kernel log of 1 lines: found no memblock line, expected a boot with memblock=debug on its command line";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_truncated_log_is_refused_with_its_last_line() {
    let log = recorded("m128");
    let cut = log.windows(16).position(|window| window == b"memblock_reserve").unwrap() + 30;
    let error = BootLog::parse(&log[..cut]).unwrap_err();
    assert!(matches!(error, BootLogError::Line { line: 20, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_logs_are_refused_or_replayed_and_never_panic(
        from in 0usize..50_000,
        len in 0usize..60_000,
        damage in prop::collection::vec((0usize..60_000, any::<u8>()), 0..40),
    ) {
        let log = recorded("numa2");
        let mut part = log.into_iter().skip(from).take(len).collect::<Vec<_>>();
        for (at, byte) in damage {
            if let Some(slot) = part.get_mut(at) {
                *slot = byte;
            }
        }
        if let Ok(log) = BootLog::parse(&part)
            && let Ok(replay) = replay(&log, Until::End)
        {
            replay.memblock.check_invariants();
        }
    }

    #[test]
    fn digits_that_lie_never_panic(digits in prop::collection::vec((0usize..40_000, 0u8..16), 1..30)) {
        let mut log = recorded("m2g");
        for (at, digit) in digits {
            if log.get(at).is_some_and(u8::is_ascii_hexdigit) {
                log[at] = b"0123456789abcdef"[usize::from(digit)];
            }
        }
        if let Ok(log) = BootLog::parse(&log)
            && let Ok(replay) = replay(&log, Until::End)
        {
            replay.memblock.check_invariants();
        }
    }
}
