//! See [`mooring_gateway::fuzz::headers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_gateway::fuzz::headers(bytes));
