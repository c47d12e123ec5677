//! See [`mooring_fuzz::rule`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_fuzz::rule(bytes));
