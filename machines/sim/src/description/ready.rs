//! The machines that come with the program, as embedded TOML files.

/// A machine that comes with the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyMachine {
    /// Its name, as `--machine` takes it.
    pub name: &'static str,
    /// Its description.
    pub text: &'static str,
}

macro_rules! ready {
    ($($name:literal),* $(,)?) => {
        &[$(ReadyMachine { name: $name, text: include_str!(concat!("ready/", $name, ".toml")) }),*]
    };
}

/// All of them, small ones first.
pub const READY_MACHINES: &[ReadyMachine] = ready![
    "small",
    "i386-highmem",
    "arm64-64k",
    "laptop",
    "recorded-24g",
    "server-2node",
    "server-8node",
    "big-1t",
    "huge-16t",
];
