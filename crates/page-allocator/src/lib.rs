//! The page allocator: nodes, zones, zonelists, watermarks, and what hands frames out and takes them back.
//!
//! [`layout`] computes at boot how memory divides into zones; it touches no frame.
#![no_std]
#![forbid(unsafe_code)]

pub mod layout;
