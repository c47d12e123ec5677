//! The committed OpenAPI document is the one that OpCenter serves, and describes all that users may
//! call.

use std::collections::BTreeSet;
use std::fs;

use mooring_api::paths;

/// The committed document.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
/// Every path is defined there.
const PATHS: &str = include_str!("../../api/src/paths.rs");
/// The command that renews the committed document.
const RENEW: &str = "UPDATE_OPENAPI=1 cargo test -p mooring-opcenter --test openapi";
/// The paths that only daemons call, and those about OpCenter itself.
const NOT_FOR_USERS: [&str; 14] = [
    paths::GATEWAY_SLICES,
    paths::GATEWAY_REPORT,
    paths::GATEWAY_PORT_CERTIFICATE,
    paths::GATEWAY_VISITS,
    paths::HOST_SLICES,
    paths::HOST_REPORT,
    paths::HOST_JOB_LOG,
    paths::HOST_CERTIFICATE,
    paths::HOST_GATEWAY_CERTIFICATE,
    paths::OPENAPI,
    paths::PROGRAM,
    paths::HEALTHZ,
    paths::READYZ,
    paths::METRICS,
];

fn generated() -> String {
    let mut text = serde_json::to_string_pretty(&mooring_opcenter::openapi()).expect("the description is JSON");
    text.push('\n');
    text
}

/// The paths that `mooring_api::paths` defines, read from its source so that none can be forgotten.
fn defined() -> BTreeSet<&'static str> {
    let values = PATHS.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(": &str = \""));
    values.map(|(_, value)| value.strip_suffix("\";").expect("a path is one literal on one line")).collect()
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let generated = generated();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(DOCUMENT, &generated).unwrap();
    }
    let committed = fs::read_to_string(DOCUMENT).unwrap_or_default();
    let differs = committed.lines().zip(generated.lines()).position(|(committed, generated)| committed != generated);
    let line = differs.unwrap_or_else(|| committed.lines().count().min(generated.lines().count())) + 1;
    assert!(committed == generated, "docs/openapi.json differs from the API from line {line} on; renew it: {RENEW}");
}

#[test]
fn every_path_that_users_may_call_is_described() {
    let openapi = mooring_opcenter::openapi();
    let described: BTreeSet<&str> = openapi.paths.paths.keys().map(String::as_str).collect();
    let defined = defined();
    assert!(defined.contains(paths::LOGIN) && defined.contains(paths::READYZ), "paths.rs is read whole: {defined:?}");
    let not_for_users = BTreeSet::from(NOT_FOR_USERS);
    let expected: BTreeSet<&str> = defined.difference(&not_for_users).copied().collect();
    let missing: Vec<&&str> = expected.difference(&described).collect();
    assert!(missing.is_empty(), "not described: {missing:?}; describe them, or list them here as not for users");
    let surplus: Vec<&&str> = described.difference(&expected).collect();
    assert!(surplus.is_empty(), "described, but not in `mooring_api::paths` or not for users: {surplus:?}");
}

#[test]
fn every_operation_says_what_it_does_and_answers() {
    let document = serde_json::to_value(mooring_opcenter::openapi()).unwrap();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let said = |key: &str| operation[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(said("summary") || said("description"), "{method} {path} does not say what it does");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|code| code.starts_with('2')), "{method} {path} has no answer");
        }
    }
    assert!(operations > 0);
}
