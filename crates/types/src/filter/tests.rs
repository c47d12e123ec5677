use proptest::prelude::*;

use super::*;
use crate::policy::CustomTag;

fn read(text: &str) -> Filter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A job that was submitted 3 h ago, has run for 2 h and changed 10 minutes ago; now is 15:00.
fn holds(text: &str) -> bool {
    let tags = [("project".to_owned(), "course-7".to_owned())].into();
    let job = Subject {
        id: "uqaj8l6a407u88v0106ol",
        name: "notebook",
        user: "alice",
        image: "registry.local:5000/jupyter:4",
        host: "host-1",
        tags: &tags,
        status: JobStatus::Executing,
        submit: at("2026-08-01T12:00:00Z"),
        update: at("2026-08-01T14:50:00Z"),
        duration: Duration::from_secs(7200),
    };
    read(text).holds(&job, at("2026-08-01T15:00:00Z"))
}

#[test]
fn what_is_written_is_what_is_meant() {
    for text in [
        "status=Executing",
        "status=executing",
        "status = Executing",
        "status!=Floating",
        "status=Floating or status=Executing",
        "user=bob OR name=notebook",
        "user=alice and name=notebook",
        "user=bob and name=x or id=uqaj8l6a407u88v0106ol",
        "user=alice and (name=x or host=host-1)",
        "((user=alice))",
        "image~Jupyter",
        "image=registry.local:5000/jupyter:4",
        "image=\"registry.local:5000/jupyter:4\"",
        "category=running",
        "category!=failed",
        "tag:project=course-7",
        "tag:project~COURSE",
        "tag:owner!=x",
        "update<=12w",
        "update<=10m",
        "submit>2h59m",
        "submit>=2026-08-01",
        "submit<2026-08-01T12:00:01Z",
        "duration>=2h",
        "duration=120m",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "status=Floating",
        "status!=Executing",
        "user=bob or user=carol",
        "user=alice and user=bob",
        "(user=alice or name=x) and host=host-2",
        "name=note",
        "name=Notebook",
        "tag:owner=x",
        "tag:owner~x",
        "update<10m",
        "submit<=2h",
        "submit>=2026-08-02",
        "duration>2h",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, sentence, hint) in [
        ("", "invalid filter: a comparison is expected, at the end of ``", "write `status=Executing or"),
        ("or", "invalid filter: a comparison is expected, at character 1 of `or`", "write"),
        ("status", "invalid filter: an operator is expected after `status`, at the end of `status`", "the operators"),
        ("status=", "invalid filter: a value is expected, at the end of `status=`", "put it into"),
        ("=x", "invalid filter: a comparison is expected, at character 1 of `=x`", "write"),
        (
            "stat=Executing",
            "invalid filter: unknown key `stat`, at character 1 of `stat=Executing`",
            "did you mean `status`?",
        ),
        (
            "a=1 and age<3",
            "invalid filter: unknown key `a`, at character 1 of `a=1 and age<3`",
            "the keys are status, user",
        ),
        (
            "user=a or status=Running",
            "invalid filter: unknown job status `Running`, at character 18 of `user=a or status=Running`",
            "the statuses are Submitted",
        ),
        (
            "user=a user=b",
            "invalid filter: `and`, `or` or the end is expected, at character 8 of `user=a user=b`",
            "write",
        ),
        ("user=a or", "invalid filter: a comparison is expected, at the end of `user=a or`", "write"),
        ("user==a", "invalid filter: a value is expected, at character 6 of `user==a`", "put it into"),
        ("(user=a", "invalid filter: `)`, `and` or `or` is expected, at the end of `(user=a`", "write"),
        ("user=\"a", "invalid filter: the quote is not closed, at character 6 of `user=\"a`", "write"),
        ("user<a", "invalid filter: `user` can't be compared with `<`, at character 5 of `user<a`", "write =, != or ~"),
        (
            "status~Exec",
            "invalid filter: `status` can't be compared with `~`, at character 7 of `status~Exec`",
            "write = or !=",
        ),
        (
            "update<=12",
            "invalid filter: `12` is neither an age nor a point in time, at character 9 of `update<=12`",
            "write an age like 12w",
        ),
        ("duration>long", "invalid filter: `long` is no duration, at character 10 of `duration>long`", "write it like"),
        ("tag:=a", "invalid filter: `` is no key of a tag, at character 1 of `tag:=a`", "write tag:KEY=value"),
        ("user=ä ß=1", "invalid filter: `and`, `or` or the end is expected, at character 8 of `user=ä ß=1`", "write"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.to_string(), sentence);
        assert!(error.hint().starts_with(hint), "{text}: {}", error.hint());
    }
    let deep = format!("{}user=a{}", "(".repeat(40), ")".repeat(40));
    assert!(deep.parse::<Filter>().is_err());
    assert!("user=".to_owned().repeat(2000).parse::<Filter>().is_err());
}

fn filter() -> impl Strategy<Value = Filter> {
    let equality = || prop_oneof![Just(Equality::Same), Just(Equality::Other)];
    let order = || {
        let all = [Order::Same, Order::Other, Order::Less, Order::AtMost, Order::More, Order::AtLeast];
        prop::sample::select(all.to_vec())
    };
    let time = || prop_oneof![Just(TimeKey::Submit), Just(TimeKey::Update)];
    let duration = || (0_u64..1 << 40).prop_map(Duration::from_millis);
    let key = prop_oneof![
        prop::sample::select(vec![TextKey::Id, TextKey::Name, TextKey::User, TextKey::Image, TextKey::Host]),
        "[A-Za-z0-9-]{1,10}".prop_map(TextKey::Tag),
    ];
    let test = prop_oneof![Just(TextTest::Same), Just(TextTest::Other), Just(TextTest::Contains)];
    let value = prop_oneof!["[^\"\\p{C}]{0,12}", Just("or".to_owned()), Just("AND".to_owned())];
    let categories = vec![Category::Pending, Category::Running, Category::Success, Category::Failed];
    let leaf = prop_oneof![
        (key, test, value).prop_map(|(key, is, value)| Filter::Text { key, is, value }),
        (equality(), prop::sample::select(JobStatus::ALL.to_vec()))
            .prop_map(|(is, value)| Filter::Status { is, value }),
        (equality(), prop::sample::select(categories)).prop_map(|(is, value)| Filter::Category { is, value }),
        (time(), order(), duration()).prop_map(|(key, is, value)| Filter::Age { key, is, value }),
        (time(), order(), 0_i64..4_000_000_000).prop_map(|(key, is, second)| Filter::Time {
            key,
            is,
            value: Timestamp::from_second(second).unwrap()
        }),
        (order(), duration()).prop_map(|(is, value)| Filter::Ran { is, value }),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![several().prop_map(Filter::Any), several().prop_map(Filter::All)]
    })
}

proptest! {
    #[test]
    fn a_filter_reads_back(filter in filter()) {
        prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}|[a-z=!<>~()\" ]{0,40}") {
        let _ = text.parse::<Filter>();
    }

    #[test]
    fn every_tag_can_be_asked_for(key in "[A-Za-z0-9א-ת🚢-]{1,63}", value in "[A-Za-z0-9א-ת🚢-]{1,63}") {
        prop_assume!(CustomTag::is_part(&key));
        let filter = read(&format!("tag:{key}=\"{value}\""));
        prop_assert_eq!(filter, Filter::Text { key: TextKey::Tag(key), is: TextTest::Same, value });
    }
}
