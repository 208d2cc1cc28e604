//! Small checkouts that each break one budget, and the row that has to say so.

use std::path::Path;

use super::{Checkout, Offender, Row, layers, report, source_rows};
use crate::source::SourceFile;
use crate::workspace::{self, Member};

fn checkout(files: &[(&str, &str)]) -> Checkout {
    let parse = |(path, text): &(&str, &str)| SourceFile::parse(Path::new(path), text.to_string()).unwrap();
    Checkout { members: Vec::new(), files: files.iter().map(parse).collect() }
}

fn row(files: &[(&str, &str)], budget: &str) -> Row {
    source_rows(&checkout(files)).into_iter().find(|row| row.budget == budget).unwrap()
}

/// The offenders of one file, as `line: what`.
fn offenders(path: &str, text: &str, budget: &str) -> Vec<String> {
    let row = row(&[(path, text)], budget);
    assert_eq!(row.held, row.offenders.is_empty(), "{row:?}");
    let prefix = format!("{path}:");
    row.offenders.iter().map(|one| one.to_string().strip_prefix(&prefix).unwrap().to_string()).collect()
}

fn member(path: &str, dependencies: &str) -> Member {
    let name = path.rsplit('/').next().unwrap();
    let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}");
    workspace::member(Path::new(path), &text, &text.parse().unwrap(), &toml::Table::new()).unwrap()
}

fn layer_breaches(members: Vec<Member>) -> Vec<String> {
    let rows = layers::rows(&Checkout { members, files: Vec::new() });
    rows.iter().flat_map(|row| &row.offenders).map(ToString::to_string).collect()
}

#[test]
fn a_file_without_a_header_is_flagged() {
    assert_eq!(offenders("a.rs", "//! Head.\n", "files without a //! header").len(), 0);
    assert_eq!(offenders("a.rs", "// Head.\nfn f() {}\n", "files without a //! header").len(), 1);
}

#[test]
fn a_long_file_is_flagged_without_its_tests() {
    let code = "//! Head.\n".to_string() + &"const _: u8 = 0;\n".repeat(600);
    let tests = format!("//! Head.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    const _: u8 = 0;\n".repeat(700));
    assert!(!row(&[("a.rs", &code)], "file length, longest").held);
    assert!(row(&[("a.rs", &tests)], "file length, longest").held);
    assert!(!row(&[("a.rs", &code)], "file length, median").held);
}

#[test]
fn a_long_function_is_flagged_with_its_line_and_length() {
    let text = format!("//! Head.\nimpl A {{\n    fn long() {{\n{}    }}\n}}\n", "        g();\n".repeat(59));
    let row = row(&[("a.rs", &text)], "function length, longest");
    assert!(!row.held);
    assert_eq!(row.offenders[0].to_string(), "a.rs:3: `long` has 61 lines");
}

#[test]
fn the_ninetieth_percentile_of_function_lengths_is_held() {
    let function = |name: &str, lines: usize| format!("fn {name}() {{\n{}}}\n", "    g();\n".repeat(lines));
    let short: String = (0..8).map(|index| function(&format!("short{index}"), 1)).collect();
    let breach = short.clone() + &function("a", 40) + &function("b", 40);
    let held = short + &function("last", 1) + &function("b", 40);
    assert_eq!(row(&[("a.rs", &breach)], "function length, p90").value, "42");
    assert!(row(&[("a.rs", &held)], "function length, p90").held);
}

#[test]
fn an_unsafe_block_needs_its_reason_directly_above() {
    let budget = "unsafe without a SAFETY line above";
    let with =
        "fn f() {\n    // SAFETY: by the type invariant.\n    let a = g(|| {\n        1\n    }, unsafe { h() });\n}\n";
    let far = "fn f() {\n    // SAFETY: by the type invariant.\n\n    unsafe { h() };\n}\n";
    let in_macro = "fn f() {\n    assert_eq!(1, unsafe { h() });\n}\n";
    assert_eq!(offenders("crates/sync/a.rs", with, budget).len(), 0);
    assert_eq!(offenders("crates/sync/a.rs", far, budget), ["4: unsafe block without `// SAFETY:` directly above"]);
    assert_eq!(offenders("crates/sync/a.rs", in_macro, budget).len(), 1);
}

