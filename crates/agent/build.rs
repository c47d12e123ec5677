//! Compiles the program that containers start with. The agent embeds it.
//!
//! It is linked statically, with the C library of the target: on Debian that is in `libc6-dev`, on
//! Fedora in `glibc-static`.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "start/main.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("Cargo does not set {name}"));
    let program = PathBuf::from(variable("OUT_DIR")?).join("start");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition=2024", "--crate-type=bin", SOURCE]).arg("-o").arg(program);
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
        return Err("the program that containers start with can't be linked: is a static C library installed?".into());
    }
    Ok(())
}
