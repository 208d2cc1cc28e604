//! Reads `docs/linux-map.md` and checks that each Linux name leads to an item that is there, and stands in it once.
//!
//! Used by `lint`, and by a test of its own. A row is `| names | paths | note |`, names and paths in backquotes.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::items::Items;

/// Where the map is, from the top of the checkout.
pub(crate) const FILE: &str = "docs/linux-map.md";

/// A row of the map.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    linux_names: Vec<String>,
    paths: Vec<String>,
}

/// What is wrong with the map, with its line.
///
/// # Errors
/// The map cannot be read.
pub(crate) fn faults(top: &Path, items: &Items) -> Result<Vec<(usize, String)>> {
    let text = std::fs::read_to_string(top.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    Ok(check(&entries(&text), items))
}

fn check(entries: &[Entry], items: &Items) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for entry in entries {
        if entry.linux_names.is_empty() || entry.paths.is_empty() {
            faults.push((entry.line, "expected names and paths in backquotes".to_string()));
        }
        let gone = entry.paths.iter().filter(|path| !items.contains(path));
        faults.extend(gone.map(|path| (entry.line, format!("there is no `{path}`"))));
        for name in &entry.linux_names {
            if let Some(first) = seen.insert(name, entry.line) {
                faults.push((entry.line, format!("`{name}` stands in line {first} already")));
            }
        }
    }
    faults
}

/// The rows of all tables of `text`, without their heads.
fn entries(text: &str) -> Vec<Entry> {
    let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
    let rows = lines.filter(|(_, line)| !line.starts_with("|---") && !line.starts_with("| Linux "));
    rows.map(|(index, line)| {
        let mut cells = line.trim_start_matches('|').split('|').map(quoted);
        let (linux_names, paths) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        Entry { line: index + 1, linux_names, paths }
    })
    .collect()
}

/// The texts in backquotes of a cell.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{shell, workspace};

    #[test]
    fn every_mapped_name_leads_to_one_item() {
        let top = shell::top();
        let items = Items::new(&workspace::members(&top).unwrap(), &workspace::sources(&top).unwrap());
        let text = std::fs::read_to_string(top.join(FILE)).unwrap();
        let faults = faults(&top, &items).unwrap();
        assert!(faults.is_empty(), "{FILE}: {faults:#?}");
        assert!(entries(&text).len() > 20, "the map is not read: it has only {} rows", entries(&text).len());
    }

    #[test]
    fn a_missing_item_and_a_doubled_name_are_faults() {
        let text = "| Linux | here | note |\n|---|---|---|\n| `a`, `b` | `gone::Item` | |\n| `b` | `also::gone` | |\n";
        let faults = check(&entries(text), &Items::default());
        let lines: Vec<_> = faults.iter().map(|(line, fault)| (*line, fault.as_str())).collect();
        assert_eq!(
            lines,
            [(3, "there is no `gone::Item`"), (4, "there is no `also::gone`"), (4, "`b` stands in line 3 already")]
        );
    }

    #[test]
    fn a_row_without_backquotes_is_a_fault() {
        assert_eq!(check(&entries("| name | path | |\n"), &Items::default()).len(), 1);
    }
}
