//! The state of the page allocator as /proc/buddyinfo and /proc/zoneinfo show it, on the console.

use core::fmt;

use proc_files::{Config, Profile, Release};

use crate::console::ConsoleLog;
use crate::cpu_area::this_cpu;
use crate::kernel::BareKernel;

/// Files are in the words of this release.
const PROFILE: Profile = Profile::new(Release::V6_12, Config::X86_64);

/// Prints a heading and the free blocks of every zone by order.
pub(crate) fn print_buddyinfo(kernel: &BareKernel) {
    print("buddyinfo", |out| kernel.proc(this_cpu(), PROFILE).write_buddyinfo(out));
}

/// Prints a heading and the sizes, marks and counters of every zone.
pub(crate) fn print_zoneinfo(kernel: &BareKernel) {
    print("zoneinfo", |out| kernel.proc(this_cpu(), PROFILE).write_zoneinfo(out));
}

fn print(name: &str, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) {
    let mut console = ConsoleLog;
    // The console cannot fail.
    let _ = fmt::Write::write_fmt(&mut console, format_args!("/proc/{name}:\n"));
    let _ = write(&mut console);
}
