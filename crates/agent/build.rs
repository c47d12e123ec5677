//! Compiles the small programs that the agent puts into containers, and embeds.
//!
//! They are linked statically, with the C library of the target: on Debian that is in `libc6-dev`,
//! on Fedora in `glibc-static`.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

const PROGRAMS: [&str; 2] = ["start", "float"];

fn main() -> Result<(), Box<dyn Error>> {
    PROGRAMS.into_iter().try_for_each(compile)
}

fn compile(name: &str) -> Result<(), Box<dyn Error>> {
    let source = format!("start/{name}.rs");
    println!("cargo::rerun-if-changed={source}");
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("Cargo does not set {name}"));
    let program = PathBuf::from(variable("OUT_DIR")?).join(name);
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition=2024", "--crate-type=bin", &source]).arg("-o").arg(program);
    rustc.arg("--target").arg(variable("TARGET")?);
    for option in ["opt-level=s", "panic=abort", "strip=symbols", "target-feature=+crt-static"] {
        rustc.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    if !rustc.status()?.success() {
        return Err(format!("the program `{name}` can't be linked: is a static C library installed?").into());
    }
    Ok(())
}
