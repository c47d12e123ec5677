//! Charts. The page has the address of the measurements and says what to draw. The browser's script
//! draws it with uPlot, and reads the measurements again while the page is open.

use askama::Template;

use super::component;

/// A chart of values over time.
#[derive(Template)]
#[template(
    source = r#"<figure class="chart"><figcaption>{{ title }}</figcaption><div data-chart="{{ source }}" data-series="{{ series }}" data-unit="{{ unit }}" data-every="{{ every_seconds }}"{% if areas %} data-areas{% endif %} id="chart-{{ id }}" role="img" aria-label="{{ title }} over time"></div></figure>"#,
    ext = "html"
)]
pub(crate) struct Chart<'a> {
    id: &'a str,
    title: &'a str,
    source: String,
    series: &'a str,
    unit: &'a str,
    every_seconds: u32,
    areas: bool,
}
component!(Chart<'a>);

impl Chart<'_> {
    /// Marks the areas in which the job had each status: the measurements have the key `status`.
    pub(crate) fn with_areas(mut self) -> Self {
        self.areas = true;
        self
    }
}

/// Returns a chart of the measurements that `source` answers with: an array of objects with `time`
/// and the keys of the series.
///
/// `series` lists `key:Label` pairs, separated by commas. `unit` is `bytes`, `bytes/s`, `GB`, or
/// the text behind a number.
pub(crate) fn chart<'a>(id: &'a str, title: &'a str, source: String, series: &'a str, unit: &'a str) -> Chart<'a> {
    Chart { id, title, source, series, unit, every_seconds: 5, areas: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_says_where_its_values_are() {
        let text = chart("cpu", "CPU", "/api/v1/jobs/x/metrics".into(), "cpuUsed:used", " cores").with_areas();
        let text = text.render().unwrap();
        assert!(text.contains("data-chart=\"/api/v1/jobs/x/metrics\"") && text.contains("data-areas"), "{text}");
    }
}
