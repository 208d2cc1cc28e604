//! One Rust source file as the checks see it: text, syntax tree, flat tokens, comments, and which lines are test code.
//!
//! Used by `lint` and by `linux_map`. Comments are what lies between the tokens, so a `//` in a string is not one.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, ImplItem, Item, Lit, Meta};

/// A parsed file.
pub(crate) struct SourceFile {
    /// Path from the top of the checkout.
    pub(crate) path: PathBuf,
    /// The whole text.
    pub(crate) text: String,
    /// The syntax tree.
    pub(crate) syntax: syn::File,
    /// Every token in order, group delimiters included.
    pub(crate) tokens: Vec<Token>,
    /// Every comment that is no doc comment.
    pub(crate) comments: Vec<Comment>,
    /// Line ranges under `cfg(test)`, 1-based.
    pub(crate) test_regions: Vec<RangeInclusive<usize>>,
    /// Whether the whole file is test code.
    pub(crate) is_test: bool,
}

/// A token without its groups' nesting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The identifier, punctuation or literal as written; `(`, `)` and so on for delimiters.
    pub(crate) text: String,
    /// 1-based line of its first character.
    pub(crate) line: usize,
}

/// A run of text between two tokens that starts a comment, cut into lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// 1-based line.
    pub(crate) line: usize,
    /// One line of the comment, trimmed, with its `//`.
    pub(crate) text: String,
}

impl SourceFile {
    /// Parses `text`, which is or will be the file at `path`.
    ///
    /// # Errors
    /// The text is no Rust file; the error names path and line.
    pub(crate) fn parse(path: &Path, text: String) -> Result<Self> {
        let at =
            |error: &dyn std::fmt::Display, span: Span| anyhow!("{}:{}: {error}", path.display(), span.start().line);
        let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| at(&error, error.span()))?;
        let mut flat = Flat::default();
        flat.push(stream.clone());
        let syntax: syn::File = syn::parse2(stream).map_err(|error| at(&error, error.span()))?;
        let mut regions = TestRegions::default();
        regions.visit_file(&syntax);
        let mut comments = comments_between(&text, &mut flat.spans);
        let first_line_is_attribute = text.starts_with("#!/");
        comments.retain(|comment| !(first_line_is_attribute && comment.line == 1));
        Ok(Self {
            is_test: is_test_path(path),
            path: path.to_path_buf(),
            syntax,
            tokens: flat.tokens,
            comments,
            test_regions: regions.lines,
            text,
        })
    }

    /// Reads and parses the file at `path` below `top`.
    ///
    /// # Errors
    /// The file cannot be read or is no Rust file.
    pub(crate) fn read(top: &Path, path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(top.join(path)).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(path, text)
    }

    /// Tells whether `line` is test code.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test || self.test_regions.iter().any(|region| region.contains(&line))
    }

    /// Counts lines outside test code and lines of test code.
    pub(crate) fn line_counts(&self) -> (usize, usize) {
        let total = self.text.lines().count();
        let test = (1..=total).filter(|&line| self.is_test_line(line)).count();
        (total - test, test)
    }

    /// Files that this one includes by `#[cfg(test)] mod name;`, as path prefixes without `.rs`.
    pub(crate) fn test_modules(&self) -> Vec<PathBuf> {
        let items = self.syntax.items.iter();
        items
            .filter_map(|item| if let Item::Mod(module) = item { Some(module) } else { None })
            .filter(|module| module.content.is_none() && is_test_only(&module.attrs))
            .map(|module| match module.attrs.iter().find_map(path_attribute) {
                Some(path) => self.path.with_file_name(path).with_extension(""),
                None => module_directory(&self.path).join(module.ident.to_string()),
            })
            .collect()
    }
}

/// The file name in `#[path = "name.rs"]`.
fn path_attribute(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => text_of(&pair.value),
        _ => None,
    }
}

fn text_of(value: &Expr) -> Option<String> {
    if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value { Some(text.value()) } else { None }
}

/// Directory in which the out-of-line modules of the file at `path` lie.
pub(crate) fn module_directory(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new("")).to_path_buf();
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => parent,
        Some(stem) => parent.join(stem),
    }
}

/// Tells whether `attributes` keep an item out of every build but the tests'.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|meta| implies_test(&meta))
        }
        _ => false,
    })
}

/// Features that only tests of other crates ask for.
const TEST_FEATURES: [&str; 1] = ["heap-memory"];

/// Tells whether a `cfg` predicate can hold in a test build only.
fn implies_test(meta: &Meta) -> bool {
    let list = match meta {
        Meta::Path(path) => return path.is_ident("test"),
        Meta::NameValue(pair) => return pair.path.is_ident("feature") && is_test_feature(&pair.value),
        Meta::List(list) => list,
    };
    let parser = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
    let Ok(inner) = list.parse_args_with(parser) else { return false };
    if list.path.is_ident("all") {
        inner.iter().any(implies_test)
    } else {
        list.path.is_ident("any") && !inner.is_empty() && inner.iter().all(implies_test)
    }
}

fn is_test_feature(value: &Expr) -> bool {
    text_of(value).is_some_and(|name| TEST_FEATURES.contains(&name.as_str()))
}

