//! Pages of the list of jobs.

use mooring_api::ErrorCode::{InvalidArgument, NotFound};
use mooring_api::Submission;
use mooring_api::view::{GroupAddRequest, JobPage, JobPageRequest};
use mooring_types::JobId;
use mooring_types::job::Category;

use crate::lab::{Lab, refused, seconds};

fn ids(page: &JobPage) -> Vec<JobId> {
    page.jobs.iter().map(|job| job.id.clone()).collect()
}

fn of(limit: u32) -> JobPageRequest {
    JobPageRequest { limit: Some(limit), ..JobPageRequest::default() }
}

/// Submits jobs to these hosts in turn, each a second after the one before. Returns them newest
/// first.
async fn submit(lab: &mut Lab, hosts: &[&str], names: &[&str]) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for (name, host) in names.iter().zip(hosts.iter().cycle()) {
        let request = Submission { name: Some(name.parse().unwrap()), ..Submission::default() };
        jobs.push(lab.job_on(host, request).await);
        lab.advance(seconds(1)).await;
    }
    jobs.reverse();
    jobs
}

#[tokio::test]
async fn pages_lead_through_all_jobs_and_back() {
    let mut lab = Lab::start().await;
    let jobs = submit(&mut lab, &["host-1", "host-2"], &["a", "b", "c", "d", "e"]).await;
    let first = lab.admin.job_page(&of(2)).await.unwrap();
    assert_eq!((ids(&first), first.total, first.newer, &first.previous), (jobs[..2].to_vec(), 5, 0, &None));
    let second = lab.admin.job_page(&JobPageRequest { before: first.next.clone(), ..of(2) }).await.unwrap();
    assert_eq!((ids(&second), second.total, second.newer), (jobs[2..4].to_vec(), 5, 2));
    let third = lab.admin.job_page(&JobPageRequest { before: second.next.clone(), ..of(2) }).await.unwrap();
    assert_eq!((ids(&third), &third.next, third.newer), (jobs[4..].to_vec(), &None, 4));
    let back = lab.admin.job_page(&JobPageRequest { after: third.previous, ..of(2) }).await.unwrap();
    assert_eq!(ids(&back), ids(&second));

    // A new job moves no page but the first.
    let new = submit(&mut lab, &["host-3"], &["f"]).await;
    let again = lab.admin.job_page(&JobPageRequest { before: first.next, ..of(2) }).await.unwrap();
    assert_eq!((ids(&again), again.total, again.newer), (ids(&second), 6, 3));
    assert_eq!(ids(&lab.admin.job_page(&of(1)).await.unwrap()), new);
}

#[tokio::test]
async fn page_has_its_category_and_the_counts_of_all() {
    let mut lab = Lab::start().await;
    let jobs = submit(&mut lab, &["host-1"], &["kept", "cancelled", "kept"]).await;
    lab.cancel(&jobs[1]).await;
    lab.suspend(&jobs[2]).await;
    let failed = JobPageRequest { category: Some(Category::Failed), ..of(10) };
    let page = lab.admin.job_page(&failed).await.unwrap();
    assert_eq!((ids(&page), page.total), (jobs[1..2].to_vec(), 1));
    assert_eq!((page.counts.total, page.counts.running, page.counts.failed, page.counts.success), (3, 2, 1, 0));
    assert_eq!(page.jobs[0].host_name, "");
    let filters = vec!["name=kept".into(), "host=host-1".into()];
    let page = lab.admin.job_page(&JobPageRequest { filters: filters.clone(), ..of(10) }).await.unwrap();
    assert_eq!((ids(&page), page.counts.total), (jobs[..1].to_vec(), 1));
    let list = lab.admin.job_list_where(&filters).await.unwrap();
    assert_eq!(list.iter().map(|job| &job.id).collect::<Vec<_>>(), [&jobs[0]]);
    // A migration is on the page of its job.
    lab.migrate(&jobs[0], "host-2").await;
    lab.settle().await;
    let page = lab.admin.job_page(&of(10)).await.unwrap();
    assert_eq!(page.jobs.iter().map(|job| job.migrations.len()).collect::<Vec<_>>(), [1, 0, 1]);
}

#[tokio::test]
async fn page_shows_whom_its_user_may_see() {
    let lab = Lab::start().await;
    let (alice, bob, carol) = (lab.user("alice").await, lab.user("bob").await, lab.user("carol").await);
    let users = vec!["alice".to_owned(), "bob".to_owned()];
    let group = GroupAddRequest { name: "course".into(), users, ..GroupAddRequest::default() };
    lab.admin.group_add(&group).await.unwrap();
    let request = Submission { image: Some("alpine:3".parse().unwrap()), ..Submission::default() };
    for client in [&alice, &carol] {
        client.job_submit(&request).await.unwrap();
    }
    for (client, total) in [(&lab.admin, 2), (&alice, 1), (&bob, 1), (&carol, 1)] {
        let page = client.job_page(&of(10)).await.unwrap();
        assert_eq!((page.total, page.jobs.len()), (total, total as usize));
        let totals = client.status_get().await.unwrap().jobs;
        assert_eq!((totals.total, totals.running), (page.counts.total, page.counts.running));
        assert_eq!(totals.failed + totals.cancelled, page.counts.failed);
    }
    // A member of the group sees no more of the job than its status.
    assert_eq!(bob.job_page(&of(1)).await.unwrap().jobs[0].input_args, "");
    assert_eq!(bob.job_page(&of(1)).await.unwrap().jobs[0].user, "alice");
}

#[tokio::test]
async fn wrong_places_are_refused() {
    let lab = Lab::start().await;
    let nobody = JobId::random(&mut rand::rng());
    let before = JobPageRequest { before: Some(nobody.clone()), ..of(1) };
    refused(lab.admin.job_page(&before).await, NotFound, "");
    let both = JobPageRequest { after: Some(nobody), ..before };
    refused(lab.admin.job_page(&both).await, InvalidArgument, "");
    refused(lab.admin.job_page(&of(0)).await, InvalidArgument, "");
    let filters = vec!["status=Running".into()];
    refused(lab.admin.job_page(&JobPageRequest { filters, ..of(1) }).await, InvalidArgument, "Running");
    let empty = lab.admin.job_page(&of(1)).await.unwrap();
    assert_eq!((empty.jobs.len(), empty.total, empty.next, empty.previous), (0, 0, None, None));
}
