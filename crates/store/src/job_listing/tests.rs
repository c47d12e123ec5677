use std::collections::BTreeMap;
use std::time::Duration;

use mooring_types::filter::{Equality, Order, Subject, TextKey, TextTest, TimeKey};
use mooring_types::job::{Image, JobSpec};
use mooring_types::{Generation, HostId, Name};
use proptest::prelude::*;
use proptest::sample::select;
use rand::Rng;

use super::*;
use crate::Store;

const IMAGES: [&str; 5] =
    ["dir:/", "docker.io/library/ubuntu:22.04", "dir:/srv/ÄPFEL", "oci:/srv/İstanbul", "quay.io/jupyter/base:4"];
const NAMES: [&str; 4] = ["work", "Notebook-7", "train.2", "WORK"];
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const HOSTS: [&str; 2] = ["host-1", "Host-2"];
const TAGS: [(&str, &str); 6] = [
    ("project", "course-7"),
    ("project", "Course-8"),
    ("owner", "x"),
    ("7", "0"),
    ("פרויקט", "ÄPFEL-ספינה"),
    ("👩‍🚀", "🚢Orkney"),
];
/// The fractions of the seconds of times; none, and those that sort in another order as text.
const NANOSECONDS: [i64; 5] = [0, 500_000_000, 510_000_000, 1, 999_999_999];
const NOW: &str = "2026-08-01T15:00:00.5Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A time at or before now, or a little after it.
fn time(rng: &mut impl Rng) -> Timestamp {
    let nanoseconds = now().as_nanosecond() as i64 - rng.random_range(-3..10_i64) * 1_000_000_000;
    let second = nanoseconds.div_euclid(1_000_000_000) * 1_000_000_000;
    Timestamp::from_nanosecond((second + NANOSECONDS[rng.random_range(0..NANOSECONDS.len())]).into()).unwrap()
}

fn job(rng: &mut impl Rng) -> JobRow {
    let mut any = |all: &[&str]| all[rng.random_range(0..all.len())].to_owned();
    let (name, image, user) = (any(&NAMES), any(&IMAGES), any(&USERS));
    let spec = JobSpec::minimal(name.parse().unwrap(), image.parse::<Image>().unwrap());
    let mut job = JobRow::submitted(JobId::random(&mut rand::rng()), &user, spec, time(rng));
    job.last_update = time(rng);
    for (key, value) in TAGS {
        if rng.random() {
            job.policy.custom_tags.insert(key.to_owned(), value.to_owned());
        }
    }
    job
}

/// Inserts a job and gives it a random state, which the state machine might refuse.
async fn insert(tx: &mut Tx, hosts: &[HostId], rng: &mut impl Rng) -> JobId {
    let job = job(rng);
    tx.job_insert(&job).await.unwrap();
    let status = JobStatus::ALL[rng.random_range(0..JobStatus::ALL.len())];
    let exec = rng.random::<bool>().then(|| time(rng).to_string());
    let end = status.is_final().then(|| time(rng).to_string());
    let host = rng.random::<bool>().then(|| hosts[rng.random_range(0..hosts.len())].to_string());
    sqlx::query("UPDATE job SET status = ?, exec_time = ?, end_time = ?, host_id = ? WHERE id = ?")
        .bind(status.to_string())
        .bind(exec)
        .bind(end)
        .bind(host)
        .bind(job.id.as_str())
        .execute(&mut *tx.inner)
        .await
        .unwrap();
    job.id
}

struct World {
    store: Store,
    hosts: BTreeMap<HostId, String>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn with(jobs: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("test.db")).await.unwrap();
        let mut rng = rand::rng();
        let mut tx = store.begin().await.unwrap();
        let mut hosts = BTreeMap::new();
        for (number, name) in HOSTS.into_iter().enumerate() {
            let id = HostId::random(&mut rng);
            sqlx::query("INSERT INTO host (id, name, overlay, public_key, join_data) VALUES (?, ?, ?, ?, '{}')")
                .bind(id.as_str())
                .bind(name)
                .bind(number.to_string())
                .bind(number.to_string())
                .execute(&mut *tx.inner)
                .await
                .unwrap();
            hosts.insert(id, name.to_owned());
        }
        let ids: Vec<HostId> = hosts.keys().cloned().collect();
        for _ in 0..jobs {
            insert(&mut tx, &ids, &mut rng).await;
        }
        tx.commit().await.unwrap();
        Self { store, hosts, _directory: directory }
    }

    /// Returns what the filters choose of all jobs in Rust, oldest first.
    async fn chosen(&self, choice: &JobChoice) -> Vec<JobRow> {
        let mut jobs = self.store.begin_read().await.unwrap().job_list().await.unwrap();
        jobs.sort_by_key(|job| (job.submit_time, job.id.clone()));
        jobs.retain(|job| {
            choice.owners.as_ref().is_none_or(|owners| owners.contains(&job.user_name))
                && choice.filters.iter().all(|filter| self.holds(filter, job))
        });
        jobs
    }

    fn holds(&self, filter: &Filter, job: &JobRow) -> bool {
        let host = job.host.as_ref().filter(|_| !job.status.is_final());
        let image = job.spec.image.to_string();
        let ran = |began: Timestamp| {
            Duration::try_from(job.end_time.unwrap_or(now()).duration_since(began)).unwrap_or_default()
        };
        let subject = Subject {
            id: job.id.as_str(),
            name: job.spec.name.as_str(),
            user: &job.user_name,
            image: &image,
            host: host.map_or("", |host| &self.hosts[host]),
            tags: &job.policy.custom_tags,
            status: job.status,
            submit: job.submit_time,
            update: job.last_update,
            duration: job.exec_time.map_or(Duration::ZERO, ran),
        };
        filter.holds(&subject, now())
    }
}