/// A file named `tests.rs`, or below a directory `tests`.
fn is_test_path(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.parent().is_some_and(|parent| parent.components().any(|part| part.as_os_str() == "tests"))
}

#[derive(Default)]
struct TestRegions {
    lines: Vec<RangeInclusive<usize>>,
}

impl TestRegions {
    fn add(&mut self, span: Span) {
        self.lines.push(span.start().line..=span.end().line);
    }
}

impl<'ast> Visit<'ast> for TestRegions {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test_only(attributes_of(item)) {
            self.add(item.span());
        } else {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Fn(function) => &function.attrs,
            ImplItem::Const(constant) => &constant.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if is_test_only(attributes) {
            self.add(item.span());
        } else {
            visit::visit_impl_item(self, item);
        }
    }
}

/// Attributes of an item of any kind.
pub(crate) fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The tokens of `stream` in order, group delimiters included.
pub(crate) fn flatten(stream: TokenStream) -> Vec<Token> {
    let mut flat = Flat::default();
    flat.push(stream);
    flat.tokens
}

#[derive(Default)]
struct Flat {
    tokens: Vec<Token>,
    spans: Vec<Range<usize>>,
}

impl Flat {
    fn push(&mut self, stream: TokenStream) {
        for tree in stream {
            match tree {
                TokenTree::Group(group) => {
                    let [open, close] = delimiters(group.delimiter());
                    self.push_one(open, group.span_open());
                    self.push(group.stream());
                    self.push_one(close, group.span_close());
                }
                other => self.push_one(&other.to_string(), other.span()),
            }
        }
    }

    fn push_one(&mut self, text: &str, span: Span) {
        self.tokens.push(Token { text: text.to_string(), line: span.start().line });
        self.spans.push(span.byte_range());
    }
}

fn delimiters(delimiter: proc_macro2::Delimiter) -> [&'static str; 2] {
    match delimiter {
        proc_macro2::Delimiter::Parenthesis => ["(", ")"],
        proc_macro2::Delimiter::Brace => ["{", "}"],
        proc_macro2::Delimiter::Bracket => ["[", "]"],
        proc_macro2::Delimiter::None => ["", ""],
    }
}

/// Collects what lies between the tokens and is not white space, line by line.
fn comments_between(text: &str, spans: &mut Vec<Range<usize>>) -> Vec<Comment> {
    spans.sort_by_key(|span| span.start);
    spans.push(text.len()..text.len());
    let mut comments = Vec::new();
    let (mut end, mut end_line) = (0, 1);
    for span in spans.iter() {
        if let Some(gap) = text.get(end..span.start) {
            let lines = gap.lines().enumerate().map(|(index, line)| (end_line + index, line.trim()));
            comments.extend(
                lines.filter(|(_, line)| !line.is_empty()).map(|(line, text)| Comment { line, text: text.to_string() }),
            );
        }
        if let Some(passed) = text.get(end..span.end) {
            end_line += passed.matches('\n').count();
            end = span.end;
        }
    }
    comments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> SourceFile {
        SourceFile::parse(Path::new("crates/x/src/a.rs"), text.to_string()).unwrap()
    }

    #[test]
    fn comments_are_found_and_slashes_in_strings_are_not() {
        let file = parse("//! Head.\n\n// why\nconst A: &str = \"// no\"; /* and\n b */\n/// Doc.\nfn f() {}\n// end");
        let found: Vec<_> = file.comments.iter().map(|comment| (comment.line, comment.text.as_str())).collect();
        assert_eq!(found, [(3, "// why"), (4, "/* and"), (5, "b */"), (8, "// end")]);
    }

    #[test]
    fn test_code_is_counted_apart() {
        let file = parse("fn a() {}\n\n#[cfg(all(test, not(loom)))]\nmod tests {\n    fn b() {}\n}\n");
        assert_eq!(file.line_counts(), (2, 4));
    }

    #[test]
    fn only_a_predicate_that_needs_test_makes_test_code() {
        for (attribute, expected) in [
            ("test", true),
            ("any(test, feature = \"heap-memory\")", true),
            ("any(test, feature = \"parse\")", false),
            ("all(loom, test)", true),
            ("not(test)", false),
            ("any(test, loom)", false),
            ("any(test)", true),
        ] {
            let item: Item = syn::parse_str(&format!("#[cfg({attribute})] fn f() {{}}")).unwrap();
            assert_eq!(is_test_only(attributes_of(&item)), expected, "{attribute}");
        }
    }

    #[test]
    fn modules_of_a_test_build_are_found_by_name_and_by_path() {
        let text = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[path = \"rules_tests.rs\"]\nmod more;\nmod code;\n";
        assert_eq!(parse(text).test_modules(), ["crates/x/src/a/tests", "crates/x/src/rules_tests"].map(PathBuf::from));
    }

    #[test]
    fn a_syntax_error_names_file_and_line() {
        let error = SourceFile::parse(Path::new("a.rs"), "fn a() {}\nfn fn\n".into()).err().unwrap().to_string();
        assert!(error.starts_with("a.rs:2: "), "{error}");
    }
}
