//! The boot computations against what real kernels logged and reported on the recorded machines.

mod log_lines;
mod machine;
mod zone_numbers;