#[test]
fn an_unsafe_impl_needs_its_reason_above_docs_and_attributes() {
    let budget = "unsafe without a SAFETY line above";
    let with = "// SAFETY: no interior mutability.\n#[cfg(a)]\nunsafe impl Sync for A {}\n";
    assert_eq!(offenders("crates/sync/a.rs", with, budget).len(), 0);
    assert_eq!(offenders("crates/sync/a.rs", "// Fine.\nunsafe impl Sync for A {}\n", budget).len(), 1);
}

#[test]
fn unsafe_belongs_to_its_crates_and_platform_only_declares() {
    let budget = "unsafe outside its crates";
    let declares = "unsafe trait A {\n    unsafe fn f();\n}\n";
    assert_eq!(offenders("crates/sync/src/a.rs", "fn f() { unsafe { g() } }", budget).len(), 0);
    assert_eq!(offenders("machines/sim/src/a.rs", "unsafe impl A for B {}", budget).len(), 0);
    assert_eq!(offenders("crates/platform/src/a.rs", declares, budget).len(), 0);
    assert_eq!(offenders("crates/platform/src/a.rs", "unsafe impl A for B {}", budget), ["1: `unsafe impl`"]);
    assert_eq!(offenders("crates/units/src/a.rs", declares, budget).len(), 2);
    assert_eq!(offenders("crates/units/src/a.rs", "const A: &str = \"unsafe {\"; // unsafe {\n", budget).len(), 0);
}

#[test]
fn a_core_crate_forbids_unsafe_code() {
    let budget = "core crates without forbid(unsafe_code)";
    assert_eq!(offenders("crates/units/src/lib.rs", "//! A.\n#![no_std]\n", budget).len(), 1);
    assert_eq!(offenders("crates/units/src/lib.rs", "//! A.\n#![forbid(unsafe_code)]\n", budget).len(), 0);
    assert_eq!(offenders("crates/sync/src/lib.rs", "//! A.\n", budget).len(), 0);
}

#[test]
fn std_in_a_core_crate_is_flagged_but_for_the_parsers() {
    let budget = "std or alloc in crates/";
    let parse = "#![no_std]\n#[cfg(feature = \"parse\")]\nextern crate std;\n";
    let tests = "#![no_std]\n#[cfg(test)]\nextern crate std;\n";
    assert_eq!(offenders("crates/proc-files/src/lib.rs", parse, budget).len(), 0);
    assert_eq!(offenders("crates/units/src/lib.rs", parse, budget), ["3: `extern crate std`"]);
    assert_eq!(offenders("crates/units/src/lib.rs", tests, budget).len(), 0);
    assert_eq!(offenders("crates/units/src/lib.rs", "//! A.\n", budget), ["1: no `#![no_std]`"]);
    assert_eq!(offenders("crates/units/src/a.rs", "extern crate alloc;\n", budget), ["1: `extern crate alloc`"]);
}

#[test]
fn panic_sites_are_counted_outside_tests_only() {
    let text = "fn f() {\n    a.unwrap();\n    vec![b.expect(\"c\")];\n    todo!()\n}\n#[cfg(test)]\nmod tests {\n    fn g() { a.unwrap(); panic!() }\n}\n";
    assert_eq!(offenders("a.rs", text, "panic sites"), ["2: .unwrap()", "3: .expect()", "4: todo!"]);
    assert_eq!(offenders("a.rs", "fn f() { a.unwrap_or(1); /* b.unwrap() */ }", "panic sites").len(), 0);
}

