//! `mmkit` with option values that nobody should write: one clear error and exit code 2, or the value is taken; never a panic.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Output, Stdio};

use sim::Rng;

/// Values that are hardly any option's.
const VALUES: [&str; 30] = [
    "",
    " ",
    "-1",
    "+1",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "1e9",
    "NaN",
    "0x",
    "0x1G",
    "1EB",
    "16E",
    "17E",
    "=",
    "==",
    ",",
    ",,",
    "@",
    "$",
    "%s%n",
    "\n",
    "..",
    "١٢",
    "🦀",
    "vm.",
    "vm.=",
    "vm.min_free_kbytes=",
    "vm.min_free_kbytes=-1",
    "vm.lowmem_reserve_ratio=1 2 3 4 5 6 7",
    "vm.watermark_scale_factor=18446744073709551616",
];

/// Options with values, behind arguments with which nothing runs for long.
const OPTIONS: [(&[&str], &str); 16] = [
    (&["boot"], "--machine"),
    (&["boot"], "--from-log"),
    (&["boot", "--machine", "small"], "--set"),
    (&["boot", "--machine", "small"], "--proc"),
    (&["diff"], "--ops"),
    (&["diff", "--ops", "0"], "--seed"),
    (&["diff", "--ops", "0"], "--only"),
    (&["diff", "--ops", "0"], "--release"),
    (&["replay", "missing"], "--phase"),
    (&["replay", "missing"], "--set"),
    (&["replay", "missing"], "--list-order"),
    (&["replay", "missing"], "--free-high"),
    (&["replay", "missing"], "--proc"),
    (&["replay", "missing"], "--csv"),
    (&["replay", "missing.vmtrace"], "--maps"),
    (&["replay", "missing.vmtrace"], "--smaps"),
];

/// Kernel options that `--append` reads.
const KERNEL_OPTIONS: [&str; 17] = [
    "mem",
    "memmap",
    "kernelcore",
    "movablecore",
    "movable_node",
    "numa",
    "cma",
    "page_poison",
    "init_on_alloc",
    "init_on_free",
    "debug_pagealloc",
    "page_owner",
    "slab_debug",
    "slab_nomerge",
    "transparent_hugepage",
    "memblock",
    "nr_cpus",
];

/// What their values are put together from.
const PARTS: [&str; 26] = [
    "0",
    "1",
    "8",
    "4095",
    "64M",
    "1G",
    "16E",
    "17E",
    "18446744073709551615",
    "18446744073709551616",
    "0x",
    "0xffffffffffffffff",
    "-",
    "@",
    "$",
    "#",
    "!",
    "%",
    ",",
    ":",
    "=",
    "\"",
    "fake=",
    "exactmap",
    "on",
    "é",
];

fn run(arguments: &[&OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs the command, and returns its exit code. Whatever is refused is refused with an error of a few lines.
fn exit_code(before: &[&str], option: &str, value: &OsStr) -> Option<i32> {
    let mut last = OsString::from(option);
    last.push("=");
    last.push(value);
    let arguments: Vec<&OsStr> = before.iter().map(OsStr::new).chain([last.as_os_str()]).collect();
    let output = run(&arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    let is_error = told.starts_with("error: ") || told.starts_with("mmkit: ");
    assert!(
        code == Some(0) || is_error && told.matches("error: ").count() <= 1,
        "{arguments:?} ends with {code:?}: {told}"
    );
    code
}

#[test]
fn a_value_that_no_option_has_is_refused_with_one_error_and_exit_code_2() {
    for (before, option) in OPTIONS {
        for value in VALUES {
            // What numbers, lists and names of nothing mean is the option's own affair.
            let may_be_meant = ["+1", "1e9"].contains(&value) && matches!(option, "--ops" | "--seed");
            let code = exit_code(before, option, OsStr::new(value));
            assert!(
                code == Some(2) || may_be_meant && code == Some(0),
                "{before:?} {option}={value:?} ends with {code:?}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    for (before, option) in OPTIONS {
        assert_eq!(exit_code(before, option, OsStr::from_bytes(b"\xff\xfe=\xc3")), Some(2), "{before:?} {option}");
    }
}

#[test]
fn kernel_options_of_any_form_boot_the_machine_or_say_why_not() {
    let mut rng = Rng::for_part(1, 0);
    let mut refused = 0;
    for _ in 0..120 {
        let mut append = String::new();
        for _ in 0..=rng.below(2) {
            append += KERNEL_OPTIONS[rng.index(KERNEL_OPTIONS.len())];
            append.push('=');
            (0..=rng.below(4)).for_each(|_| append += PARTS[rng.index(PARTS.len())]);
            append.push(' ');
        }
        let code = exit_code(&["boot", "--machine", "small"], "--append", OsStr::new(&append));
        // 1: a machine with less memory than it takes to boot.
        assert!(matches!(code, Some(0..=2)), "{append:?} ends with {code:?}");
        refused += u32::from(code == Some(2));
    }
    assert!(refused > 20, "{refused} of 120 were refused");
}

#[test]
fn an_output_that_would_replace_its_input_is_refused() {
    let trace = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("spared.trace");
    std::fs::write(&trace, "# mmtrace 1\n").unwrap();
    let output = run(&[OsStr::new("replay"), trace.as_os_str(), OsStr::new("--csv"), trace.as_os_str()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("would replace the input") && told.contains("spared.trace"), "{told}");
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "# mmtrace 1\n");
}
