//! The `float` program.

fn main() {}
