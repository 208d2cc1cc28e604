//! Programs whose every instruction is a line of a test: system calls, signals, waits, on a machine without page tables and on the hosted one.

mod abi;
mod busy_programs;
mod calls;
mod common;
mod descriptors;
mod failing;
mod hostile;
mod khugepaged;
mod on_sim;
mod open_files;
mod out_of_memory;
mod out_of_memory_waiting;
mod page_scan;
mod pidfd;
mod proc_files;
mod remote;
mod sockets;
mod splice;
mod sysctl;
mod tasks;
mod waiting;
