//! Refusals of use-cases stand beside the fields that they are about, and nothing typed is lost.

use mooring_api::view::{GatewayCreateRequest, SecretSetRequest, UserUpdateRequest};
use mooring_api::{ClientError, ErrorBody, Submission};
use mooring_types::JobId;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::visit::Visit;

/// A form that a use-case refuses.
struct Refused<'a> {
    path: &'a str,
    form: &'a [(&'a str, &'a str)],
    /// The key of the field that the refusal is about.
    field: &'a str,
    message: &'a str,
}

async fn admin(lab: &Lab) -> Visit {
    Visit::begin(&lab.admin, "admin", &lab.admin_password()).await
}

/// Submits forms, and looks for each refusal below its field and nowhere else.
async fn refuse(visitor: &Visit, cases: &[Refused<'_>]) {
    for Refused { path, form, field, message } in cases {
        let answer = visitor.post(path, form).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {form:?}: {answer:?}");
        let below = answer.below(field);
        assert!(below.contains(message), "{path} {form:?}: `{below}` is below {field}: {}", answer.text);
        assert!(!answer.text.contains("class=\"refusal\""), "{path} {form:?}: {}", answer.text);
        // The answer to Submit Job replaces no field.
        if *path != "/submit" {
            for (key, value) in form.iter().filter(|(key, value)| !is_secret(key) && !value.is_empty()) {
                let is_kept = answer.text.contains(&format!("value=\"{value}\""))
                    || answer.text.contains(&format!(">{value}</textarea>"));
                assert!(is_kept, "{path}: {key}={value} is lost: {}", answer.text);
            }
        }
    }
}

fn is_secret(key: &str) -> bool {
    matches!(key, "password" | "again" | "current" | "value")
}

/// Submits a job that publishes two ports, and executes.
async fn publishing_job(lab: &mut Lab) -> JobId {
    let publish = ["8888:80", "6006"].map(|port| port.parse().unwrap()).into();
    lab.job_on("host-1", Submission { publish, ..Submission::default() }).await
}

#[tokio::test]
async fn names_groups_and_passwords_are_refused_at_their_fields() {
    let lab = Lab::start().await;
    lab.user("ada").await;
    let visitor = admin(&lab).await;
    visitor.post("/groups", &[("name", "physics"), ("users", "ada")]).await;
    let long = "x".repeat(300);
    let (path, short) = ("/users", "short");
    let user = |name, password| [("name", name), ("password", password), ("again", password), ("role", "user")];
    refuse(
        &visitor,
        &[
            Refused {
                path,
                form: &user("ada", "long enough"),
                field: "name",
                message: "a user is named `ada` already",
            },
            Refused { path, form: &user("bob", short), field: "password", message: "at least 8 characters" },
            Refused {
                path: "/users/ada/password",
                form: &[("password", short), ("again", short)],
                field: "password",
                message: "at least 8 characters",
            },
            Refused {
                path: "/users/admin/update",
                form: &[("role", "user")],
                field: "role",
                message: "`admin` is the last admin",
            },
            Refused {
                path: "/account/password",
                form: &[("current", "wrong"), ("password", "long enough"), ("again", "long enough")],
                field: "current",
                message: "the current password is missing or wrong",
            },
            Refused { path: "/groups", form: &[("name", "physics")], field: "name", message: "is named `physics`" },
            Refused {
                path: "/groups",
                form: &[("name", "law"), ("description", &long)],
                field: "description",
                message: "at most 256 characters",
            },
            Refused {
                path: "/groups/physics/update",
                form: &[("users", "ada"), ("description", &long)],
                field: "description",
                message: "at most 256 characters",
            },
            Refused {
                path: "/secrets",
                form: &[("name", "token"), ("value", &"x".repeat(70_000))],
                field: "value",
                message: "1 to 65536 bytes",
            },
        ],
    )
    .await;
    // A user or a group that is gone since the dialogue was opened.
    let gone = visitor.post("/groups", &[("name", "law"), ("users", "eve")]).await;
    assert!(gone.below("users").contains("no user `eve`"), "{gone:?}");
    let gone = visitor.post("/users", &[user("bob", "long enough").as_slice(), &[("groups", "art")]].concat()).await;
    assert!(gone.below("groups").contains("no group `art`"), "{gone:?}");
}

#[tokio::test]
async fn forms_of_gateways_and_connections_are_refused_at_their_fields() {
    let mut lab = Lab::start().await;
    let id = lab.create_gateway("lab").await;
    let other = GatewayCreateRequest { name: "other".into(), port_range: "20000:20000".into(), ..Default::default() };
    let other = lab.admin.gateway_create(&other).await.unwrap().id;
    let job = publishing_job(&mut lab).await;
    lab.settle().await;
    let visitor = admin(&lab).await;
    let connect = format!("/gateways/{id}/connect");
    let of_job = format!("/jobs/{job}/connect");
    let (migrate, modify) = (format!("/jobs/{job}/migrate"), format!("/gateways/{id}/modify"));
    let form = [("job", job.as_str()), ("ports", "6006"), ("protocol", "auto")];
    assert_eq!(visitor.post(&connect, &form).await.status, StatusCode::NO_CONTENT);
    let page = visitor.get(&modify).await.text;
    let (_, rest) = page.split_once("name=\"began\" value=\"").unwrap();
    let began = rest.split('"').next().unwrap().replace("&#34;", "\"").replace("&#38;", "&");
    let modified = |range, cpu| [("began", began.as_str()), ("name", "lab"), ("port_range", range), ("cpu", cpu)];
    let long = "x".repeat(300);
    refuse(
        &visitor,
        &[
            Refused {
                path: "/gateways",
                form: &[("name", "lab"), ("port_range", "30000:30001")],
                field: "name",
                message: "a gateway is named `lab` already",
            },
            Refused {
                path: "/gateways",
                form: &[("name", "third"), ("port_range", "10000:10001")],
                field: "port_range",
                message: "overlaps 10000:10500 of gateway `lab`",
            },
            Refused {
                path: "/gateways",
                form: &[("name", "third"), ("cpu", "999"), ("port_range", "30000:30001")],
                field: "cpu",
                message: "no ready host has 999 cores",
            },
            Refused {
                path: "/gateways",
                form: &[("name", "third"), ("group_name", "campus"), ("group_description", &long)],
                field: "group_description",
                message: "at most 200 characters",
            },
            Refused {
                path: "/security-groups",
                form: &[("name", "campus"), ("description", &long)],
                field: "description",
                message: "at most 200 characters",
            },
            Refused { path: &connect, form: &form, field: "ports", message: "is connected to gateway `lab` already" },
            Refused {
                path: &of_job,
                form: &[("gateway", other.as_str()), ("port", "6006"), ("port", "8888")],
                field: "gateway",
                message: "has 1 free ports",
            },
            Refused {
                path: &of_job,
                form: &[("gateway", id.as_str()), ("port", "6006")],
                field: "port",
                message: "is connected to gateway `lab` already",
            },
            Refused {
                path: &migrate,
                form: &[("host", "host-2"), ("cpu", "999")],
                field: "cpu",
                message: "host `host-2` lacks room",
            },
        ],
    )
    .await;
    let used = visitor.post(&modify, &modified("10400:10500", "1")).await;
    assert!(used.below("port_range").contains("leaves out ports in use"), "{used:?}");
    let large = visitor.post(&modify, &modified("10000:10500", "999")).await;
    assert!(large.below("cpu").contains("lacks room"), "{large:?}");
    let gone = visitor.post(&migrate, &[("host", "host-9")]).await;
    assert!(gone.below("host").contains("no host is named `host-9`"), "{gone:?}");
    let foreign = visitor.post("/gateways", &[("name", "third"), ("groups", "sg-sidlpgb7oi9p48kxycpmn")]).await;
    assert!(foreign.below("groups").contains("no security group"), "{foreign:?}");
    let gone = visitor.post(&connect, &[("job", "uqaj8l6a407u88v0106ol"), ("ports", "1"), ("protocol", "auto")]).await;
    assert!(gone.below("job").contains("no job uqaj8l6a407u88v0106ol"), "{gone:?}");
}

#[tokio::test]
async fn forms_of_jobs_and_templates_are_refused_at_their_fields() {
    let mut lab = Lab::start().await;
    let job = publishing_job(&mut lab).await;
    lab.user("ada").await;
    let visitor = admin(&lab).await;
    let modify = format!("/jobs/{job}/modify");
    let tags: Vec<String> = (0..51).map(|number| format!("key{number}:x")).collect();
    let tags = tags.join("\n");
    let submit = |field, form, message| Refused { path: "/submit", form, field, message };
    refuse(
        &visitor,
        &[
            submit("image", &[("name", "web")], "no image"),
            submit("gateway", &[("image", "dir:/"), ("gateway", "gone")], "no gateway gone"),
            submit("gateway", &[("image", "dir:/"), ("targetPorts", "80")], "target ports without a gateway"),
            submit("host", &[("image", "dir:/"), ("host", "host-9")], "no host is named host-9"),
            submit("securityGroups", &[("image", "dir:/"), ("securityGroups", "gone")], "no security group gone"),
            submit("env", &[("image", "dir:/"), ("env", "A={secret:gone}")], "no secret gone"),
            submit("dataVolumes", &[("image", "dir:/"), ("dataVolumes", "vol-1:/mnt")], "no volumes that exist apart"),
            submit("publish", &[("image", "dir:/"), ("publish", "80"), ("publish", "80:81")], "published twice"),
            submit("cpu", &[("image", "dir:/"), ("cpu", "99999")], "99999 cores"),
            submit("memGB", &[("image", "dir:/"), ("memGB", "1"), ("memGBMax", "9999999")], "9999999 GB"),
            submit("idle", &[("image", "dir:/"), ("idle", "0s")], "at least 1s"),
            submit("workingDir", &[("image", "dir:/"), ("workingDir", "here")], "is not absolute"),
            submit("env", &[("template", "ssh")], "needs the variable AUTHORIZED_KEY"),
            Refused { path: &modify, form: &[("tags", &tags)], field: "tags", message: "51 tags" },
            Refused {
                path: "/templates",
                form: &[("name", "work"), ("job", job.as_str()), ("accessPath", "lab")],
                field: "accessPath",
                message: "`lab` is no path",
            },
        ],
    )
    .await;
    let ada = Visit::begin(&lab.admin, "ada", "password of ada").await;
    let image = ada.post("/submit", &[("image", "dir:/")]).await;
    assert!(image.below("image").contains("takes the role admin"), "{image:?}");
}

/// Returns the refusal of a request.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ErrorBody {
    match answer {
        Err(ClientError::Refused(body)) => body,
        other => panic!("not refused: {other:?}"),
    }
}

