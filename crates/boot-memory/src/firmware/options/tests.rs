//! Command lines: what they mean, what they do to a map, and which are refused.

extern crate std;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;
use units::PhysAddr;

use super::super::memory_map::RangeKind;
use super::*;

fn firmware_map() -> MemoryMap {
    let mut map = MemoryMap::new();
    for (start, last, kind) in [
        (0, 0x9_fbff, RangeKind::Usable),
        (0x9_fc00, 0x9_ffff, RangeKind::Reserved),
        (0x10_0000, 0xbffd_ffff, RangeKind::Usable),
        (0xbffe_0000, 0xbfff_ffff, RangeKind::Reserved),
    ] {
        map.push(PhysRange::new(PhysAddr::new(start), PhysAddr::new(last + 1)), kind).unwrap();
    }
    map
}

fn applied(command_line: &str) -> String {
    let mut map = firmware_map();
    BootOptions::parse(command_line).unwrap().apply_to(&mut map).unwrap();
    let mut log = String::new();
    map.write_log("user", &mut log).unwrap();
    log
}

#[test]
fn reserved_holes_split_usable_memory_as_a_real_kernel_logs_it() {
    assert_eq!(
        applied("memmap=64M$256M memmap=3M$701M"),
        "user: [mem 0x0000000000000000-0x000000000009fbff] usable
user: [mem 0x000000000009fc00-0x000000000009ffff] reserved
user: [mem 0x0000000000100000-0x000000000fffffff] usable
user: [mem 0x0000000010000000-0x0000000013ffffff] reserved
user: [mem 0x0000000014000000-0x000000002bcfffff] usable
user: [mem 0x000000002bd00000-0x000000002bffffff] reserved
user: [mem 0x000000002c000000-0x00000000bffdffff] usable
user: [mem 0x00000000bffe0000-0x00000000bfffffff] reserved
"
    );
}

#[test]
fn a_memory_limit_removes_usable_memory_above_it_only() {
    assert_eq!(
        applied("mem=1500M"),
        "user: [mem 0x0000000000000000-0x000000000009fbff] usable
user: [mem 0x000000000009fc00-0x000000000009ffff] reserved
user: [mem 0x0000000000100000-0x000000005dbfffff] usable
user: [mem 0x00000000bffe0000-0x00000000bfffffff] reserved
"
    );
}

#[test]
fn exactmap_replaces_the_firmware_map() {
    let expected = "user: [mem 0x0000000000100000-0x00000000040fffff] usable
user: [mem 0x0000000010000000-0x00000000100fffff] ACPI data
user: [mem 0x0000000020000000-0x00000000200fffff] persistent (type 12)
";
    assert_eq!(applied("memmap=exactmap,64M@1M,1M#256M memmap=1M!512M"), expected);
}

#[test]
fn a_retyping_applies_to_the_named_kind() {
    let log = applied("memmap=2M%0x1000000-1+0xefffffff memmap=0x100%0x9fc00-2");
    assert!(log.contains("user: [mem 0x0000000001000000-0x00000000011fffff] soft reserved\n"), "{log}");
    assert!(log.contains("user: [mem 0x000000000009fd00-0x000000000009ffff] reserved\n"), "{log}");
}

#[test]
fn no_map_option_leaves_the_firmware_map_in_use() {
    let mut map = firmware_map();
    let origin = BootOptions::parse("console=ttyS0 mem=nopentium").unwrap().apply_to(&mut map).unwrap();
    assert_eq!((origin, map), (MapOrigin::Firmware, firmware_map()));
}

#[test]
fn every_option_is_read() {
    let options =
        BootOptions::parse("kernelcore=1G movablecore=512M numa=off movable-node memblock=debug cma=96M").unwrap();
    assert_eq!(options.kernelcore, Some(CoreSize::Bytes(1 << 30)));
    assert_eq!(options.movablecore, Some(CoreSize::Bytes(512 << 20)));
    assert_eq!(options.numa, NumaOption::Off);
    assert!(options.movable_node && options.memblock_debug);
    assert_eq!(options.cma, Some(CmaOption { size: 96 << 20, window: PhysRange::default() }));
    assert_eq!(BootOptions::parse("kernelcore=mirror").unwrap().kernelcore, Some(CoreSize::Mirror));
}

#[test]
fn a_contiguous_area_may_name_its_place() {
    let window = |line| BootOptions::parse(line).map(|options| options.cma.unwrap().window);
    assert_eq!(window("cma=64M@1G"), Ok(PhysRange::with_len(PhysAddr::new(1 << 30), 64 << 20)));
    assert_eq!(window("cma=64M@1G-2G"), Ok(PhysRange::new(PhysAddr::new(1 << 30), PhysAddr::new(2 << 30))));
    assert!(window("cma=64M@1G-1G").is_err());
}

#[test]
fn quotes_hold_words_together_and_init_keeps_its_arguments() {
    let tokens: Vec<_> =
        option_tokens(" a=\"b c\"  \"d=e f\" -- mem=1").map(|token| (token.offset, token.name, token.value)).collect();
    assert_eq!(tokens, [(1, "a", Some("b c")), (10, "d", Some("e f"))]);
}

#[test]
fn bad_values_are_refused_with_text_and_offset() {
    for bad in [
        "mem=",
        "mem",
        "mem=0",
        "mem=5Q",
        "memmap",
        "memmap=",
        "memmap=x",
        "memmap=1M@",
        "memmap=1M@2M@3",
        "memmap=1M?2M",
        "numa=fake=2",
        "memmap=0xffffffffffffffff@1",
        "kernelcore=101%",
        "kernelcore=",
        "movablecore=mirror",
        "memblock=on",
        "cma=",
        "memmap=1M,",
    ] {
        let line = ["quiet ", bad].concat();
        let error = BootOptions::parse(&line).unwrap_err();
        assert_eq!((error.text, error.offset), (bad, 6));
        assert!(error.to_string().contains("expected"));
    }
}

proptest! {
    #[test]
    fn no_command_line_makes_the_parser_panic(line in "((mem|memmap|kernelcore|cma|numa|memblock)=[0-9xkKMGTPE@#$!%+,-]{0,24}[ \"]?|.{0,10}){0,4}") {
        if let Ok(options) = BootOptions::parse(&line) {
            let mut map = firmware_map();
            options.apply_to(&mut map).unwrap();
            prop_assert!(options.unknown().count() <= option_tokens(&line).count());
        }
    }

    #[test]
    fn every_word_is_one_token_at_its_offset(words in prop::collection::vec("[a-z]{1,5}(=[a-z0-9]{0,5})?", 0..6)) {
        let line = words.join("  ");
        let tokens: Vec<_> = option_tokens(&line).collect();
        prop_assert_eq!(tokens.len(), words.len());
        for (token, word) in tokens.iter().zip(&words) {
            prop_assert_eq!(token.text, word);
            prop_assert_eq!(&line[token.offset..][..word.len()], word);
        }
    }
}
