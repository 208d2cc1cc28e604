//! Finds items by path in the parsed sources: `boot_memory::memblock::Memblock::reserve`. Used by `linux_map`.
//!
//! A path may go through modules or through `use` re-exports, public or not. Names that a macro invocation declares with
//! `struct`, `const`, `fn` and the like count as well, so flags of `bitflags!` are found.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

use syn::{Fields, ImplItem, Item, ItemImpl, Macro, TraitItem, Type, UseTree};

use crate::source::{self, SourceFile};
use crate::workspace::Member;

/// Re-exports are followed so many times: no real chain is longer, and a circle ends.
const MOST_HOPS: usize = 16;

/// Everything with a name in the members' libraries.
#[derive(Default)]
pub(crate) struct Items {
    crates: HashMap<String, Crate>,
}

#[derive(Default)]
struct Crate {
    /// By module path, `a::b`; the root is empty.
    modules: HashMap<String, Module>,
    /// Members of types: `(type, name)`.
    members: HashSet<(String, String)>,
}

#[derive(Default)]
struct Module {
    items: HashSet<String>,
    /// Name, or `*`, and the path that it stands for.
    uses: Vec<(String, Vec<String>)>,
}

impl Items {
    /// Indexes the files of every member that has a library.
    pub(crate) fn new(members: &[Member], files: &[SourceFile]) -> Self {
        let mut items = Self::default();
        for member in members {
            let sources = member.directory.join("src");
            let index = items.crates.entry(import_name(&member.name)).or_default();
            for file in files.iter().filter(|file| !file.is_test) {
                if let Ok(below) = file.path.strip_prefix(&sources) {
                    index.add_items(&module_path(below), &file.syntax.items);
                }
            }
        }
        items
    }

    /// Tells whether `path` names an item, or a method, variant, field or constant of one.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let segments: Vec<String> = path.split("::").map(str::to_string).collect();
        self.resolve(&segments, MOST_HOPS)
    }

    fn resolve(&self, path: &[String], hops: usize) -> bool {
        let Some(((name, rest), hops)) = path.split_first().zip(hops.checked_sub(1)) else { return false };
        let Some(index) = self.crates.get(name) else { return false };
        let mut module = String::new();
        for (depth, segment) in rest.iter().enumerate() {
            let below = join(&module, segment);
            let after = &rest[depth + 1..];
            if index.modules.contains_key(&below) {
                module = below;
            } else if index.modules.get(&module).is_some_and(|one| one.items.contains(segment)) {
                return index.has_member(segment, after);
            } else {
                return self.resolve_use(name, &module, &rest[depth..], hops);
            }
        }
        !module.is_empty()
    }

    /// Looks for `rest` behind the re-exports of a module.
    fn resolve_use(&self, name: &str, module: &str, rest: &[String], hops: usize) -> bool {
        let (Some(index), Some(first)) = (self.crates.get(name), rest.first()) else { return false };
        let uses = index.modules.get(module).map(|one| one.uses.as_slice()).unwrap_or_default();
        uses.iter().any(|(alias, target)| {
            let tail = if alias == "*" { rest } else { &rest[1..] };
            (alias == "*" || alias == first)
                && self.resolve(&[absolute(name, module, target, index), tail.to_vec()].concat(), hops)
        })
    }
}

impl Crate {
    /// Tells whether the item `owner` is all that was asked for, or has the member that was.
    fn has_member(&self, owner: &str, after: &[String]) -> bool {
        match after {
            [] => true,
            [member] => self.members.contains(&(owner.to_string(), member.clone())),
            _ => false,
        }
    }

    fn add_items(&mut self, module: &str, items: &[Item]) {
        self.modules.entry(module.to_string()).or_default();
        for item in items.iter().filter(|item| !source::is_test_only(source::attributes_of(item))) {
            self.add_item(module, item);
        }
    }

    fn add_item(&mut self, module: &str, item: &Item) {
        match item {
            Item::Mod(inner) => {
                if let Some((_, items)) = &inner.content {
                    self.add_items(&join(module, &inner.ident.to_string()), items);
                }
            }
            Item::Use(import) => add_uses(&import.tree, &mut Vec::new(), &mut self.module(module).uses),
            Item::Impl(block) => self.add_impl(module, block),
            Item::Macro(invocation) => self.add_macro(module, &invocation.mac),
            other => self.add_declaration(module, other),
        }
    }

    fn add_declaration(&mut self, module: &str, item: &Item) {
        let (name, members): (_, Vec<String>) = match item {
            Item::Const(one) => (&one.ident, Vec::new()),
            Item::Static(one) => (&one.ident, Vec::new()),
            Item::Type(one) => (&one.ident, Vec::new()),
            Item::Fn(one) => (&one.sig.ident, Vec::new()),
            Item::Struct(one) => (&one.ident, field_names(&one.fields)),
            Item::Enum(one) => (&one.ident, one.variants.iter().map(|variant| variant.ident.to_string()).collect()),
            Item::Trait(one) => (&one.ident, one.items.iter().filter_map(trait_member).collect()),
            _ => return,
        };
        self.module(module).items.insert(name.to_string());
        self.add_members(&name.to_string(), members);
    }

    /// Takes the members, and of an inherent block the type itself: a macro may have declared it.
    fn add_impl(&mut self, module: &str, block: &ItemImpl) {
        let Type::Path(path) = block.self_ty.as_ref() else { return };
        let Some(owner) = path.path.segments.last() else { return };
        let names = block.items.iter().filter_map(|item| match item {
            ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
            ImplItem::Const(constant) => Some(constant.ident.to_string()),
            _ => None,
        });
        self.add_members(&owner.ident.to_string(), names.collect());
        if block.trait_.is_none() {
            self.module(module).items.insert(owner.ident.to_string());
        }
    }

