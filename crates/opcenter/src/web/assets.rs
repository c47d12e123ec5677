//! The files that pages load: scripts, styles and pictures, embedded in the program.
//!
//! `build.rs` collects them. A file's path changes with its content, so browsers keep it for good.
//! A page of a new version never runs with a script of the old one.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Response};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::error::ApiError;
use crate::state::context::Context;

#[derive(Debug)]
struct Asset {
    /// The name that templates use.
    name: &'static str,
    path: &'static str,
    /// Its content type.
    kind: &'static str,
    plain: &'static [u8],
    /// The same as a gzip stream.
    compressed: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Returns a text that changes with any of the files: an open page with another one is outdated.
pub(crate) fn release() -> &'static str {
    env!("MOORING_ASSETS_DIGEST")
}

/// Returns the path of a file, as in `path("app.css")`.
///
/// # Panics
/// There is no such file. A test looks for each name that the pages use.
pub(crate) fn path(name: &str) -> &'static str {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    found.unwrap_or_else(|| panic!("no file `{name}` is embedded")).path
}

/// Returns the router of all files. Anyone may read them: they tell nothing about a user.
pub(crate) fn router() -> Router<Context> {
    Router::new().route("/assets/{file}", get(serve))
}

async fn serve(Path(file): Path<String>, headers: HeaderMap) -> Response<Body> {
    let found = ASSETS.iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(&file));
    match found {
        Some(asset) => asset.answer(accepts_gzip(&headers)).into_response(),
        None => ApiError::not_found("no such file; reload the page").into_response(),
    }
}

impl Asset {
    fn answer(&self, gzip: bool) -> impl IntoResponse {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        (headers, if gzip { self.compressed } else { self.plain })
    }
}