/// Returns whether a schema of the API description has a key.
fn has_key(document: &Value, schema: &str, key: &str) -> bool {
    document["components"]["schemas"][schema]["properties"].get(key).is_some()
}

#[tokio::test]
async fn refusal_names_a_key_of_the_request() {
    let mut lab = Lab::start().await;
    lab.create_gateway("lab").await;
    let document = serde_json::to_value(mooring_opcenter::openapi()).unwrap();
    let gateway = GatewayCreateRequest { name: "other".into(), ..GatewayCreateRequest::default() };
    let body = refusal(lab.admin.gateway_create(&gateway).await);
    assert_eq!(body.field.as_deref(), Some("portRange"));
    assert!(has_key(&document, "GatewayCreateRequest", "portRange"));
    let submission: Submission = serde_json::from_value(json!({"image": "dir:/", "gateway": "gone"})).unwrap();
    assert_eq!(refusal(lab.admin.job_submit(&submission).await).field.as_deref(), Some("gateway"));
    assert!(has_key(&document, "Submission", "gateway"));
    let role = UserUpdateRequest { role: "user".into(), ..UserUpdateRequest::default() };
    assert_eq!(refusal(lab.admin.user_update("admin", &role).await).field.as_deref(), Some("role"));
    let body = refusal(lab.admin.secret_set("token", &SecretSetRequest { value: String::new() }).await);
    assert_eq!(body.field.as_deref(), Some("value"));
    // A refusal that is about no input names none.
    let body = refusal(lab.admin.job_get(&"uqaj8l6a407u88v0106ol".parse().unwrap()).await);
    assert_eq!(body.field, None);
    assert!(has_key(&document, "ErrorBody", "field"));
}
