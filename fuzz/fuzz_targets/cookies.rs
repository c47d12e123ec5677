//! See [`mooring_fuzz::cookies`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_fuzz::cookies(bytes));
