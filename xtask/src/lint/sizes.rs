//! Lengths of files and functions, and the share of test lines. Called by `lint`.
//!
//! Test code counts for the share of tests only. A function's length is from its `fn` line to its closing brace.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn};

use super::{Checkout, Offender, Row};
use crate::source::SourceFile;

const FILE_MEDIAN: usize = 300;
const FILE_MAX: usize = 600;
const FUNCTION_P90: usize = 30;
const FUNCTION_MAX: usize = 60;
const TEST_PERCENT: usize = 25;

/// Measures the sizes.
pub(super) fn rows(checkout: &Checkout) -> Vec<Row> {
    let mut rows = file_rows(checkout);
    rows.extend(function_rows(checkout));
    rows.push(test_share(checkout));
    rows
}

fn file_rows(checkout: &Checkout) -> Vec<Row> {
    let counted: Vec<_> =
        checkout.files.iter().map(|file| (file.line_counts().0, file)).filter(|(n, _)| *n > 0).collect();
    let lengths: Vec<usize> = counted.iter().map(|(length, _)| *length).collect();
    let over = |limit| {
        let long = counted.iter().filter(move |(length, _)| *length > limit);
        long.map(|(length, file)| Offender::new(file, 1, format!("{length} lines without tests"))).collect()
    };
    vec![
        at_most("file length, median", percentile(&lengths, 50), FILE_MEDIAN, over(FILE_MEDIAN)),
        at_most("file length, longest", percentile(&lengths, 100), FILE_MAX, over(FILE_MAX)),
    ]
}

fn function_rows(checkout: &Checkout) -> Vec<Row> {
    let mut functions = Vec::new();
    for file in &checkout.files {
        functions.extend(functions_of(file).into_iter().map(|function| (file, function)));
    }
    functions.sort_by_key(|(_, function)| std::cmp::Reverse(function.length));
    let lengths: Vec<usize> = functions.iter().map(|(_, function)| function.length).collect();
    let over = |limit| {
        let long = functions.iter().filter(move |(_, function)| function.length > limit);
        long.map(|(file, one)| Offender::new(file, one.line, format!("`{}` has {} lines", one.name, one.length)))
            .collect()
    };
    vec![
        at_most("function length, p90", percentile(&lengths, 90), FUNCTION_P90, over(FUNCTION_P90)),
        at_most("function length, longest", percentile(&lengths, 100), FUNCTION_MAX, over(FUNCTION_MAX)),
    ]
}

fn test_share(checkout: &Checkout) -> Row {
    let (code, test) = line_totals(checkout);
    let percent = (100 * test).checked_div(code + test).unwrap_or(0);
    let mut offenders: Vec<(usize, Offender)> = checkout
        .members
        .iter()
        .filter_map(|member| {
            let files =
                checkout.files.iter().filter(|file| checkout.owner(file).is_some_and(|o| o.name == member.name));
            let (code, test) = sum(files);
            let percent = (100 * test).checked_div(code + test)?;
            let what = format!("{percent} % test lines ({test} of {})", code + test);
            Some((percent, Offender::at(member.path(), 1, what)))
        })
        .filter(|(percent, _)| *percent < TEST_PERCENT)
        .collect();
    offenders.sort_by_key(|(percent, _)| *percent);
    Row {
        budget: "test lines",
        value: format!("{percent} %"),
        limit: format!(">= {TEST_PERCENT} %"),
        held: percent >= TEST_PERCENT,
        offenders: offenders.into_iter().map(|(_, offender)| offender).collect(),
    }
}

/// Lines outside test code and lines of test code of the whole workspace.
pub(super) fn line_totals(checkout: &Checkout) -> (usize, usize) {
    sum(checkout.files.iter())
}

fn sum<'a>(files: impl Iterator<Item = &'a SourceFile>) -> (usize, usize) {
    files.map(SourceFile::line_counts).fold((0, 0), |total, one| (total.0 + one.0, total.1 + one.1))
}

fn at_most(budget: &'static str, value: usize, limit: usize, offenders: Vec<Offender>) -> Row {
    Row { budget, value: value.to_string(), limit: format!("<= {limit}"), held: value <= limit, offenders }
}

/// The smallest value that at least `percent` of the values do not exceed; 0 of no values.
fn percentile(values: &[usize], percent: usize) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (percent * sorted.len()).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// A function with a body, outside test code.
pub(super) struct Function {
    name: String,
    line: usize,
    length: usize,
}

#[derive(Default)]
struct Functions {
    found: Vec<Function>,
}

fn functions_of(file: &SourceFile) -> Vec<Function> {
    let mut functions = Functions::default();
    functions.visit_file(&file.syntax);
    functions.found.retain(|function| !file.is_test_line(function.line));
    functions.found
}

impl Functions {
    fn add(&mut self, signature: &Signature, block: &Block) {
        let line = signature.span().start().line;
        let length = block.span().end().line + 1 - line;
        self.found.push(Function { name: signature.ident.to_string(), line, length });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