#[test]
fn one_panic_site_in_a_thousand_lines_is_allowed() {
    let text = "//! Head.\nfn f() { a.unwrap() }\n".to_string() + &"const _: u8 = 0;\n".repeat(998);
    assert!(row(&[("a.rs", &text)], "panic sites").held);
}

#[test]
fn banners_and_unfinished_marks_in_comments_are_flagged() {
    let budget = "banner comments and marks of unfinished work";
    assert_eq!(offenders("a.rs", "// -------\nfn f() {}\n", budget), ["1: banner line"]);
    assert_eq!(offenders("a.rs", "/// A TODO list.\nfn f() {}\n", budget), ["1: TODO in a comment"]);
    assert_eq!(offenders("a.rs", "fn f() {} // FIXME: all\n", budget), ["1: FIXME in a comment"]);
    assert_eq!(offenders("a.rs", "// Todo lists are fine.\nconst A: &str = \"TODO\";\n", budget).len(), 0);
}

#[test]
fn too_few_test_lines_are_flagged() {
    let code = "fn f() {}\n".repeat(3);
    let tests = "#[cfg(test)]\nmod tests {}\n";
    assert_eq!(row(&[("a.rs", &code)], "test lines").value, "0 %");
    assert!(!row(&[("a.rs", &code)], "test lines").held);
    assert!(row(&[("a.rs", &(code.clone() + tests))], "test lines").held);
    assert!(row(&[("a.rs", &code), ("tests/model/b.rs", "fn g() {}\n")], "test lines").held);
}

#[test]
fn a_dependency_on_a_later_member_is_flagged() {
    let up = vec![member("crates/low", "high = \"1\"\n"), member("crates/high", "")];
    let down = vec![member("crates/low", ""), member("crates/high", "low = \"1\"\n")];
    assert_eq!(
        layer_breaches(up),
        ["crates/low/Cargo.toml:4: crates/low stands before crates/high in the members list"]
    );
    assert!(layer_breaches(down).is_empty());
}

#[test]
fn a_core_crate_depends_on_core_crates_only() {
    let on_tool = vec![member("recordings", ""), member("crates/high", "recordings = \"1\"\n")];
    let on_foreign = vec![member("crates/high", "rand = \"1\"\nbitflags = \"2\"\n")];
    assert_eq!(layer_breaches(on_tool), ["crates/high/Cargo.toml:4: a core crate depends on recordings"]);
    assert_eq!(layer_breaches(on_foreign), ["crates/high/Cargo.toml:4: depends on rand from outside"]);
}

#[test]
fn the_report_names_value_limit_and_places_of_a_breach_only() {
    let place = |line| Offender::at("a.rs".into(), line, "too long");
    let held = Row { held: true, ..Row::none("held", vec![place(1)]) };
    let text = report(&[held, Row::none("broken", vec![place(2), place(3)])]);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert!(lines[1].starts_with("held") && lines[1].ends_with("ok"), "{text}");
    assert!(lines[2].starts_with("broken") && lines[2].ends_with("BREACH"), "{text}");
    assert_eq!(lines[3..], ["", "broken: 2, limit 0", "  a.rs:2: too long", "  a.rs:3: too long"]);
}

#[test]
fn dev_dependencies_may_point_anywhere() {
    let member = member("crates/low", "[dev-dependencies]\nhigh = \"1\"\nproptest = \"1\"\n");
    assert!(layer_breaches(vec![member, self::member("crates/high", "")]).is_empty());
}

#[test]
fn a_conditional_foreign_dependency_is_allowed() {
    let optional = "serde = { version = \"1\", optional = true }\n[target.'cfg(loom)'.dependencies]\nloom = \"0.7\"\n";
    assert!(layer_breaches(vec![member("crates/low", optional)]).is_empty());
}

#[test]
fn a_build_dependency_counts_like_any_other() {
    let member = member("crates/low", "[build-dependencies]\ncc = \"1\"\n");
    assert_eq!(layer_breaches(vec![member]), ["crates/low/Cargo.toml:5: depends on cc from outside"]);
}
