//! Collects the files that the pages load, each also compressed, under a name that changes with its
//! content. `web/assets.rs` embeds the list.
//!
//! Ours lie in `web/app`. Scripts and style sheets are joined to one of each: a browser asks a
//! server for few files at a time. Those of npm packages lie in `web/node_modules`, where
//! `scripts/setup build` brings them as `web/package-lock.json` pins them.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Files of npm packages, below `web/node_modules`.
const OF_PACKAGES: [&str; 3] =
    ["htmx.org/dist/htmx.min.js", "uplot/dist/uPlot.iife.min.js", "uplot/dist/uPlot.min.css"];

/// Our scripts, in the order in which they run.
const SCRIPTS: [&str; 10] = [
    "time.js",
    "chart.js",
    "dialog.js",
    "choices.js",
    "output.js",
    "page.js",
    "pick.js",
    "submission.js",
    "live.js",
    "job_sign_in.js",
];

/// The style sheets below `web/app/css`, in their order: of two rules, the later one wins.
const STYLES: [&str; 13] = [
    "base.css",
    "frame.css",
    "ui/head.css",
    "ui/card.css",
    "ui/table.css",
    "ui/status.css",
    "ui/text.css",
    "ui/tabs.css",
    "ui/button.css",
    "ui/form.css",
    "ui/dialog.css",
    "ui/chart.css",
    "pages",
];

/// Packages whose licence the product has to show.
const LICENCES: [&str; 2] = ["htmx.org", "uplot"];

/// Bytes of a digest in a file's path.
const DIGEST_BYTES: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("Cargo does not set {name}"));
    let web = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../../web").canonicalize()?;
    let out = PathBuf::from(variable("OUT_DIR")?);

    let mut sources = vec![web.join("app/mooring.svg")];
    sources.extend(OF_PACKAGES.iter().map(|path| web.join("node_modules").join(path)));
    let mut list = String::from("&[\n");
    for source in &sources {
        list += &embed(&file_name(source)?, &read(source)?, &out)?;
    }
    list += &embed("app.css", &joined(&style_sheets(&web.join("app/css"))?)?, &out)?;
    list += &embed("app.js", &joined(&scripts(&web.join("app"))?)?, &out)?;
    list += &embed("licences.txt", &licences(&web)?, &out)?;
    list += "]\n";
    println!("cargo::rustc-env=MOORING_ASSETS_DIGEST={}", digest(list.as_bytes()));
    fs::write(out.join("assets.rs"), list)?;
    Ok(())
}

/// Returns the style sheets in their order.
fn style_sheets(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut sheets = Vec::new();
    for name in STYLES {
        let path = directory.join(name);
        if path.is_dir() { sheets.extend(files(&path)?) } else { sheets.push(path) }
    }
    Ok(sheets)
}

/// Returns our scripts in their order.
fn scripts(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let listed = SCRIPTS.map(|name| directory.join(name));
    let is_script = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "js");
    match files(directory)?.into_iter().filter(is_script).find(|path| !listed.contains(path)) {
        Some(unlisted) => Err(format!("{} is not in the list of scripts", unlisted.display()).into()),
        None => Ok(listed.into()),
    }
}

/// Joins files.
fn joined(files: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    for file in files {
        whole.extend(read(file)?);
        whole.push(b'\n');
    }
    Ok(whole)
}

/// Returns the files of a directory that pages load, sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if content_type(&path).is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file of an npm package, or one of ours.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read(path).map_err(|error| format!("can't read {}: {error}; run `scripts/setup build` first", path.display()))
}

/// Returns the licences of the packages that are embedded.
fn licences(web: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut text = String::from("The pages contain these packages.\n");
    for package in LICENCES {
        let licence = read(&web.join("node_modules").join(package).join("LICENSE"))?;
        write!(text, "\n{package}\n\n{}\n", String::from_utf8(licence)?.trim())?;
    }
    Ok(text.into_bytes())
}

/// Writes a file and its compressed form, and returns its line of the list.
fn embed(name: &str, content: &[u8], out: &Path) -> Result<String, Box<dyn Error>> {
    let (stem, extension) = name.rsplit_once('.').ok_or_else(|| format!("{name} has no extension"))?;
    let kind = content_type(Path::new(name)).ok_or_else(|| format!("{name} is of no known type"))?;
    let path = format!("{stem}-{}.{extension}", digest(content));

    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    let (plain, compressed) = (out.join(&path), out.join(format!("{path}.gz")));
    fs::write(&plain, content)?;
    fs::write(&compressed, encoder.finish()?)?;
    Ok(format!(
        "    Asset {{ name: {name:?}, path: {:?}, kind: {kind:?}, plain: include_bytes!({plain:?}), compressed: include_bytes!({compressed:?}) }},\n",
        format!("/assets/{path}"),
    ))
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content)[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file_name(path: &Path) -> Result<String, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| format!("{} is no name of a file", path.display()))
}

fn content_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}
