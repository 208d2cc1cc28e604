//! What programs need of the machine beside memory: a console, clocks, random numbers, other CPUs.

use units::CpuId;

/// The machine that programs run on.
pub trait Machine {
    /// Writes to the console.
    fn console_write(&self, bytes: &[u8]);

    /// Returns nanoseconds since the boot.
    fn now_ns(&self) -> u64;

    /// Returns nanoseconds between 1970 and the boot.
    fn boot_time_ns(&self) -> u64;

    /// Returns a random number; the same run of a machine with the same seed gives the same numbers.
    fn random(&self) -> u64;

    /// Returns the processor's features as CPUID leaf 1 has them in edx (AT_HWCAP).
    fn processor_features(&self) -> u64;

    /// Returns the number of CPUs.
    fn nr_cpus(&self) -> usize;

    /// Makes another CPU leave its program or its wait soon.
    fn kick(&self, cpu: CpuId);
}
