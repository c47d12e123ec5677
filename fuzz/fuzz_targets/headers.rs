//! See [`mooring_fuzz::headers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_fuzz::headers(bytes));
