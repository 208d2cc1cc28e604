//! `mmkit boot --machine` with what a computer says of itself: the text of /proc/iomem, and devicetree blobs made here.

#[path = "../../crates/boot-memory/src/firmware/devicetree/tests/writer.rs"]
mod writer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use writer::Writer;

const RAM: &[u8] = b"memory\0";

fn boots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/boots")
}

fn boot(machine: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).args(["boot", "--machine"]).arg(machine).args(options).output().unwrap()
}

/// Returns what a boot that works prints.
fn booted(machine: &Path, options: &[&str]) -> String {
    let output = boot(machine, options);
    assert!(output.status.success(), "{}: {}", machine.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the only line of a refusal, which ends with code 2 and prints nothing else.
fn refused(machine: &Path) -> String {
    let output = boot(machine, &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Lines of a log, without time stamps, that say which zones, nodes and holes a machine has.
fn layout(log: &str) -> Vec<&str> {
    let starts = ["  DMA", "  Normal", "  node ", "Initmem setup node", "On node "];
    let messages = log.lines().map(|line| match line.split_once("] ") {
        Some((stamp, message)) if stamp.starts_with('[') => message,
        _ => line,
    });
    messages.filter(|message| starts.iter().any(|start| message.starts_with(start))).collect()
}

#[test]
fn iomem_of_recorded_boots_gives_their_zones() {
    let (mut machines, mut whole) = (0, 0);
    for entry in fs::read_dir(boots()).unwrap() {
        let directory = entry.unwrap().path();
        let Ok(recorded) = fs::read_to_string(directory.join("dmesg")) else { continue };
        // Zones of 32-bit kernels, and where memory of Arm machines lies in them, are others.
        if !recorded.contains("BIOS-e820:") || recorded.contains("  HighMem ") {
            continue;
        }
        let log = booted(&directory.join("iomem"), &[]);
        let zones = |log| layout(log).into_iter().filter(|line| line.starts_with("  D") || line.starts_with("  Norm"));
        assert!(zones(&log).eq(zones(&recorded)), "{}: {log}", directory.display());
        machines += 1;
        // The list of resources names no nodes and no options.
        let options = fs::read_to_string(directory.join("cmdline")).unwrap();
        if !recorded.contains("Initmem setup node 1") && !options.contains("core=") {
            assert_eq!(layout(&log), layout(&recorded), "{}", directory.display());
            whole += 1;
        }
    }
    assert!(machines >= 14 && whole >= 6, "{machines} machines, {whole} of one node");
}

#[test]
fn the_kernel_of_an_iomem_is_reserved() {
    let text = fs::read_to_string(boots().join("m128/iomem")).unwrap();
    let without: String =
        text.lines().filter(|line| !line.contains("Kernel")).map(|line| format!("{line}\n")).collect();
    let managed = |path: &Path| -> i64 {
        let report: serde_json::Value = serde_json::from_str(&booted(path, &["--json"])).unwrap();
        report["zones"].as_array().unwrap().iter().filter_map(|zone| zone["managed"].as_i64()).sum()
    };
    let kernel = managed(&file("no-kernel", without.as_bytes())) - managed(&boots().join("m128/iomem"));
    assert_eq!(kernel, 0x2800, "pages from 01000000 to 037fffff");
    let iomem = booted(&boots().join("m128/iomem"), &["--proc", "iomem"]);
    assert!(iomem.contains("\n  01000000-037fffff : Kernel code\n"), "{iomem}");
}

#[test]
fn an_iomem_that_cannot_be_used_is_refused_with_its_line() {
    let text = fs::read_to_string(boots().join("m2g/iomem")).unwrap();
    let hidden: String =
        text.lines().map(|line| format!("00000000-00000000 : {}\n", line.split_once(" : ").unwrap().1)).collect();
    let error = refused(&file("hidden-iomem", hidden.as_bytes()));
    assert!(error.contains("/proc/iomem, line 1: expected ranges, not 00000000-00000000 (read it as root)"), "{error}");
    let error = refused(&file("damaged-iomem", text.replacen("00001000-", "00001000_", 1).as_bytes()));
    assert!(error.contains("damaged-iomem: /proc/iomem, line 2: expected START-LAST : NAME"), "{error}");
    let error = refused(&file("no-ram-iomem", text.replace("System RAM", "System ROM").as_bytes()));
    assert!(error.contains("expected a range named System RAM"), "{error}");
    let error = refused(&file("far-iomem", text.replace("00100000-7ffdffff", "00100000-7fffffffffffffff").as_bytes()));
    assert!(error.contains("expected addresses of at most 46 bits"), "{error}");
    let error = refused(&file("kernel-iomem", text.replace("01000000-01e01ef1", "01000000-8fffffff").as_bytes()));
    assert!(error.contains("expected the kernel in usable memory"), "{error}");
}

fn memory(root: &mut Writer, node: Option<u32>, start: u64, size: u64) {
    root.node(&format!("memory@{start:x}"), |memory| {
        memory.bytes("device_type", RAM);
        let cell = |number: u64| [(number >> 32) as u32, number as u32];
        memory.cells("reg", &[cell(start), cell(size)].concat());
        if let Some(node) = node {
            memory.cells("numa-node-id", &[node]);
        }
    });
}

fn two_cells(node: &mut Writer) {
    node.cells("#address-cells", &[2]);
    node.cells("#size-cells", &[2]);
}

/// Makes the tree of the recorded Arm machine of two nodes, with other numbers for them.
fn two_nodes(numbers: [u32; 2]) -> Vec<u8> {
    let mut tree = Writer::default();
    tree.node("", |root| {
        two_cells(root);
        memory(root, Some(numbers[0]), 0x4000_0000, 0xc000_0000);
        memory(root, Some(numbers[1]), 0x1_0000_0000, 0x4000_0000);
        root.node("cpus", |cpus| {
            cpus.cells("#address-cells", &[1]);
            cpus.cells("#size-cells", &[0]);
            for (number, node) in (0..).zip(numbers) {
                cpus.node(&format!("cpu@{number}"), |cpu| {
                    cpu.bytes("device_type", b"cpu\0");
                    cpu.cells("reg", &[number]);
                    cpu.cells("numa-node-id", &[node]);
                });
            }
        });
        root.node("distance-map", |map| map.cells("distance-matrix", &[numbers[0], numbers[1], 24]));
        root.node("chosen", |chosen| chosen.bytes("bootargs", b"movablecore=256M unheard-of=1\0"));
    });
    tree.finish()
}

/// Makes a tree of one memory node of 1 GiB with `/memreserve/` entries and nodes of /reserved-memory.
fn one_node(reservations: Vec<u64>, reserved_memory: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut tree = Writer { reservations, ..Writer::default() };
    tree.node("", |root| {
        two_cells(root);
        memory(root, None, 0x4000_0000, 0x4000_0000);
        root.node("reserved-memory", |reserved| {
            two_cells(reserved);
            reserved_memory(reserved);
        });
    });
    tree.finish()
}

#[test]
fn a_devicetree_of_two_nodes_gives_the_zones_of_the_recorded_machine() {
    let log = booted(&file("two-nodes.dtb", &two_nodes([0, 1])), &[]);
    let recorded = fs::read_to_string(boots().join("arm64-numa2/dmesg")).unwrap();
    assert_eq!(layout(&log), layout(&recorded));
    assert!(layout(&log).len() >= 7, "{log}");
    assert!(log.contains("\nFallback order for Node 0: 0 1 \nFallback order for Node 1: 1 0 \n"), "{log}");
    assert!(log.contains("\npcpu-alloc: [0] 0 [1] 1 \n"), "{log}");
    // The command line of /chosen counts, and what the kernel does not know is named.
    assert!(log.contains("\n  Node 1: 0x") && log.contains("\"unheard-of=1\""), "{log}");
}

#[test]
fn a_devicetree_without_nodes_gives_the_zones_of_the_recorded_machine() {
    let log = booted(&file("one-node.dtb", &one_node(Vec::new(), |_| ())), &[]);
    let recorded = fs::read_to_string(boots().join("arm64-cma/dmesg")).unwrap();
    assert_eq!(layout(&log), layout(&recorded));
}

/// Returns present and managed pages of all zones.
fn pages(blob: &[u8], name: &str) -> (u64, u64) {
    let report: serde_json::Value = serde_json::from_str(&booted(&file(name, blob), &["--json"])).unwrap();
    let sum = |key: &str| report["zones"].as_array().unwrap().iter().filter_map(|zone| zone[key].as_u64()).sum();
    (sum("present"), sum("managed"))
}

#[test]
fn reservations_of_a_devicetree_are_kept_from_the_page_allocator() {
    const PAGES: u64 = 0x10_0000 >> 12;
    let (present, managed) = pages(&one_node(Vec::new(), |_| ()), "free.dtb");
    let taken = |name: &str, blob: &[u8]| {
        let (still_present, left) = pages(blob, name);
        assert_eq!(still_present, present, "{name}");
        managed - left
    };
    assert_eq!(taken("memreserve.dtb", &one_node(vec![0x4800_0000, 0x10_0000], |_| ())), PAGES);
    for flag in ["ranges", "no-map"] {
        let fixed = one_node(Vec::new(), |reserved| {
            reserved.node("firmware@50000000", |node| {
                node.cells("reg", &[0, 0x5000_0000, 0, 0x10_0000]);
                node.bytes(flag, b"");
            });
        });
        assert_eq!(taken("fixed.dtb", &fixed), PAGES, "{flag}");
        let placed = one_node(Vec::new(), |reserved| {
            reserved.node("pool", |node| {
                node.cells("size", &[0x10_0000]);
                node.cells("alignment", &[0x1000]);
                node.cells("alloc-ranges", &[0, 0x4000_0000, 0, 0x1000_0000]);
                node.bytes(flag, b"");
            });
        });
        assert_eq!(taken("placed.dtb", &placed), PAGES, "{flag}");
    }
}

#[test]
fn a_reservation_without_room_is_left_out_and_named() {
    let blob = one_node(Vec::new(), |reserved| reserved.node("pool", |node| node.cells("size", &[1, 0])));
    let log = booted(&file("no-room.dtb", &blob), &[]);
    assert!(log.contains("OF: reserved mem: failed to allocate memory for node 'pool': size 4096 MiB"), "{log}");
}

#[test]
fn a_devicetree_that_cannot_be_used_is_refused_with_its_offset() {
    let whole = two_nodes([0, 1]);
    for len in (4..whole.len()).step_by(37) {
        let error = refused(&file("truncated.dtb", &whole[..len]));
        assert!(error.contains("truncated.dtb: devicetree, byte 0x"), "{error}");
    }
    let error = refused(&file("magic.dtb", &[&[0xd0, 0x0d, 0xfe, 0xee], &whole[4..]].concat()));
    assert!(
        error.contains("magic.dtb: byte 0x0: expected text in UTF-8 (TOML or /proc/iomem), or a devicetree"),
        "{error}"
    );
    let error = refused(&file("gap.dtb", &two_nodes([0, 2])));
    assert!(error.contains("expected node numbers from 0 without gaps"), "{error}");
    let error = refused(&file(
        "alignment.dtb",
        &one_node(Vec::new(), |reserved| {
            reserved.node("pool", |node| {
                node.cells("size", &[0x1000]);
                node.cells("alignment", &[0x3000]);
            });
        }),
    ));
    assert!(error.contains("expected an alignment that is a power of two"), "{error}");
}

#[test]
fn only_regular_files_of_a_bounded_size_are_read() {
    let fifo = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine-fifo");
    let _ = fs::remove_file(&fifo);
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for special in [&fifo, Path::new("/dev/zero"), Path::new(env!("CARGO_TARGET_TMPDIR"))] {
        let error = refused(special);
        assert!(error.contains("not a regular file"), "{error}");
    }
    let large = file("large-machine", b"");
    File::options().write(true).open(&large).unwrap().set_len((16 << 20) + 1).unwrap();
    let error = refused(&large);
    assert!(error.contains("expected a description of at most 16777216 bytes"), "{error}");
}
