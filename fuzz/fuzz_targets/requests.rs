//! See [`mooring_fuzz::requests`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_fuzz::requests(bytes));
