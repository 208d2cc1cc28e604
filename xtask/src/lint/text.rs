//! File headers, comments, panic sites and the standard library in the core crates. Called by `lint`.

use super::{Checkout, Offender, Row, sizes};
use crate::source::{SourceFile, Token};

/// Panic sites allowed in every this many lines without tests.
const LINES_PER_PANIC: usize = 1000;
/// Marks of unfinished work. Each is a whole word in capitals, so the check is exact.
const UNFINISHED: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];
/// The one core crate with a feature that uses the standard library, and that feature.
const HOSTED_FEATURE: (&str, &str) = ("crates/proc-files", "parse");

/// Measures headers, comments, panic sites and uses of std.
pub(super) fn rows(checkout: &Checkout) -> Vec<Row> {
    let per_file = |check: fn(&SourceFile) -> Vec<Offender>| checkout.files.iter().flat_map(check).collect::<Vec<_>>();
    let core = checkout.files.iter().filter(|file| file.path.starts_with("crates") && !file.is_test);
    vec![
        panic_row(checkout, per_file(panic_sites)),
        Row::none("files without a //! header", per_file(missing_header)),
        Row::none("banner comments and marks of unfinished work", per_file(bad_comments)),
        Row::none("std or alloc in crates/", core.flat_map(hosted_uses).collect()),
    ]
}

fn panic_row(checkout: &Checkout, offenders: Vec<Offender>) -> Row {
    let allowed = sizes::line_totals(checkout).0 / LINES_PER_PANIC;
    Row {
        budget: "panic sites",
        value: offenders.len().to_string(),
        limit: format!("<= {allowed} (1 in {LINES_PER_PANIC} lines)"),
        held: offenders.len() <= allowed,
        offenders,
    }
}

fn panic_sites(file: &SourceFile) -> Vec<Offender> {
    let sites = file.tokens.windows(3).filter_map(|window| {
        let [first, second, third] = window else { return None };
        let site = match (first.text.as_str(), second.text.as_str(), third.text.as_str()) {
            (".", method @ ("unwrap" | "expect" | "unwrap_err" | "expect_err"), "(") => format!(".{method}()"),
            (name @ ("panic" | "unreachable" | "todo" | "unimplemented"), "!", "(" | "{" | "[") => format!("{name}!"),
            _ => return None,
        };
        (!file.is_test_line(second.line)).then(|| Offender::new(file, second.line, site))
    });
    sites.collect()
}

fn missing_header(file: &SourceFile) -> Vec<Offender> {
    let first = file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!/"));
    if first.is_some_and(|line| line.starts_with("//! ")) {
        return Vec::new();
    }
    vec![Offender::new(file, 1, "the first line is no `//! ` header")]
}

fn bad_comments(file: &SourceFile) -> Vec<Offender> {
    let documentation = file.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let documentation = documentation.filter(|(_, line)| line.starts_with("///") || line.starts_with("//!"));
    let plain = file.comments.iter().map(|comment| (comment.line, comment.text.as_str()));
    let complaint = |(line, text): (usize, &str)| Some(Offender::new(file, line, complaint_about(text)?));
    documentation.chain(plain).filter_map(complaint).collect()
}

/// What is wrong with one line of a comment, if anything is.
fn complaint_about(line: &str) -> Option<String> {
    let body = line.trim_start_matches(['/', '!', '*']).trim();
    if body.len() >= 3 && body.chars().all(|one| "-=*#~_+/<>".contains(one)) || line.starts_with("/////") {
        return Some("banner line".into());
    }
    let words = body.split(|one: char| !one.is_alphanumeric() && one != '_');
    words.into_iter().find(|word| UNFINISHED.contains(word)).map(|word| format!("{word} in a comment"))
}

fn hosted_uses(file: &SourceFile) -> Vec<Offender> {
    let is_root = file.path.ends_with("src/lib.rs");
    let has_no_std = file.text.lines().any(|line| line.trim() == "#![no_std]");
    let mut offenders = Vec::new();
    if is_root && !has_no_std {
        offenders.push(Offender::new(file, 1, "no `#![no_std]`"));
    }
    for (index, window) in file.tokens.windows(3).enumerate() {
        let names: Vec<&str> = window.iter().map(|token| token.text.as_str()).collect();
        if let ["extern", "crate", name @ ("std" | "alloc")] = names[..] {
            let line = window[0].line;
            if !file.is_test_line(line) && !is_under_hosted_feature(file, &file.tokens[..index]) {
                offenders.push(Offender::new(file, line, format!("`extern crate {name}`")));
            }
        }
    }
    offenders
}

/// Tells whether the item that follows `before` is the declared exception.
fn is_under_hosted_feature(file: &SourceFile, before: &[Token]) -> bool {
    let (directory, feature) = HOSTED_FEATURE;
    let attribute = ["#", "[", "cfg", "(", "feature", "=", &format!("\"{feature}\""), ")", "]"].map(String::from);
    let tail = before.iter().rev().map(|token| &token.text);
    file.path.starts_with(directory) && tail.take(attribute.len()).eq(attribute.iter().rev())
}
