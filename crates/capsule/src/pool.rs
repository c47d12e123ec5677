//! A pool of things that are costly to make, like large buffers.

use std::fmt;

use parking_lot::Mutex;

/// Things between two uses.
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Pool<T> {
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().pop()
    }

    pub(crate) fn put_back(&self, thing: T) {
        self.0.lock().push(thing);
    }
}