    /// Takes the names that follow a declaring keyword; constants and functions also as members of the last type.
    fn add_macro(&mut self, module: &str, invocation: &Macro) {
        let mut owner = String::new();
        for pair in source::flatten(invocation.tokens.clone()).windows(2) {
            let name = pair[1].text.clone();
            match pair[0].text.as_str() {
                "struct" | "enum" | "trait" => owner = name.clone(),
                "const" | "fn" => self.add_members(&owner, vec![name.clone()]),
                "static" | "type" => {}
                _ => continue,
            }
            self.module(module).items.insert(name);
        }
    }

    fn add_members(&mut self, owner: &str, names: Vec<String>) {
        self.members.extend(names.into_iter().map(|name| (owner.to_string(), name)));
    }

    fn module(&mut self, path: &str) -> &mut Module {
        self.modules.entry(path.to_string()).or_default()
    }
}

fn field_names(fields: &Fields) -> Vec<String> {
    fields.iter().filter_map(|field| field.ident.as_ref()).map(ToString::to_string).collect()
}

fn trait_member(item: &TraitItem) -> Option<String> {
    match item {
        TraitItem::Fn(function) => Some(function.sig.ident.to_string()),
        TraitItem::Const(constant) => Some(constant.ident.to_string()),
        _ => None,
    }
}

fn add_uses(tree: &UseTree, prefix: &mut Vec<String>, into: &mut Vec<(String, Vec<String>)>) {
    let with = |prefix: &[String], last: String| [prefix, &[last]].concat();
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            add_uses(&path.tree, prefix, into);
            prefix.pop();
        }
        UseTree::Name(name) => into.push((name.ident.to_string(), with(prefix, name.ident.to_string()))),
        UseTree::Rename(rename) => into.push((rename.rename.to_string(), with(prefix, rename.ident.to_string()))),
        UseTree::Glob(_) => into.push(("*".to_string(), prefix.clone())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| add_uses(tree, prefix, into)),
    }
}

/// The path of a `use` in module `module` of crate `name`, from a crate's name on.
fn absolute(name: &str, module: &str, target: &[String], index: &Crate) -> Vec<String> {
    let mut place: Vec<String> = module.split("::").filter(|part| !part.is_empty()).map(str::to_string).collect();
    let mut target = target;
    let first = target.first().map(String::as_str).unwrap_or_default();
    let is_child = index.modules.contains_key(&join(module, first));
    match first {
        "crate" => {
            place.clear();
            target = &target[1..];
        }
        "self" => target = &target[1..],
        "super" => {
            while let Some((up, rest)) = target.split_first().filter(|(up, _)| *up == "super") {
                debug_assert_eq!(up, "super");
                place.pop();
                target = rest;
            }
        }
        _ if is_child => {}
        _ => return target.to_vec(),
    }
    [vec![name.to_string()], place, target.to_vec()].concat()
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_string() } else { format!("{module}::{name}") }
}

/// The name under which other members import a package.
fn import_name(package: &str) -> String {
    package.strip_prefix("mmkit-").unwrap_or(package).replace('-', "_")
}

/// Module path of a file below `src`.
fn module_path(below: &Path) -> String {
    let directory = source::module_directory(below);
    let parts = directory.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("::")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::member;

    const LIB: &str = "mod a;\npub use a::{Zone, inner::*};\nbitflags! { pub struct Flags: u32 { const DMA = 1; } }\naddress!(Phys);\nimpl Phys { fn up() {} }\n";
    const A: &str = "pub struct Zone { pub free: u64 }\nimpl Zone { pub const MAX: u8 = 1; fn take(&self) {} }\n\
        pub mod inner { pub enum Kind { Movable } pub trait Pressure { fn reclaim(&self); } pub fn alloc() {} }\n\
        #[cfg(test)]\nmod tests { fn only_here() {} }\n";

    fn items() -> Items {
        let manifest = "[package]\nname = \"mmkit-page-allocator\"\n";
        let member =
            member(Path::new("crates/page-allocator"), manifest, &manifest.parse().unwrap(), &toml::Table::new());
        let file = |name: &str, text: &str| {
            SourceFile::parse(&Path::new("crates/page-allocator/src").join(name), text.into()).unwrap()
        };
        Items::new(&[member.unwrap()], &[file("lib.rs", LIB), file("a.rs", A)])
    }

    #[test]
    fn items_members_and_re_exports_are_found() {
        let items = items();
        for path in [
            "a",
            "a::Zone",
            "Zone",
            "Zone::take",
            "Zone::MAX",
            "Zone::free",
            "Kind::Movable",
            "a::inner::alloc",
            "alloc",
            "Pressure::reclaim",
            "Flags",
            "Flags::DMA",
            "Phys::up",
        ] {
            assert!(items.contains(&format!("page_allocator::{path}")), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let items = items();
        for path in
            ["Zone::gone", "b::Zone", "Kind::Unmovable", "Gone", "a::tests::only_here", "Flags::DMA32", "Zone::take::x"]
        {
            assert!(!items.contains(&format!("page_allocator::{path}")), "{path}");
        }
        assert!(!items.contains("frame_table::Zone"));
        assert!(!items.contains("page_allocator"));
    }

    #[test]
    fn a_circle_of_re_exports_ends() {
        let manifest = "[package]\nname = \"x\"\n";
        let member = member(Path::new("x"), manifest, &manifest.parse().unwrap(), &toml::Table::new()).unwrap();
        let text = "mod a { pub use super::b::*; }\nmod b { pub use super::a::*; }\n";
        let file = SourceFile::parse(Path::new("x/src/lib.rs"), text.into()).unwrap();
        assert!(!Items::new(&[member], &[file]).contains("x::a::Gone"));
    }
}
