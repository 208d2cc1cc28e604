//! Holder of the models in `tests/`; run with `RUSTFLAGS="--cfg loom" cargo test -p mmkit-concurrency-tests --release`.
//!
//! Each model has two or three threads and asserts a law that holds in every interleaving and under every reordering
//! of the C11 memory model that loom explores. Without `--cfg loom` the models are empty.