fn filter() -> impl Strategy<Value = Filter> {
    let texts: Vec<&str> = IMAGES.into_iter().chain(NAMES).chain(USERS).chain(HOSTS).collect();
    let value = prop_oneof![
        8 => select(texts),
        8 => select(vec!["", "äpf", "i̇st", "İ", "ORK", "o", "host", "1", "ספ", "🚢", "course", "course-7", "x", "0", "'", "%", "\\"]),
    ]
    .prop_map(str::to_owned);
    let tag =
        select(vec!["project", "owner", "7", "none", "פרויקט", "👩‍🚀"]).prop_map(|key| TextKey::Tag(key.to_owned()));
    let key = prop_oneof![select(vec![TextKey::Id, TextKey::Name, TextKey::User, TextKey::Image, TextKey::Host]), tag];
    let equality = || select(vec![Equality::Same, Equality::Other]);
    let order = || select(vec![Order::Same, Order::Other, Order::Less, Order::AtMost, Order::More, Order::AtLeast]);
    let test = select(vec![TextTest::Same, TextTest::Other, TextTest::Contains]);
    let time_key = || select(vec![TimeKey::Submit, TimeKey::Update]);
    let duration = || {
        let some = (0_u64..12, select(NANOSECONDS.to_vec()));
        prop_oneof![
            8 => some.prop_map(|(second, nanos)| Duration::new(second, nanos as u32)),
            1 => Just(Duration::MAX),
        ]
    };
    let point = (-5_i64..12, select(NANOSECONDS.to_vec())).prop_map(|(before, nanos)| {
        Timestamp::from_nanosecond(i128::from((now().as_second() - before) * 1_000_000_000 + nanos)).unwrap()
    });
    let point = prop_oneof![8 => point, 1 => Just(Timestamp::MIN), 1 => Just(Timestamp::MAX)];
    let leaf = prop_oneof![
        4 => (key, test, value).prop_map(|(key, is, value)| Filter::Text { key, is, value }),
        1 => (equality(), select(JobStatus::ALL.to_vec())).prop_map(|(is, value)| Filter::Status { is, value }),
        1 => (equality(), select(Category::ALL.to_vec())).prop_map(|(is, value)| Filter::Category { is, value }),
        2 => (time_key(), order(), duration()).prop_map(|(key, is, value)| Filter::Age { key, is, value }),
        2 => (time_key(), order(), point).prop_map(|(key, is, value)| Filter::Time { key, is, value }),
        2 => (order(), duration()).prop_map(|(is, value)| Filter::Ran { is, value }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![several().prop_map(Filter::Any), several().prop_map(Filter::All)]
    })
}

fn choice() -> impl Strategy<Value = JobChoice> {
    let owners = select(vec![None, None, Some(vec!["alice".to_owned(), "bob".to_owned()]), Some(Vec::new())]);
    let filters = prop::collection::vec(filter(), 0..3);
    (owners, filters).prop_map(|(owners, filters)| JobChoice { owners, filters, now: now() })
}

fn ids(jobs: &[JobRow]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id.clone()).collect()
}

