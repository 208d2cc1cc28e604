//! `mmkit diff` as a user runs it, on the kernel of this host.

use std::process::{Command, Output};

fn diff(options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmkit")).arg("diff").args(options).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns true if the host's kernel is one whose rules are known: 6.12, or 6.17 and later.
fn has_known_rules() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    version == (6, 12) || version >= (6, 17)
}

#[test]
fn this_kernel_and_ours_agree_on_random_calls() {
    if !has_known_rules() {
        return;
    }
    for seed in ["101", "102"] {
        let output = diff(&["--ops", "5000", "--seed", seed]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("0 differences"), "{}", text(&output));
    }
}

#[test]
fn the_rules_of_another_release_are_found_to_differ_and_shrunk() {
    if !has_known_rules() {
        return;
    }
    let other = if std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().starts_with("6.12.") {
        "6.18"
    } else {
        "6.12"
    };
    let output = diff(&["--ops", "20000", "--only", "mmap,mremap,munmap", "--release", other]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let shortest = text(&output).lines().filter(|line| line.trim_start().starts_with("Operation::")).count();
    assert!((1..20).contains(&shortest), "{}", text(&output));
}

#[test]
fn a_call_that_does_not_exist_is_named() {
    let output = diff(&["--only", "mmap,frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("frobnicate"));
}
