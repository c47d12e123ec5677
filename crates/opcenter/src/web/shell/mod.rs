//! The document around a page: menu, search, account, connection to OpCenter.

use askama::Template;
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use mooring_types::Role;

use super::page::Page;
use super::visitor::Visitor;
use super::{assets, ui};

/// An entry of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Home,
    SubmitJob,
    Jobs,
    Templates,
    Gateways,
    SecurityGroups,
    Secrets,
    Hosts,
    Users,
    Settings,
    Audit,
    Account,
}

/// The visitors who are offered an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    All,
    /// All who may change something.
    Actors,
    Admins,
}

/// A link of the menu.
struct Entry {
    section: Section,
    path: &'static str,
    label: &'static str,
    icon: &'static str,
    audience: For,
}

impl Entry {
    fn is_for(&self, role: Role) -> bool {
        match self.audience {
            For::All => true,
            For::Actors => role != Role::Viewer,
            For::Admins => role == Role::Admin,
        }
    }
}

const fn entry(section: Section, path: &'static str, label: &'static str, icon: &'static str) -> Entry {
    Entry { section, path, label, icon, audience: For::All }
}

const fn actor_entry(section: Section, path: &'static str, label: &'static str, icon: &'static str) -> Entry {
    Entry { section, path, label, icon, audience: For::Actors }
}

const fn admin_entry(section: Section, path: &'static str, label: &'static str, icon: &'static str) -> Entry {
    Entry { section, path, label, icon, audience: For::Admins }
}

/// The menu, by the headings of its groups.
const MENU: [(&str, &[Entry]); 3] = [
    (
        "",
        &[
            entry(Section::Home, "/", "Overview", "home"),
            actor_entry(Section::SubmitJob, "/submit", "Submit Job", "plus"),
            entry(Section::Jobs, "/jobs", "Jobs", "jobs"),
            entry(Section::Templates, "/templates", "Job Templates", "template"),
        ],
    ),
    (
        "Service",
        &[
            entry(Section::Gateways, "/gateways", "Gateways", "gateway"),
            entry(Section::SecurityGroups, "/security-groups", "Security Groups", "shield"),
        ],
    ),
    (
        "Administration",
        &[
            entry(Section::Hosts, "/hosts", "Hosts", "host"),
            entry(Section::Users, "/users", "Users and Groups", "users"),
            entry(Section::Secrets, "/secrets", "Secrets", "key"),
            admin_entry(Section::Settings, "/settings", "Settings", "settings"),
            admin_entry(Section::Audit, "/audit", "Audit", "audit"),
        ],
    ),
];

/// Returns the entries of the menu that a visitor is offered: label, icon and path.
pub(super) fn entries(role: Role) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let all = MENU.iter().flat_map(|(_, entries)| entries.iter());
    let offered = all.filter(move |entry| entry.is_for(role));
    offered.map(|entry| (entry.label, entry.icon, entry.path))
}

/// The colours that a visitor chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    System,
    Light,
    Dark,
}

impl Theme {
    /// Returns the theme that the browser's cookie names.
    fn of(headers: &HeaderMap) -> Self {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).map(str::trim);
        pairs
            .find_map(|pair| match pair {
                "mooring-theme=light" => Some(Self::Light),
                "mooring-theme=dark" => Some(Self::Dark),
                _ => None,
            })
            .unwrap_or(Self::System)
    }

    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The document around a page.
#[derive(Template)]
#[template(path = "shell/shell.html")]
pub(super) struct Shell<'a> {
    title: String,
    section: Section,
    theme: Theme,
    user: &'a str,
    role: Role,
    csrf: &'a str,
    content: String,
}

impl Shell<'_> {
    /// Returns the document with a page in it.
    pub(super) fn around<P: Page>(page: &P, visitor: &Visitor, headers: &HeaderMap) -> askama::Result<String> {
        let shell = Shell {
            title: page.title(),
            section: P::SECTION,
            theme: Theme::of(headers),
            user: &visitor.user.name,
            role: visitor.user.role,
            csrf: &visitor.csrf,
            content: page.render()?,
        };
        shell.render()
    }

    /// Returns the groups of the menu that the visitor is offered.
    fn menu(&self) -> impl Iterator<Item = (&'static str, Vec<&'static Entry>)> {
        let role = self.role;
        MENU.iter()
            .map(move |(heading, entries)| (*heading, entries.iter().filter(|entry| entry.is_for(role)).collect()))
    }

    fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// A document without the menu, for visitors without a session.
#[derive(Template)]
#[template(path = "shell/bare.html")]
struct Bare {
    title: String,
    content: String,
}

/// Returns a document without the menu.
pub(super) fn bare(title: &str, content: &impl Template) -> askama::Result<String> {
    Bare { title: title.to_owned(), content: content.render()? }.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(role: Role) -> String {
        let shell = Shell {
            title: "Gateways".into(),
            section: Section::Gateways,
            theme: Theme::Dark,
            user: "<i>ada",
            role,
            csrf: "c",
            content: "<p>content</p>".into(),
        };
        shell.render().unwrap()
    }

    #[test]
    fn menu_offers_what_the_visitor_may_use() {
        let (admin, user, viewer) = (shell(Role::Admin), shell(Role::User), shell(Role::Viewer));
        assert!(user.contains("href=\"/submit\"") && !viewer.contains("href=\"/submit\""));
        assert!(viewer.contains("(viewer)") && !user.contains("(user)"));
        assert!(admin.contains("href=\"/audit\"") && !user.contains("href=\"/audit\""));
        assert!(user.contains("<p>content</p>") && !user.contains("<i>ada"), "{user}");
        assert_eq!(user.matches("aria-current=\"page\"").count(), 1);
    }

    #[test]
    fn theme_is_the_cookies() {
        let mut headers = HeaderMap::new();
        assert_eq!(Theme::of(&headers), Theme::System);
        headers.insert(COOKIE, "a=b; mooring-theme=dark".parse().unwrap());
        assert_eq!(Theme::of(&headers), Theme::Dark);
    }
}
