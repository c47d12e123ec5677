//! Lists of jobs: those that an action concerns, in the dialogue that asks before it, and those
//! that are left on a drained host.

use askama::Template;
use mooring_api::view::{DrainJobView, DrainView};

use super::component;
use crate::view::job::NamedJob;
use crate::web::ui;

/// The most jobs that are named.
const NAMED: usize = 12;

/// A list of jobs by name.
#[derive(Template)]
#[template(
    source = r#"<ul class="plain-list">{% for job in jobs.iter().take(NAMED) %}<li><bdi><strong>{{ job.name }}</strong></bdi> <code class="soft">{{ job.id }}</code> {{ ui::job_pill(job.status) }}</li>{% endfor %}{% if jobs.len() > NAMED %}<li class="soft">and {{ ui::count(jobs.len() - NAMED, "more job") }}</li>{% endif %}</ul>"#,
    ext = "html"
)]
pub(crate) struct JobNames<'a> {
    jobs: &'a [NamedJob],
}
component!(JobNames<'a>);

/// Returns a list of jobs, of which the first dozen are named.
pub(crate) fn job_names(jobs: &[NamedJob]) -> JobNames<'_> {
    JobNames { jobs }
}

/// The jobs that are left on a drained host, each with what it does or what hinders it.
#[derive(Template)]
#[template(
    source = r#"{% if !jobs.is_empty() %}<ul class="plain-list">{% for job in jobs %}<li{% if job.leaves %} class="soft"{% endif %}><a href="/jobs/{{ job.job_id }}"><bdi>{{ job.job_name }}</bdi></a>: {{ job.reason }}{% if job.tries == 1 %}; tried once{% else if job.tries > 1 %}; tried {{ job.tries }} times{% endif %}{% if let Some(next) = job.next_attempt %}, again at {{ ui::time(next) }}{% endif %}</li>{% endfor %}</ul>{% endif %}"#,
    ext = "html"
)]
pub(crate) struct JobsLeft<'a> {
    jobs: &'a [DrainJobView],
}
component!(JobsLeft<'a>);

/// Returns a list of the jobs that are left on a drained host.
pub(crate) fn jobs_left(drain: &DrainView) -> JobsLeft<'_> {
    JobsLeft { jobs: &drain.jobs }
}

#[cfg(test)]
mod tests {
    use mooring_types::job::JobStatus;

    use super::*;
    use crate::web::sample;

    #[test]
    fn jobs_are_named_up_to_a_dozen() {
        let job = NamedJob {
            id: "uqaj8l6a407u88v0106ol".parse().unwrap(),
            name: sample::MARKUP.into(),
            user: "ada".into(),
            status: JobStatus::Executing,
        };
        let text = job_names(&vec![job; 14]).render().unwrap();
        assert!(!text.contains(sample::MARKUP) && text.contains("and 2 more jobs"), "{text}");
        assert_eq!(text.matches("uqaj8l6a407u88v0106ol").count(), 12);
    }
}
