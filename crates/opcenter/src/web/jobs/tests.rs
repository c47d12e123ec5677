use mooring_api::view::JobCounts;
use mooring_types::job::JobStatus;

use super::*;
use crate::web::sample;

fn page(jobs: Vec<JobView>) -> JobsPage {
    let total = jobs.len() as u32;
    let counts = JobCounts { total, running: total, ..JobCounts::default() };
    let found = JobPage { jobs, total, newer: 0, counts, previous: None, next: None };
    JobsPage { choice: Choice::default(), found: Ok(found), user: sample::user("ada"), refusal: String::new() }
}

fn of(query: &[(&str, &str)]) -> JobsPage {
    let choice = Choice::of(&Address::of("jobs", query)).unwrap();
    let found = choice.listing().map(|_| page(Vec::new()).found.unwrap());
    JobsPage { choice, found, ..page(Vec::new()) }
}

#[test]
fn row_offers_what_its_status_allows() {
    let own = JobView { user: "ada".into(), status: JobStatus::Executing, ..sample::job() };
    let text = page(vec![own.clone()]).render().unwrap();
    for part in ["action=suspend&amp;job=", "action=cancel&amp;job=", "a job that is Executing can&#39;t be resumed"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("action=resume&amp;job="));
    // Members of a group see each other's jobs, and no more.
    let other = page(vec![JobView { user: "bob".into(), ..own }]).render().unwrap();
    assert!(!other.contains("&amp;job=") && !other.contains("name=\"job\""), "{other}");
}

#[test]
fn text_of_a_job_is_text() {
    let job = JobView {
        name: sample::MARKUP.into(),
        status_reason: sample::MARKUP.into(),
        access_urls: vec![format!("http://10.0.0.1:80/{}", sample::MARKUP)],
        ..sample::job()
    };
    let text = page(vec![job]).render().unwrap();
    assert!(!text.contains(sample::MARKUP), "{text}");
    let text = of(&[("filter", &format!("name=\"{}\"", sample::MARKUP))]).render().unwrap();
    assert!(!text.contains(sample::MARKUP) && text.contains("No job matches"), "{text}");
}

#[test]
fn empty_list_leads_on() {
    assert!(page(Vec::new()).render().unwrap().contains("Submit Job"));
    let none = of(&[("category", "failed")]).render().unwrap();
    assert!(none.contains("No job matches") && none.contains("Reset Filters"), "{none}");
}

#[test]
fn wrong_filter_is_told_beside_its_field() {
    let page = of(&[("filter", "stat=Executing")]);
    let text = page.render().unwrap();
    for part in ["unknown key `stat`", "did you mean `status`?", "value=\"stat=Executing\"", "aria-invalid"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn address_holds_the_choice() {
    let id = sample::job().id;
    let page = of(&[("filter", "user=ada"), ("category", "running"), ("before", id.as_str())]);
    assert_eq!(page.choice.of_category(&None), "/jobs?filter=user%3Dada");
    assert_eq!(page.choice.older(&id), format!("/jobs?filter=user%3Dada&category=running&before={id}"));
    assert_eq!(page.choice.command(), "float list -F table -f 'user=ada' -f 'category=running'");
    assert!(Choice::of(&Address::of("jobs", &[("category", "all")])).is_err());
}

#[test]
fn pager_says_where_it_is() {
    let mut shown = page(vec![sample::job()]);
    if let Ok(found) = &mut shown.found {
        (found.newer, found.total, found.next) = (50, 1234, Some(sample::job().id));
    }
    let text = shown.render().unwrap();
    assert!(text.contains("51 to 51 of 1234") && text.contains("before="), "{text}");
}
