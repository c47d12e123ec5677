//! The schema is part of the program: a new step in `migrations/` has to be noticed.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
