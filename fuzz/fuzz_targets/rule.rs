//! See [`mooring_gateway::fuzz::rule`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mooring_gateway::fuzz::rule(bytes));
