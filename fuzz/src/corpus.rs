//! Seeds: where they come from and how much of them is used. Called by `worker`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::targets::Target;

/// Inputs are no longer than this.
pub(crate) const INPUT_LIMIT: usize = 64 << 10;
/// So much of a seed is used: what a parser does, it does in the first lines.
const SEED_LIMIT: usize = 8 << 10;

/// A place that good inputs come from. Paths are from the top of the checkout.
pub(crate) enum Seed {
    /// The text itself.
    Text(&'static str),
    /// The bytes that a function makes.
    Made(fn() -> Vec<u8>),
    /// The head of a file.
    File(&'static str),
    /// The head of a file after decompression by zstd.
    Compressed(&'static str),
    /// The heads of the files of one name in every directory below a directory.
    Each(&'static str, &'static str),
}

/// Loads the seeds of `target`.
///
/// # Errors
/// A file is missing or damaged, or there is no seed at all.
pub(crate) fn load(target: &Target) -> Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for seed in target.seeds {
        match seed {
            Seed::Text(text) => seeds.push(text.as_bytes().to_vec()),
            Seed::Made(make) => seeds.push(make()),
            Seed::File(path) => seeds.push(head(Box::new(open(&top().join(path))?), path)?),
            Seed::Compressed(path) => {
                let decoder =
                    zstd::Decoder::new(open(&top().join(path))?).with_context(|| format!("{path} is no zstd"))?;
                seeds.push(head(Box::new(decoder), path)?);
            }
            Seed::Each(directory, name) => seeds.extend(each(directory, name)?),
        }
    }
    ensure!(!seeds.is_empty(), "the target {} has no seed", target.name);
    Ok(seeds)
}

fn each(directory: &str, name: &str) -> Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(top().join(directory)).with_context(|| format!("cannot read {directory}"))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        paths.push(entry?.path().join(name));
    }
    // The order of a directory is the file system's choice; the runs must not be.
    paths.sort();
    paths.iter().filter(|path| path.exists()).map(|path| head(Box::new(open(path)?), name)).collect()
}

fn open(path: &Path) -> Result<std::fs::File> {
    std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn head(reader: Box<dyn Read>, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(SEED_LIMIT as u64).read_to_end(&mut bytes).with_context(|| format!("cannot read {path}"))?;
    // A cut line would make every seed a bad input.
    if bytes.len() == SEED_LIMIT
        && let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n')
    {
        bytes.truncate(end + 1);
    }
    Ok(bytes)
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
