//! The direction of dependencies. Called by `lint`.
//!
//! The list `members` of the root manifest is the order: a member depends on members before it. Core crates (`crates/`) depend on core
//! crates, and on hardly anything else. Dev-dependencies are free.

use super::{Checkout, Offender, Row};
use crate::workspace::{Dependency, Member};

/// Packages from outside that a core crate may use without a condition.
const CORE_EXTERNAL: [&str; 1] = ["bitflags"];

/// Finds dependencies against the order, and foreign ones in core crates.
pub(super) fn rows(checkout: &Checkout) -> Vec<Row> {
    let members = &checkout.members;
    let per_dependency = |check: fn(&[Member], usize, &Dependency) -> Option<String>| {
        let each = members.iter().enumerate().flat_map(|(place, member)| {
            member.dependencies.iter().filter_map(move |one| {
                Some(Offender::at(format!("{}/Cargo.toml", member.path()), one.line, check(members, place, one)?))
            })
        });
        each.collect()
    };
    vec![
        Row::none("dependencies against the members list", per_dependency(against_order)),
        Row::none("core crates that use foreign packages", per_dependency(foreign)),
    ]
}

fn place_of(members: &[Member], package: &str) -> Option<usize> {
    members.iter().position(|member| member.name == package)
}

fn against_order(members: &[Member], place: usize, dependency: &Dependency) -> Option<String> {
    let other = place_of(members, &dependency.package)?;
    let (this, other_path) = (&members[place], members[other].path());
    if this.path().starts_with("crates/") && !other_path.starts_with("crates/") {
        return Some(format!("a core crate depends on {other_path}"));
    }
    (other >= place).then(|| format!("{} stands before {other_path} in the members list", this.path()))
}

fn foreign(members: &[Member], place: usize, dependency: &Dependency) -> Option<String> {
    let is_core = members[place].path().starts_with("crates/");
    let is_member = place_of(members, &dependency.package).is_some();
    let allowed = dependency.conditional || CORE_EXTERNAL.contains(&dependency.package.as_str());
    (is_core && !is_member && !allowed).then(|| format!("depends on {} from outside", dependency.package))
}
