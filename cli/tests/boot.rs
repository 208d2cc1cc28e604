//! `mmkit boot` as a user runs it: recorded boots, changed recordings, bad input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn boots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boots")
}

fn boot(log: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).arg("boot").arg("--from-log").arg(log).args(options).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Copy of a recorded machine that a test may change.
struct Copied {
    directory: PathBuf,
}

impl Copied {
    fn of(machine: &str, test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        fs::create_dir_all(&directory).unwrap();
        for entry in fs::read_dir(boots().join(machine)).unwrap() {
            let path = entry.unwrap().path();
            fs::write(directory.join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
        }
        Self { directory }
    }

    fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let path = self.directory.join(file);
        let old = fs::read_to_string(&path).unwrap();
        assert!(old.contains(from), "{file} has no {from:?}");
        fs::write(&path, old.replacen(from, to, 1)).unwrap();
        self
    }

    fn log(&self) -> PathBuf {
        self.directory.join("dmesg")
    }
}

#[test]
fn every_recorded_boot_is_reproduced_without_a_difference() {
    let mut machines = 0;
    for entry in fs::read_dir(boots()).unwrap() {
        let log = entry.unwrap().path().join("dmesg");
        if !log.is_file() {
            continue;
        }
        let output = boot(&log, &[]);
        let text = text(&output);
        let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("- ") || line.starts_with("+ ")).collect();
        assert!(output.status.success(), "{}: {failed:#?}", log.display());
        assert!(text.ends_with("\n0 differences\n"), "{}", log.display());
        assert!(!text.contains("not compared"), "{}", log.display());
        assert!(text.contains("\nZone ranges:\n") && text.contains("\nMemory: "), "{}", log.display());
        machines += 1;
    }
    assert!(machines >= 19, "{machines} machines");
}

