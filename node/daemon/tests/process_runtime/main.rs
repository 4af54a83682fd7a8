//! The process runtime with real processes. What it did is looked at through /proc.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adoption;
mod bench;
mod lifecycle;
