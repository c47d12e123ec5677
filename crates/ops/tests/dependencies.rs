//! The direction of dependencies between the crates of this workspace.
//!
//! ```text
//!                     float          bench
//!           ┌───────────┼─────────┐    │
//!        opcenter    gateway    agent  testkit
//!           │           │         │    │
//!         store     ┌───┴─────────┴────┘
//!           │      api  capsule
//!           │       │      │
//!           │      tls     │
//!           └───────┴──────┴──── types   ops   linux
//! ```
//!
//! - A crate uses only crates below it, those of [`RULES`].
//! - `opcenter`, `gateway` and `agent` never use each other: they meet in `api`, on the wire. Only
//!   `float` mounts them.
//! - `testkit` and `sim` serve tests and measurements: only `bench` has one of them in its product.
//! - `linux` is the only crate with unsafe code: every other crate root forbids it.
//!
//! A new edge is a decision on the architecture: add it to [`RULES`] together with the change that
//! needs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate, and those that it may use.
const RULES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("ops", &[]),
    ("linux", &[]),
    ("tls", &["types", "ops"]),
    ("api", &["types", "tls"]),
    ("store", &["types", "ops"]),
    ("capsule", &["types", "ops"]),
    ("opcenter", &["types", "ops", "tls", "api", "store", "capsule"]),
    ("gateway", &["types", "ops", "tls", "api", "linux"]),
    ("agent", &["types", "ops", "tls", "api", "linux", "capsule"]),
    ("testkit", &["types", "ops", "api", "linux"]),
    ("sim", &["types", "ops", "tls", "api"]),
    ("float", &["types", "ops", "tls", "api", "linux", "capsule", "opcenter", "gateway", "agent"]),
    ("bench", &["types", "ops", "api", "testkit"]),
];

/// The further crates that tests and examples of any crate may use.
const FOR_TESTS: &[&str] = &["testkit", "sim"];

/// A dependency of one crate of the workspace on another.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    is_for_tests: bool,
}

/// Returns why an edge is not allowed, if it is not.
fn refusal(edge: &Edge, rules: &BTreeMap<&str, &[&str]>) -> Option<String> {
    let Edge { from, to, is_for_tests } = edge;
    let Some(allowed) = rules.get(from.as_str()) else {
        return Some(format!("crate `{from}` has no rule"));
    };
    let is_allowed = allowed.contains(&to.as_str()) || *is_for_tests && FOR_TESTS.contains(&to.as_str());
    let section = if *is_for_tests { "dev-dependencies" } else { "dependencies" };
    (!is_allowed).then(|| format!("`{from}` may not use `{to}` ([{section}])"))
}

fn metadata() -> Value {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1", "--manifest-path"];
    let output = Command::new(cargo).args(arguments).arg(manifest).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    list(&metadata["packages"]).iter().map(|package| (short(text(&package["name"])), package))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo metadata has a list here")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata has a text here")
}

fn short(name: &str) -> &str {
    name.strip_prefix("mooring-").unwrap_or(name)
}

fn edges(metadata: &Value) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (from, package) in packages(metadata) {
        for dependency in list(&package["dependencies"]).iter().filter(|dependency| dependency["path"].is_string()) {
            let to = short(text(&dependency["name"])).to_owned();
            edges.push(Edge { from: from.to_owned(), to, is_for_tests: dependency["kind"] == "dev" });
        }
    }
    edges
}

#[test]
fn dependencies_point_down() {
    let rules: BTreeMap<_, _> = RULES.iter().copied().collect();
    let edges = edges(&metadata());
    assert!(edges.len() > 20, "the workspace's own dependencies are found: {edges:?}");
    let refused: Vec<_> = edges.iter().filter_map(|edge| refusal(edge, &rules)).collect();
    assert!(refused.is_empty(), "{}\nthe rule is RULES in crates/ops/tests/dependencies.rs", refused.join("\n"));
}

#[test]
fn rules_have_no_circle() {
    // Each crate stands above all that it may use.
    for (place, (name, allowed)) in RULES.iter().enumerate() {
        for below in *allowed {
            let found = RULES.iter().position(|(other, _)| other == below);
            assert!(found.is_some_and(|found| found < place), "`{name}` and `{below}`: order RULES from the ground up");
        }
    }
}

#[test]
fn forbidden_edges_are_found() {
    let rules: BTreeMap<_, _> = RULES.iter().copied().collect();
    let edge = |from: &str, to: &str, is_for_tests| Edge { from: from.into(), to: to.into(), is_for_tests };
    assert_eq!(
        refusal(&edge("agent", "opcenter", false), &rules).as_deref(),
        Some("`agent` may not use `opcenter` ([dependencies])")
    );
    for (from, to) in [("types", "api"), ("types", "store"), ("opcenter", "gateway"), ("float", "testkit")] {
        assert!(refusal(&edge(from, to, false), &rules).is_some(), "{from} {to}");
    }
    assert!(refusal(&edge("gateway", "agent", true), &rules).is_some(), "tests obey the same rule");
    assert_eq!(refusal(&edge("float", "testkit", true), &rules), None);
    assert!(refusal(&edge("web", "api", false), &rules).is_some(), "a new crate needs a rule");
}

#[test]
fn unsafe_code_is_in_linux_alone() {
    let metadata = metadata();
    let mut missing = Vec::new();
    for (name, package) in packages(&metadata).filter(|(name, _)| *name != "linux") {
        for target in list(&package["targets"]) {
            let (kinds, path) = (list(&target["kind"]), text(&target["src_path"]));
            let is_product = kinds.iter().any(|kind| kind == "lib" || kind == "bin");
            if is_product && !std::fs::read_to_string(path).unwrap().contains("#![forbid(unsafe_code)]") {
                missing.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "`#![forbid(unsafe_code)]` is missing in {missing:#?}");
}
