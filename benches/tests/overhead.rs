//! What objects take beside their own bytes, as the benchmark measures it: in a process of its own, from its resident memory.

use std::process::Command;

#[test]
fn a_million_objects_of_the_system_allocator_take_more_than_their_own_bytes() {
    let program = env!("CARGO_BIN_EXE_mmkit-benches");
    let output = Command::new(program).args(["objects", "--overhead-of", "system allocator"]).output().unwrap();
    let overhead: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!((0.0..64.0).contains(&overhead), "{overhead} bytes an object");
}

#[test]
fn an_allocator_that_is_not_there_has_no_figure() {
    let program = env!("CARGO_BIN_EXE_mmkit-benches");
    let output = Command::new(program).args(["objects", "--overhead-of", "no such allocator"]).output().unwrap();
    assert!(output.stdout.is_empty());
}
