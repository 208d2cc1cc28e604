//! Which kernel wrote a recording's files: the release and build options that explain the names in /proc/vmstat and /proc/meminfo.

use std::collections::HashSet;

use proc_files::parse::{MemInfo, VmStat};
use proc_files::{Config, Profile, Release};

const RELEASES: [Release; 3] = [Release::V6_1, Release::V6_12, Release::V6_18];

/// Returns the profile that has the most names in common with the files and the fewest others.
///
/// An option that adds no name is taken as off.
pub(super) fn profile_of(vmstat: &VmStat, meminfo: &MemInfo) -> Profile {
    let counters = vmstat.counters().map(|line| line.name.as_str());
    let found: HashSet<&str> = counters.chain(meminfo.fields().map(|line| line.name.as_str())).collect();
    let profiles = RELEASES.map(|release| Profile::new(release, options(release, &found)));
    let unlike = |profile: &Profile| names(*profile).symmetric_difference(&found).count();
    profiles.into_iter().min_by_key(unlike).unwrap_or(Profile::new(Release::V6_12, Config::empty()))
}

fn names(profile: Profile) -> HashSet<&'static str> {
    profile.vmstat().chain(profile.meminfo()).collect()
}

/// Returns the options each of which adds names, all of them in `found`.
fn options(release: Release, found: &HashSet<&str>) -> Config {
    let mut config = Config::empty();
    for option in Config::all().iter() {
        let (before, with) = (names(Profile::new(release, config)), names(Profile::new(release, config | option)));
        if with.len() > before.len() && with.difference(&before).all(|name| found.contains(name)) {
            config |= option;
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_by(profile: Profile) -> (VmStat, MemInfo) {
        let counters: String = profile.vmstat().map(|name| format!("{name} 0\n")).collect();
        let fields: String = profile.meminfo().map(|name| format!("{name}: 0 kB\n")).collect();
        (VmStat::parse(&counters).unwrap(), MemInfo::parse(&fields).unwrap())
    }

    #[test]
    fn what_a_kernel_writes_names_it() {
        for release in RELEASES {
            let config = Config::ZONE_DMA | Config::ZONE_DMA32 | Config::NUMA | Config::CMA | Config::THP;
            let profile = Profile::new(release, config);
            let (vmstat, meminfo) = written_by(profile);
            assert_eq!(profile_of(&vmstat, &meminfo), profile);
        }
    }

    #[test]
    fn names_of_no_release_do_not_matter() {
        let profile = Profile::new(Release::V6_18, Config::ZONE_DMA);
        let (vmstat, meminfo) = written_by(profile);
        let vmstat = VmStat::parse(&(vmstat.to_string() + "vendor_pages_of_a_kind 7\n")).unwrap();
        assert_eq!(profile_of(&vmstat, &meminfo), profile);
    }
}