/// Walks all pages in both directions and compares them with the whole list.
async fn check_pages(tx: &mut Tx, choice: &JobChoice, category: Option<Category>, mut all: Vec<JobRow>, limit: u32) {
    let count = |category: Category| all.iter().filter(|job| job.status.category() == category).count() as u64;
    let counts = Category::ALL.map(|category| (category, count(category)));
    all.retain(|job| category.is_none_or(|category| job.status.category() == category));
    all.reverse();
    let mut seen: Vec<JobRow> = Vec::new();
    let mut place = JobPlace::Newest;
    loop {
        let page = tx.job_page(choice, category, &place, limit).await.unwrap().unwrap();
        assert_eq!(page.counts, counts);
        assert_eq!(page.newer, seen.len() as u64);
        seen.extend(page.jobs.iter().cloned());
        assert_eq!(page.older, (all.len() - seen.len()) as u64);
        let Some(last) = page.jobs.last().filter(|_| page.older > 0) else { break };
        if let JobPlace::Before(_) = place {
            let newer = JobPlace::After(page.jobs[0].id.clone());
            let back = tx.job_page(choice, category, &newer, limit).await.unwrap().unwrap();
            assert_eq!(ids(&back.jobs), ids(&all[seen.len() - page.jobs.len() - limit as usize..][..limit as usize]));
        }
        place = JobPlace::Before(last.id.clone());
    }
    assert_eq!(ids(&seen), ids(&all));
}

#[test]
fn database_and_rust_choose_the_same_jobs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(World::with(120));
    let strategy = (choice(), prop::option::of(select(Category::ALL.to_vec())), 1_u32..40);
    proptest!(ProptestConfig::with_cases(128), |((choice, category, limit) in strategy)| {
        runtime.block_on(async {
            let all = world.chosen(&choice).await;
            let mut tx = world.store.begin_read().await.unwrap();
            assert_eq!(ids(&tx.job_list_chosen(&choice).await.unwrap()), ids(&all), "{:?}", choice.filters);
            check_pages(&mut tx, &choice, category, all, limit).await;
        });
    });
}

#[tokio::test]
async fn listing_follows_its_job() {
    let world = World::with(0).await;
    let mut tx = world.store.begin().await.unwrap();
    let host = world.hosts.keys().next().unwrap().clone();
    let row = job(&mut rand::rng());
    tx.job_insert(&row).await.unwrap();
    let later = now() + Duration::from_millis(1);
    tx.job_own(&row.id, &host, Generation(1), later).await.unwrap();
    tx.job_name_set(&row.id, &"renamed".parse::<Name>().unwrap(), later).await.unwrap();
    let owned = tx.job_get(&row.id).await.unwrap().unwrap();
    tx.job_status_set(&owned, JobStatus::Initializing, "", later).await.unwrap();
    let filter = format!("name=renamed and host={} and status=Initializing and update={later}", HOSTS[0]);
    let filter = filter.replace(HOSTS[0], &world.hosts[&host]);
    let choice = JobChoice { owners: None, filters: vec![filter.parse().unwrap()], now: now() };
    assert_eq!(ids(&tx.job_list_chosen(&choice).await.unwrap()), [row.id]);
    assert_eq!(tx.job_count(None).await.unwrap(), [(JobStatus::Initializing, 1)]);
    assert_eq!(tx.job_count(Some(&[])).await.unwrap(), []);
}

#[tokio::test]
async fn page_keeps_its_place_while_jobs_arrive() {
    let world = World::with(9).await;
    let choice = JobChoice { owners: None, filters: Vec::new(), now: now() };
    let all = ids(&world.chosen(&choice).await);
    let mut tx = world.store.begin().await.unwrap();
    let place = JobPlace::Before(all[6].clone());
    let before = tx.job_page(&choice, None, &place, 3).await.unwrap().unwrap();
    let mut newest = job(&mut rand::rng());
    newest.submit_time = now() + Duration::from_secs(60);
    tx.job_insert(&newest).await.unwrap();
    let after = tx.job_page(&choice, None, &place, 3).await.unwrap().unwrap();
    assert_eq!((ids(&after.jobs), after.newer, after.older), (ids(&before.jobs), before.newer + 1, before.older));
    let nowhere = JobPlace::Before(JobId::random(&mut rand::rng()));
    assert_eq!(tx.job_page(&choice, None, &nowhere, 3).await.unwrap(), None);
}

#[tokio::test]
async fn reader_writes_nothing() {
    let world = World::with(1).await;
    let mut tx = world.store.begin_read().await.unwrap();
    assert!(tx.job_insert(&job(&mut rand::rng())).await.is_err());
}

/// A filter of the longest text is within the limits of SQLite.
#[tokio::test]
async fn longest_filter_is_executed() {
    let world = World::with(1).await;
    let text = vec!["id=x"; 510].join(" or ");
    let filters = vec![text.parse().unwrap(); 20];
    let choice = JobChoice { owners: None, filters, now: now() };
    assert_eq!(world.store.begin_read().await.unwrap().job_list_chosen(&choice).await.unwrap(), []);
}