/// Returns whether a client reads gzip, after RFC 9110, section 12.5.3.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for offer in offers.flat_map(|value| value.split(',')) {
        let (coding, weight) = offer.split_once(';').unwrap_or((offer, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        let accepted = weight.is_ok_and(|weight| weight > 0.0);
        match coding.trim() {
            coding if coding.eq_ignore_ascii_case("gzip") => return accepted,
            "*" => any = accepted,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::PathBuf;

    use axum::body::to_bytes;
    use axum::http::StatusCode;

    use super::*;

    /// The most bytes of all files together, compressed, for slow networks.
    const COMPRESSED_MAX: usize = 150_000;

    fn encodings(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))])
    }

    async fn body(answer: Response<Body>) -> Vec<u8> {
        to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
    }

    #[test]
    fn all_files_together_are_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.compressed.len()).sum();
        assert!(bytes < COMPRESSED_MAX, "{bytes} bytes");
    }

    #[test]
    fn every_name_that_pages_use_is_embedded() {
        let mut names = BTreeSet::new();
        let mut directories = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/web")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let text = fs::read_to_string(path).unwrap();
                let uses = text.split("assets::path(\"").skip(1);
                names.extend(uses.filter_map(|rest| rest.split_once("\")")).map(|(name, _)| name.to_owned()));
            }
        }
        let embedded = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert!(names.is_subset(&embedded), "{names:?} of {embedded:?}");
    }

    #[test]
    fn a_path_holds_the_digest_of_its_content() {
        for asset in ASSETS {
            let (stem, extension) = asset.name.rsplit_once('.').unwrap();
            let digits = path(asset.name).strip_prefix(&format!("/assets/{stem}-")).unwrap();
            let digits = digits.strip_suffix(&format!(".{extension}")).unwrap();
            let digest = <sha2::Sha256 as sha2::Digest>::digest(asset.plain);
            assert_eq!(digits, hex::encode(&digest[..4]), "{}", asset.name);
        }
    }

    #[test]
    fn gzip_is_sent_to_those_who_read_it() {
        for (value, accepted) in [
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip;q=0, *", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&encodings(value)), accepted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_file_is_served_for_good_in_both_forms() {
        let file = path("app.css").strip_prefix("/assets/").unwrap();
        let compressed = serve(Path(file.to_owned()), encodings("gzip")).await;
        assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(compressed.headers()[CONTENT_TYPE], "text/css; charset=utf-8");
        assert_eq!(compressed.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(compressed.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let plain = serve(Path(file.to_owned()), HeaderMap::new()).await;
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        let expected = body(plain).await;
        let begin = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/app/css/base.css")).unwrap();
        assert!(expected.starts_with(&begin));
        let mut inflated = Vec::new();
        let compressed = body(compressed).await;
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut inflated).unwrap();
        assert_eq!(inflated, expected);
    }

    #[tokio::test]
    async fn a_file_of_another_version_is_not_found() {
        let answer = serve(Path("app-00000000.css".to_owned()), HeaderMap::new()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }

    /// Returns the texts of all files with an extension below a directory, by their paths there.
    fn texts(directory: &std::path::Path, extension: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found
                    .extend(texts(&path, extension).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)));
            } else if path.extension().is_some_and(|found| found == extension) {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
        found
    }

    /// Returns the classes in the selectors of a style sheet.
    fn selected(style: &str) -> BTreeSet<String> {
        let rules = style.split("*/").map(|part| part.split("/*").next().unwrap_or_default()).collect::<String>();
        let heads = rules.split_inclusive(['{', '}']).filter(|part| part.ends_with('{'));
        let word = |rest: &str| {
            let is_part = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
            rest.split(|character: char| !is_part(character)).next().unwrap_or_default().to_owned()
        };
        heads.flat_map(|head| head.split('.').skip(1).map(word).collect::<Vec<_>>()).collect()
    }

    /// Returns the classes that a template gives its elements.
    fn given(template: &str) -> BTreeSet<String> {
        let values = template.split("class=\"").skip(1).map(|rest| {
            let plain = rest.replace("{{", "{%").replace("}}", "%}");
            let pieces = plain.split("%}").map(|piece| piece.split("{%").next().unwrap_or_default().to_owned());
            pieces.collect::<Vec<_>>().join(" ")
        });
        let words = values.flat_map(|value| {
            let value = value.split('"').next().unwrap_or_default().to_owned();
            value.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
        });
        words.collect()
    }

    #[test]
    fn classes_are_read_as_written() {
        let style = "/* .no */ .a.b:hover > i, .c { margin: .5em } @media (width < 9px) { .d { top: 0 } }";
        assert_eq!(selected(style), ["a", "b", "c", "d"].map(str::to_owned).into());
        let template = r#"<p class="a{% if x == "y" %} b{% endif %} {{ c }}"><i class="d">"#;
        assert_eq!(given(template), ["a", "b", "d"].map(str::to_owned).into());
    }

    #[test]
    fn class_of_one_page_reaches_no_other() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let styles = texts(&root.join("../../web/app/css"), "css");
        let templates = texts(&root.join("src/web"), "html");
        let (pages, shared): (Vec<_>, Vec<_>) = styles.iter().partition(|(path, _)| path.starts_with("pages/"));
        let shared: BTreeSet<String> = shared.iter().flat_map(|(_, style)| selected(style)).collect();
        let own = |style: &str| selected(style).difference(&shared).cloned().collect::<BTreeSet<_>>();
        assert!(pages.len() > 5 && templates.len() > 50 && !shared.is_empty());
        let joined = std::str::from_utf8(ASSETS.iter().find(|asset| asset.name == "app.css").unwrap().plain).unwrap();
        for (path, style) in &styles {
            assert!(joined.contains(style), "{path} is not joined");
        }
        for (path, style) in &pages {
            let folder = path.trim_start_matches("pages/").trim_end_matches(".css");
            for (other, text) in pages.iter().filter(|(other, _)| other != path) {
                let both: Vec<String> = own(style).intersection(&own(text)).cloned().collect();
                assert!(both.is_empty(), "{path} and {other} have rules for {both:?}");
            }
            for (template, text) in templates.iter().filter(|(name, _)| !name.starts_with(&format!("{folder}/"))) {
                let reached: Vec<String> = own(style).intersection(&given(text)).cloned().collect();
                assert!(reached.is_empty(), "{path} reaches {template}: {reached:?}");
            }
        }
    }

    #[test]
    fn licences_are_among_the_files() {
        let licences = ASSETS.iter().find(|asset| asset.name == "licences.txt").unwrap();
        let text = std::str::from_utf8(licences.plain).unwrap();
        assert!(text.contains("\nhtmx.org\n") && text.contains("\nuplot\n"), "{text}");
        assert!(text.contains("The MIT License") && text.contains("Zero-Clause BSD"), "{text}");
    }
}
