//! Where unsafe code may be, and the `// SAFETY:` line above each piece of it. Called by `lint`.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, ExprUnsafe, Item, ItemImpl, Macro, Stmt};

use super::{Checkout, Offender, Row};
use crate::source::{self, SourceFile};

/// Directories whose code may be unsafe. Benchmarks boot a machine of their own and call peers whose interfaces are unsafe.
const ALLOWED: [&str; 6] =
    ["crates/frame-table", "crates/object-allocator", "crates/sync", "crates/collections", "machines", "benches"];
/// Directories that may declare unsafe traits and functions, and implement none.
const MAY_DECLARE: [&str; 1] = ["crates/platform"];

/// Finds unsafe code out of place and unsafe code without its reason.
pub(super) fn rows(checkout: &Checkout) -> Vec<Row> {
    let files = || checkout.files.iter();
    let roots = files().filter(|file| file.path.starts_with("crates") && file.path.ends_with("src/lib.rs"));
    vec![
        Row::none("unsafe outside its crates", files().flat_map(misplaced).collect()),
        Row::none("core crates without forbid(unsafe_code)", roots.filter_map(not_forbidden).collect()),
        Row::none("unsafe without a SAFETY line above", files().flat_map(undocumented).collect()),
    ]
}

fn is_below(file: &SourceFile, directories: &[&str]) -> bool {
    directories.iter().any(|directory| file.path.starts_with(directory))
}

fn misplaced(file: &SourceFile) -> Vec<Offender> {
    if is_below(file, &ALLOWED) {
        return Vec::new();
    }
    let may_declare = is_below(file, &MAY_DECLARE);
    let following = file.tokens.iter().skip(1).map(|token| token.text.as_str()).chain([""]);
    let found = file.tokens.iter().zip(following).filter(|(token, next)| {
        let is_declaration = may_declare && matches!(*next, "trait" | "fn");
        token.text == "unsafe" && !is_declaration && !file.is_test_line(token.line)
    });
    found.map(|(token, next)| Offender::new(file, token.line, format!("`unsafe {next}`"))).collect()
}

fn not_forbidden(file: &SourceFile) -> Option<Offender> {
    let exempt = is_below(file, &ALLOWED) || is_below(file, &MAY_DECLARE);
    let forbids = file.text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    (!exempt && !forbids).then(|| Offender::new(file, 1, "no `#![forbid(unsafe_code)]`"))
}

fn undocumented(file: &SourceFile) -> Vec<Offender> {
    let mut blocks = UnsafeCode { file, anchors: Vec::new(), offenders: Vec::new() };
    blocks.visit_file(&file.syntax);
    blocks.offenders
}

/// Walks a file with the starts of the statements, match arms and items around the current place.
struct UnsafeCode<'f> {
    file: &'f SourceFile,
    anchors: Vec<usize>,
    offenders: Vec<Offender>,
}

impl UnsafeCode<'_> {
    /// Wants the reason above the line itself or above the innermost statement, arm or item that it is part of.
    fn want_reason(&mut self, line: usize, what: &str) {
        let anchor = self.anchors.last().copied().unwrap_or(line);
        if !has_reason_above(self.file, line) && !has_reason_above(self.file, anchor) {
            self.offenders.push(Offender::new(self.file, line, format!("{what} without `// SAFETY:` directly above")));
        }
    }

    fn inside(&mut self, start: usize, walk: impl FnOnce(&mut Self)) {
        self.anchors.push(start);
        walk(self);
        self.anchors.pop();
    }
}

impl<'ast> Visit<'ast> for UnsafeCode<'_> {
    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        self.inside(statement.span().start().line, |walk| visit::visit_stmt(walk, statement));
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        self.inside(arm.span().start().line, |walk| visit::visit_arm(walk, arm));
    }

    fn visit_item(&mut self, item: &'ast Item) {
        self.inside(item.span().start().line, |walk| visit::visit_item(walk, item));
    }

    fn visit_expr_unsafe(&mut self, block: &'ast ExprUnsafe) {
        self.want_reason(block.unsafe_token.span.start().line, "unsafe block");
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        if let Some(token) = block.unsafety {
            self.want_reason(token.span.start().line, "unsafe impl");
        }
        visit::visit_item_impl(self, block);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        let tokens = source::flatten(invocation.tokens.clone());
        for pair in tokens.windows(2) {
            if pair[0].text == "unsafe" && matches!(pair[1].text.as_str(), "{" | "impl") {
                self.want_reason(pair[0].line, "unsafe in a macro");
            }
        }
    }
}

/// Looks through the comments, attributes and docs that end on the line above `line`.
fn has_reason_above(file: &SourceFile, line: usize) -> bool {
    let lines: Vec<&str> = file.text.lines().collect();
    let above = lines.iter().take(line.saturating_sub(1)).rev().map(|text| text.trim());
    above
        .take_while(|text| text.starts_with("//") || text.starts_with("#["))
        .any(|text| text.starts_with("// SAFETY: "))
}
