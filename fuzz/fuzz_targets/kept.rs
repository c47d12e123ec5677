//! See [`mooring_fuzz::kept`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_fuzz::kept(bytes));
