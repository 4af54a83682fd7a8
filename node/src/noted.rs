//! A value that notes when somebody may have changed it, so that what is worked out from it can be kept until
//! then. A node is asked some fifty times a second when it has something to do next, and nearly always what it
//! holds has not changed since.

use std::ops::{Deref, DerefMut};

#[derive(Clone, Debug)]
pub(crate) struct Noted<T> {
    value: T,
    touched: bool,
}

impl<T: Default> Default for Noted<T> {
    fn default() -> Self {
        Self { value: T::default(), touched: true }
    }
}

impl<T> Noted<T> {
    /// Whether it may have changed since [`Self::note`].
    pub(crate) fn is_touched(&self) -> bool {
        self.touched
    }

    pub(crate) fn note(&mut self) {
        self.touched = false;
    }
}

impl<T> Deref for Noted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Noted<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_change_it_is_noted_and_readers_are_not() {
        let mut noted: Noted<Vec<u32>> = Noted::default();
        assert!(noted.is_touched(), "nothing has been worked out from it yet");
        noted.note();
        assert!(noted.is_empty() && !noted.is_touched());
        noted.push(1);
        assert!(noted.is_touched());
    }
}
