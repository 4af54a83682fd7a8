//! The operating system's randomness, replaced in this one program by numbers from a seed.
//!
//! chitchat draws its peers from `rand`'s thread generator, tokio draws the order of a `select!`, and
//! every std hash map its keys; all three begin with `getrandom(2)`. A symbol of that name in the program
//! itself comes before the C library's, so whoever asks is answered from here and a run with real
//! gossip becomes its seed. Only the simulator's own program does this: `shoal` draws keys and must
//! never be linked with it, which is why this file belongs to `main.rs` and not to the library.
#![allow(
    unsafe_code,
    reason = "taking the place of a C function cannot be said in safe Rust; nothing else here is unsafe"
)]

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

thread_local! {
    /// Each thread has numbers of its own, so that what one draws does not depend on the others.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Lets this thread's randomness begin again at a seed.
pub(crate) fn begin(seed: u64) {
    STATE.set(seed);
}

/// The splitmix64 generator (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// 2014).
fn next(state: &Cell<u64>) -> u64 {
    let seed = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(seed);
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fills the buffer, always wholly. `flags` mean nothing here.
///
/// # Safety
/// As for the C library's function: `buffer` points to `length` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    let late = Cell::new(0);
    for n in 0..length {
        // A thread that ends has no state any more; then any numbers will do.
        let byte = STATE.try_with(next).unwrap_or_else(|_| next(&late)) as u8;
        // SAFETY: the caller vouches for `length` bytes.
        unsafe { buffer.cast::<u8>().add(n).write(byte) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
