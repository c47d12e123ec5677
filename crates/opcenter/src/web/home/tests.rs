use mooring_api::view::JobCounts;

use super::*;
use crate::web::sample;

fn page() -> HomePage {
    let jobs =
        JobPage { jobs: Vec::new(), total: 0, newer: 0, counts: JobCounts::default(), previous: None, next: None };
    HomePage { hosts: Vec::new(), gateways: Vec::new(), jobs, is_admin: true, refusal: String::new() }
}

fn with_job(mut page: HomePage, job: JobView) -> HomePage {
    page.jobs.jobs.push(job);
    page.jobs.counts = JobCounts { total: 1, running: 1, ..JobCounts::default() };
    page
}

#[test]
fn first_visitor_is_led_step_by_step() {
    let mut page = page();
    assert_eq!(page.next_step(), Some(Step::Host));
    let text = page.render().unwrap();
    assert!(text.contains("From nothing to an open session") && text.contains("/gateways/new"), "{text}");
    page.hosts.push(HostView { status: HostStatus::Ready, ..sample::host() });
    assert_eq!(page.next_step(), Some(Step::Gateway));
    page.gateways.push(GatewayView { connections: Vec::new(), ..sample::gateway() });
    assert_eq!(page.next_step(), Some(Step::Job));
    let mut page = with_job(page, sample::job());
    assert_eq!(page.next_step(), Some(Step::Connection));
    let waiting = ConnectionView { state: ConnectionState::Waiting, ..sample::connection() };
    page.gateways[0].connections.push(waiting);
    assert_eq!(page.next_step(), Some(Step::Page));
    page.gateways[0].connections[0].state = ConnectionState::Open;
    assert_eq!(page.next_step(), None);
    assert!(!page.render().unwrap().contains("From nothing"));
}

#[test]
fn texts_are_texts() {
    let mut page = with_job(page(), JobView { name: sample::MARKUP.into(), ..sample::job() });
    page.hosts.push(HostView { name: sample::MARKUP.into(), ..sample::host() });
    page.gateways.push(GatewayView { name: sample::MARKUP.into(), ..sample::gateway() });
    let text = page.render().unwrap();
    assert!(!text.contains(sample::MARKUP), "{text}");
}

#[test]
fn bar_shows_every_category_that_has_jobs() {
    let mut page = page();
    page.jobs.counts = JobCounts { total: 100_000, running: 1, success: 99_999, ..JobCounts::default() };
    let widths: Vec<u32> = page.bar().into_iter().map(|(_, _, width)| width).collect();
    assert_eq!(widths, [0, 8, 999, 0]);
}
