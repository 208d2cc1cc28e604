//! Members of the workspace in their order, their dependencies, and the Rust files below them. Used by `lint` and `linux_map`.
//!
//! The order of `members` in the root `Cargo.toml` is the architecture: a member depends on members before it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::source::SourceFile;

/// A member of the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Directory from the top, for example `crates/sync`.
    pub(crate) directory: PathBuf,
    /// Package name.
    pub(crate) name: String,
    /// Dependencies, without dev-dependencies.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Package name, after a rename was resolved.
    pub(crate) package: String,
    /// Whether a feature has to ask for it, or a `cfg` of the target.
    pub(crate) conditional: bool,
    /// 1-based line in the member's `Cargo.toml`, 0 if it was not found.
    pub(crate) line: usize,
}

impl Member {
    /// Directory with forward slashes, for messages and prefixes.
    pub(crate) fn path(&self) -> String {
        self.directory.to_string_lossy().replace('\\', "/")
    }
}

/// Reads the root manifest and each member's.
///
/// # Errors
/// A manifest is missing or no TOML; the error names it.
pub(crate) fn members(top: &Path) -> Result<Vec<Member>> {
    let root = read_manifest(&top.join("Cargo.toml"))?.1;
    let workspace = root.get("workspace").and_then(Value::as_table).context("Cargo.toml: no [workspace]")?;
    let list = workspace.get("members").and_then(Value::as_array).context("Cargo.toml: no workspace.members")?;
    let renames = workspace.get("dependencies").and_then(Value::as_table).cloned().unwrap_or_default();
    list.iter()
        .filter_map(Value::as_str)
        .map(|directory| {
            let (text, manifest) = read_manifest(&top.join(directory).join("Cargo.toml"))?;
            member(Path::new(directory), &text, &manifest, &renames)
        })
        .collect()
}

fn read_manifest(path: &Path) -> Result<(String, Table)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let table = text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
    Ok((text, table))
}

/// Reads one member's manifest; `renames` is the table `workspace.dependencies`.
pub(crate) fn member(directory: &Path, text: &str, manifest: &Table, renames: &Table) -> Result<Member> {
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    let name = name.with_context(|| format!("{}: no package.name", directory.display()))?.to_string();
    let mut dependencies = Vec::new();
    collect(manifest, text, renames, Condition::Always, &mut dependencies);
    for target in manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values) {
        if let Some(table) = target.as_table() {
            collect(table, text, renames, Condition::Target, &mut dependencies);
        }
    }
    Ok(Member { directory: directory.to_path_buf(), name, dependencies })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Target,
}

fn collect(table: &Table, text: &str, renames: &Table, condition: Condition, into: &mut Vec<Dependency>) {
    for kind in ["dependencies", "build-dependencies"] {
        for (key, value) in table.get(kind).and_then(Value::as_table).into_iter().flatten() {
            let field = |value: &Value, name: &str| value.get(name).cloned();
            let package = field(value, "package").or_else(|| field(renames.get(key)?, "package"));
            let optional = field(value, "optional").and_then(|flag| flag.as_bool()).unwrap_or(false);
            into.push(Dependency {
                package: package.as_ref().and_then(Value::as_str).unwrap_or(key).to_string(),
                conditional: optional || condition == Condition::Target,
                line: line_of_key(text, key),
            });
        }
    }
}

fn line_of_key(text: &str, key: &str) -> usize {
    let is_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().position(is_key).map_or(0, |index| index + 1)
}

/// Parses every Rust file of the checkout, sorted by path, and marks the files that only a test build includes.
///
/// # Errors
/// A directory or file cannot be read, or a file is no Rust file.
pub(crate) fn sources(top: &Path) -> Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    find_rust_files(top, Path::new(""), &mut paths)?;
    paths.sort();
    let mut files: Vec<SourceFile> = paths.iter().map(|path| SourceFile::read(top, path)).collect::<Result<_>>()?;
    let test_modules: Vec<PathBuf> = files.iter().flat_map(SourceFile::test_modules).collect();
    for file in &mut files {
        let stem = file.path.with_extension("");
        file.is_test |= test_modules.iter().any(|module| stem.starts_with(module));
    }
    Ok(files)
}

fn find_rust_files(top: &Path, below: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let directory = top.join(below);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = below.join(&name);
        let is_directory = entry.file_type()?.is_dir();
        if is_directory && name != "target" && !name.starts_with(['.']) && !name.starts_with("target-") {
            find_rust_files(top, &path, into)?;
        } else if !is_directory && name.ends_with(".rs") {
            into.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_dependency_is_known_by_its_package_and_line() {
        let text = "[package]\nname = \"p\"\n[dependencies]\nunits.workspace = true\nserde = { version = \"1\", optional = true }\n[dev-dependencies]\nproptest = \"1\"\n";
        let renames: Table = "units = { package = \"mmkit-units\", path = \"x\" }".parse().unwrap();
        let read = member(Path::new("crates/p"), text, &text.parse().unwrap(), &renames).unwrap();
        let expected = [("mmkit-units", false, 4), ("serde", true, 5)];
        let found: Vec<_> =
            read.dependencies.iter().map(|one| (one.package.as_str(), one.conditional, one.line)).collect();
        assert_eq!(found.len(), 2);
        assert!(expected.iter().all(|one| found.contains(one)), "{found:?}");
    }
}