#[test]
fn each_changed_number_and_line_is_one_difference() {
    let copied = Copied::of("numa4", "each_changed_number_and_line");
    copied.replace("zoneinfo", "managed  257943", "managed  257944").replace("zoneinfo", "batch: 63", "batch: 31");
    copied.replace("dmesg", "Fallback order for Node 1: 1 2 0 3", "Fallback order for Node 1: 1 0 2 3");
    copied.replace("dmesg", "Memory: 1594956K/", "Memory: 1594952K/");
    copied.replace("sysctl-min_free_kbytes", "135168", "135167");
    let output = boot(&copied.log(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    assert!(text.contains("- Fallback order for Node 1: 1 0 2 3 \n+ Fallback order for Node 1: 1 2 0 3 \n"), "{text}");
    assert!(text.contains("- node 1, zone DMA32: managed 257944\n+ node 1, zone DMA32: managed 257943\n"), "{text}");
    assert!(text.ends_with("\n5 differences\n"), "{text}");
}

#[test]
fn without_the_other_files_only_the_log_is_compared() {
    let copied = Copied::of("m512", "without_the_other_files");
    for entry in fs::read_dir(&copied.directory).unwrap() {
        let path = entry.unwrap().path();
        if path != copied.log() {
            fs::remove_file(path).unwrap();
        }
    }
    let output = boot(&copied.log(), &[]);
    assert!(text(&output).contains("\nnot compared: zone numbers: "));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_appended_option_moves_the_zones() {
    let output = boot(&boots().join("m2g/dmesg"), &["--append", "movablecore=768M"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("\n+   Node 0: 0x0000000050000000\n"));
}

#[test]
fn memory_options_change_the_memory_of_a_recorded_boot() {
    let output = boot(&boots().join("m2g/dmesg"), &["--append", "mem=1G"]);
    assert_eq!(output.status.code(), Some(1));
    let limited = text(&output);
    let line = "  node   0: [mem 0x0000000000100000-0x000000003fffffff]";
    assert!(limited.contains(&format!("\n+ {line}\n")), "{limited}");
    let hole = text(&boot(&boots().join("m2g/dmesg"), &["--append", "memmap=64M$512M"]));
    assert!(hole.contains("\n+   node   0: [mem 0x0000000000100000-0x000000001fffffff]\n"), "{hole}");
    let arm = text(&boot(&boots().join("arm64-m2g/dmesg"), &["--append", "mem=1G"]));
    assert!(arm.contains("\n+   node   0: [mem 0x0000000040000000-0x000000007fffffff]\n"), "{arm}");
    let huge = text(&boot(&boots().join("m2g/dmesg"), &["--append", "transparent_hugepage=never"]));
    assert!(huge.contains("\n- vm.min_free_kbytes 45056\n"), "{huge}");
}

#[test]
fn a_setting_moves_the_watermarks() {
    let settings = ["--set", "vm.min_free_kbytes=90112", "--set", "vm.percpu_pagelist_high_fraction=16"];
    let output = boot(&boots().join("m2g/dmesg"), &settings);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    assert!(text.contains("\n- vm.min_free_kbytes 45056\n+ vm.min_free_kbytes 90112\n"), "{text}");
    assert!(text.contains("\n+ node 0, zone DMA32, cpu 0: high "), "{text}");
}

#[test]
fn json_holds_what_was_compared() {
    let output = boot(&boots().join("i386-m3g/dmesg"), &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["differences"], 0);
    assert_eq!(report["zones"][2]["zone"], "HighMem");
    assert_eq!(report["zones"][2]["present"], 561_122);
    assert!(report["lines"].as_array().unwrap().iter().any(|line| line["ours"] == "Zone ranges:"));
}

#[test]
fn bad_input_ends_with_code_2_and_one_message_that_says_where() {
    let copied = Copied::of("m512", "bad_input");
    copied.replace("sysctl-watermark_scale_factor", "10", "ten");
    let truncated = Copied::of("m512", "truncated_line");
    truncated.replace("dmesg", "-0x000000001ece3fff] memblock_alloc", "-0x00000");
    let log = boots().join("m512/dmesg");
    let without_memory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without_memory");
    fs::write(&without_memory, "memblock_reserve: [0x0000000000001000-0x0000000000001fff] setup+0x1/0x2\n").unwrap();
    let cases: [(&Path, &[&str], &str); 8] = [
        (&without_memory, &[], "found no whole page of memory, expected a boot that adds memory"),
        (&log, &["--append", "memmap=exactmap"], "found no whole page of memory, expected a boot that adds memory"),
        (&copied.log(), &[], "sysctl-watermark_scale_factor, line 1: found \"ten\", expected a decimal number"),
        (&truncated.log(), &[], "kernel log, line "),
        (Path::new("/nonexistent/dmesg"), &[], "/nonexistent/dmesg"),
        (&log, &["--append", "kernelcore=lots"], "`kernelcore=lots`: expected a size"),
        (&log, &["--append", "numa=off"], "--append numa=off: with it the recorded kernel would have made other"),
        (&log, &["--set", "vm.swappiness=60"], "setting `vm.swappiness=60`: expected one of "),
    ];
    for (log, options, message) in cases {
        let output = boot(log, options);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(message) && error.lines().count() == 1, "{error}");
    }
}

fn boot_machine(machine: &str, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).args(["boot", "--machine", machine]).args(options).output().unwrap()
}

#[test]
fn every_ready_machine_boots_and_shows_its_zones() {
    for machine in sim::description::READY_MACHINES {
        let output = boot_machine(machine.name, &[]);
        let text = text(&output);
        assert!(output.status.success(), "{}: {}", machine.name, String::from_utf8_lossy(&output.stderr));
        assert!(text.starts_with("Zone ranges:\n") && text.contains("\nMemory: "), "{}: {text}", machine.name);
    }
}

#[test]
fn proc_files_of_a_booted_machine_read_back_and_agree() {
    use proc_files::parse::{BuddyInfo, ZoneInfo};
    let zoneinfo = ZoneInfo::parse(&text(&boot_machine("server-2node", &["--proc", "zoneinfo"]))).unwrap();
    let buddyinfo = BuddyInfo::parse(&text(&boot_machine("server-2node", &["--proc", "buddyinfo"]))).unwrap();
    assert_eq!((zoneinfo.nr_verbatim(), buddyinfo.nr_verbatim()), (0, 0));
    let mut zones = 0;
    for zone in zoneinfo.zones().filter(|zone| zone.pages("managed") != Some(0)) {
        let counts = buddyinfo.nr_free(zone.node, zone.zone).unwrap();
        let free: u64 = counts.iter().zip(0..).map(|(count, order)| count << order).sum();
        assert_eq!(zone.pages("free"), Some(free), "{:?}", zone.zone);
        zones += 1;
    }
    assert_eq!(zones, 4);
    let iomem = text(&boot_machine("server-2node", &["--proc", "iomem"]));
    assert!(iomem.starts_with("00000000-0009fbff : System RAM\n") && iomem.contains("\n  01000000-"), "{iomem}");
    let meminfo = text(&boot_machine("i386-highmem", &["--proc", "meminfo"]));
    assert!(meminfo.contains("\nVmallocTotal:     122880 kB\nVmallocUsed:           0 kB\n"), "{meminfo}");
    assert_eq!(text(&boot_machine("small", &["--proc", "vmallocinfo"])), "", "nothing is in vmalloc right after boot");
    for file in ["meminfo", "pagetypeinfo", "vmstat"] {
        assert!(text(&boot_machine("small", &["--proc", file])).lines().count() > 10, "{file}");
    }
}

#[test]
fn options_and_settings_shape_a_described_machine() {
    let log = text(&boot_machine("laptop", &["--append", "movablecore=4G"]));
    assert!(log.contains("\n  Node 0: 0x"), "{log}");
    let zoneinfo = text(&boot_machine("small", &["--set", "vm.min_free_kbytes=4096", "--proc", "zoneinfo"]));
    let min: u64 =
        zoneinfo.lines().filter_map(|line| line.strip_prefix("        min ")?.trim().parse::<u64>().ok()).sum();
    // Each zone's share is rounded down.
    assert!((1023..=1024 + 32).contains(&min), "{min} pages");
    let report: serde_json::Value = serde_json::from_slice(&boot_machine("small", &["--json"]).stdout).unwrap();
    assert_eq!(report["zones"][0]["zone"], "DMA");
}

#[test]
fn a_machine_that_cannot_be_used_ends_with_code_2() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-machine.toml");
    fs::write(&file, "arch = \"x86-64\"\nnodes = []\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&str, &[&str], &str); 4] = [
        (file, &[], "bad-machine.toml, line 2: expected 1 to 64 nodes, found 0"),
        ("nosuch", &[], "expected a description, or one of the ready machines small, "),
        ("small", &["--append", "mem=lots"], "`mem=lots`: expected a size"),
        ("small", &["--set", "vm.nosuch=1"], "setting `vm.nosuch=1`: expected one of "),
    ];
    for (machine, options, message) in cases {
        let output = boot_machine(machine, options);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(message), "{error}");
    }
    let both = boot_machine("small", &["--from-log", "dmesg"]);
    assert_eq!(both.status.code(), Some(2));
}
