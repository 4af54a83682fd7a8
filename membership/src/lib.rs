//! WHO is here and WHAT was agreed.
//!
//! This crate decides and never acts: no sockets, no files, no clock, no ambient randomness and no
//! hash-ordered map. Time and chance are arguments, so the daemon and the simulator run the same code.
//!
//! Three things live here:
//! - **members**: what each node says about itself ([`fact`], [`member`]) and the failure detector
//!   that turns many observers' probes into one verdict ([`detector`]);
//! - **records**: the desired state as last-writer-wins registers with visible conflicts ([`record`],
//!   [`registers`]), stamped by a hybrid logical clock ([`clock`]) and kept equal everywhere by
//!   hash-root anti-entropy ([`sync`]);
//! - **messages**: what nodes say to each other ([`message`]) and its only encoding ([`wire`]).

pub mod clock;
pub mod detector;
pub mod fact;
pub mod id;
pub mod member;
pub mod message;
pub mod observers;
pub mod record;
pub mod registers;
pub mod sync;
pub mod time;
pub mod wire;
