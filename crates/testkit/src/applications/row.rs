//! Rows: an application, its packages, its command and its client.

use std::fs;

use anyhow::{Context, Result, ensure};
use mooring_types::gateway::Protocol;
use serde::Deserialize;

use super::directory;

/// A group of rows: one file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The heading.
    pub group: String,
    /// The rows, in order.
    pub rows: Vec<Row>,
}

/// An application.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// A short name, which is that of its job and of its result.
    pub name: String,
    /// The application, and what it does here.
    pub title: String,
    /// The root file system of its job.
    #[serde(default)]
    pub image: Image,
    /// Packages of Debian.
    #[serde(default)]
    pub debian: Vec<String>,
    /// Packages of PyPI, pinned. They get a virtual environment of their own.
    #[serde(default)]
    pub pypi: Vec<String>,
    /// Packages of npm, pinned.
    #[serde(default)]
    pub npm: Vec<String>,
    /// A command whose success tells that the row can run here.
    #[serde(default)]
    pub needs: Option<String>,
    /// A command whose first line of output is the version.
    pub version: String,
    /// The job's command, for a shell. It serves at port 8080.
    pub command: String,
    /// The memory of the job in GB.
    #[serde(default = "one")]
    pub memory: f64,
    /// The protocol of its gateway port.
    #[serde(default)]
    pub protocol: Protocol,
    /// The client: a program of `apps/clients` with arguments.
    pub client: String,
    /// Part of the words by which each migration is refused. Without them it has to succeed.
    #[serde(default)]
    pub refused: Option<String>,
    /// The reason why the row is not green, and what was tried.
    #[serde(default)]
    pub explained: Option<String>,
}

/// The root file system of a row's job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    /// Debian's, with the packages of all rows: `scripts/setup apps`.
    #[default]
    Debian,
    /// That of this host.
    Host,
}

fn one() -> f64 {
    1.0
}

/// Reads all rows.
pub fn all() -> Result<Vec<Group>> {
    let directory = directory().join("rows");
    let entries = fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path)?;
        serde_norway::from_str::<Group>(&text).with_context(|| format!("read {}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// Finds a row by its name.
pub fn named(name: &str) -> Result<Row> {
    let found = all()?.into_iter().flat_map(|group| group.rows).find(|row| row.name == name);
    found.with_context(|| format!("no application is called `{name}`"))
}

/// Finds rows by their names.
pub fn of_names(names: &[String]) -> Result<Vec<Row>> {
    let rows = names.iter().map(|name| named(name)).collect::<Result<Vec<_>>>()?;
    ensure!(!rows.is_empty(), "no application is named");
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mooring_types::Name;

    use super::*;

    #[test]
    fn rows_can_be_read_and_have_names_of_their_own() {
        let rows: Vec<Row> = all().unwrap().into_iter().flat_map(|group| group.rows).collect();
        let mut names = BTreeSet::new();
        for row in &rows {
            assert!(row.name.parse::<Name>().is_ok() && names.insert(&row.name), "{}", row.name);
            let program = row.client.split(' ').next().unwrap_or_default();
            assert!(directory().join("clients").join(program).is_file(), "{}: {program}", row.name);
            let pinned = |package: &String| package.contains("==") || package.trim_start_matches('@').contains('@');
            assert!(row.pypi.iter().chain(&row.npm).all(pinned), "{}: pin its packages", row.name);
        }
        assert!(rows.len() > 40, "{}", rows.len());
    }
}
