//! What boot computes about memory before the first page is handed out: pure functions over plain data.
//!
//! Locking: none; nothing here is shared.
