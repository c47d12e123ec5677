//! See [`mooring_fuzz::first_bytes`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_fuzz::first_bytes(bytes));
