//! `mmkit boot --machine`: boots a described machine in this process and shows its log, its zones or one of its /proc files.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use boot_memory::firmware::RangeKind;
use page_allocator::Watermark;
use proc_files::iomem::Resource;
use recordings::pages::{InputError, Place};
use serde::Serialize;
use sim::description::{Machine, READY_MACHINES};
use sim::{MachineError, SimMachine, SimOptions};
use units::{CpuId, PhysAddr};

use super::Changes;
use super::settings::Settings;
use crate::failure::Failure;
use crate::proc_file::ProcFile;

/// A booted machine and what it was made of.
pub(super) struct BootedMachine {
    description: Machine,
    machine: SimMachine,
}

/// Most bytes of a file that describes a machine.
const MOST_BYTES: u64 = 16 << 20;

/// Finds the ready machine `name`, or reads the description in the file of that name.
///
/// # Errors
/// No such machine or file, or a description that cannot be used.
fn find(name: &str) -> Result<Machine, Failure> {
    if let Some(ready) = READY_MACHINES.iter().find(|ready| ready.name == name) {
        return Ok(Machine::parse(ready.name, ready.text)?);
    }
    Ok(Machine::from_bytes(name, &read_file(name)?)?)
}

/// Reads a file of a bounded size; one that has no end, or that waits for a writer, is refused unopened.
fn read_file(name: &str) -> Result<Vec<u8>, InputError> {
    let refuse = |found: String, expected: String| InputError::new(Path::new(name), Place::File, found, expected);
    let missing = |error: io::Error| {
        let ready: Vec<&str> = READY_MACHINES.iter().map(|ready| ready.name).collect();
        refuse(error.to_string(), format!("a description, or one of the ready machines {}", ready.join(", ")))
    };
    if !fs::metadata(name).map_err(missing)?.is_file() {
        return Err(refuse("not a regular file".into(), "a regular file that describes a machine".into()));
    }
    let mut bytes = Vec::new();
    File::open(name).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(missing)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refuse("a longer file".into(), format!("a description of at most {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

impl BootedMachine {
    /// Boots the machine called `name` with `changes`.
    ///
    /// # Errors
    /// A description, options or settings that cannot be used, or a machine that the host has no room for.
    pub(super) fn boot(name: &str, changes: &Changes) -> Result<Self, Failure> {
        let description = find(name)?;
        let mut settings = Settings::default();
        let configured = super::configured_zones(description.arch);
        changes.settings.iter().try_for_each(|setting| settings.apply(setting, configured))?;
        let tunables = settings.tunables;
        let options = SimOptions { append: changes.append.clone(), tunables, ..SimOptions::default() };
        let machine = SimMachine::boot(&description, &options)?;
        Ok(Self { description, machine })
    }

    /// Returns the kernel's log.
    pub(super) fn log(&self) -> &[String] {
        self.machine.boot_log()
    }

    /// Returns the text of a /proc file, as the described kernel release writes it, once the first kernel objects exist.
    ///
    /// # Errors
    /// The machine has no room for them.
    pub(super) fn proc_file(&self, file: ProcFile) -> Result<String, Failure> {
        let mut text = String::new();
        let Some(cpu) = self.machine.cpu(CpuId::ZERO) else { return Err(MachineError::CpuCount(0).into()) };
        self.machine.kernel().start_objects(&cpu).map_err(MachineError::from)?;
        let written = file.write(&mut text, &self.machine.proc(&cpu), |out| self.write_iomem(out));
        debug_assert!(written.is_ok(), "a string takes every line");
        Ok(text)
    }

    /// Writes /proc/iomem: the firmware's map, and the kernel's image inside it.
    fn write_iomem(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let last = |end: PhysAddr| PhysAddr::new(end.raw().saturating_sub(1));
        for entry in self.description.firmware.entries() {
            let name = resource_name(entry.kind);
            writeln!(out, "{}", Resource { depth: 0, start: entry.range.start, last: last(entry.range.end), name })?;
            let image = self.description.kernel_image.filter(|image| entry.range.contains(image.start));
            if let Some(image) = image {
                let name = "Kernel code";
                writeln!(out, "{}", Resource { depth: 1, start: image.start, last: last(image.end), name })?;
            }
        }
        Ok(())
    }

    /// Returns what `--json` shows.
    pub(super) fn report(&self) -> MachineReport<'_> {
        let zones = self.machine.pages().zones().iter().map(|zone| MachineZone {
            node: zone.node().raw(),
            zone: zone.kind().name(),
            start_pfn: zone.span().start.raw(),
            spanned: zone.span().nr_pages(),
            present: zone.present(),
            managed: zone.managed(),
            free: zone.free_pages(),
            min: zone.watermark(Watermark::Min),
            low: zone.watermark(Watermark::Low),
            high: zone.watermark(Watermark::High),
            promo: zone.watermark(Watermark::Promo),
        });
        MachineReport { machine: &self.description.name, log: self.log(), zones: zones.collect() }
    }
}

/// Names a range as /proc/iomem does.
const fn resource_name(kind: RangeKind) -> &'static str {
    match kind {
        RangeKind::Usable => "System RAM",
        RangeKind::AcpiData => "ACPI Tables",
        RangeKind::AcpiNvs => "ACPI Non-volatile Storage",
        RangeKind::Unusable => "Unusable memory",
        RangeKind::Persistent => "Persistent Memory",
        RangeKind::LegacyPersistent => "Persistent Memory (legacy)",
        RangeKind::SoftReserved => "Soft Reserved",
        RangeKind::Reserved => "Reserved",
        RangeKind::Other(_) => "Unknown E820 type",
    }
}

/// A booted machine in JSON; sizes in pages.
#[derive(Serialize)]
pub(super) struct MachineReport<'a> {
    machine: &'a str,
    log: &'a [String],
    zones: Vec<MachineZone>,
}

#[derive(Serialize)]
struct MachineZone {
    node: u8,
    zone: &'static str,
    start_pfn: u64,
    spanned: u64,
    present: u64,
    managed: u64,
    free: u64,
    min: u64,
    low: u64,
    high: u64,
    promo: u64,
}
