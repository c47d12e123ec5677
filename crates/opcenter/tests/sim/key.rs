//! Rotation of the key that seals secrets and capsule keys.

use mooring_api::ErrorCode::PermissionDenied;
use mooring_api::view::{AuditQuery, SecretSetRequest};
use mooring_types::job::JobStatus;

use crate::lab::{Lab, refused};

#[tokio::test]
async fn secrets_and_capsules_open_after_a_rotation_and_a_restart() {
    let mut lab = Lab::start().await;
    let ada = lab.user("ada").await;
    ada.secret_set("token", &SecretSetRequest { value: "sesame".into() }).await.unwrap();
    let set = ada.secret_list().await.unwrap();
    let job = lab.job().await;
    lab.suspend(&job).await;
    lab.expect(&job, JobStatus::Suspended).await;
    let sealed = async |lab: &Lab| {
        let mut tx = lab.store().await.begin_read().await.unwrap();
        (tx.secret_list().await.unwrap().remove(0).sealed, tx.job_capsule_key_list().await.unwrap())
    };
    let before = sealed(&lab).await;

    let old = lab.admin.key_list().await.unwrap().remove(0);
    let new = lab.admin.key_rotate().await.unwrap();
    assert_eq!((new.secrets, new.capsule_keys, old.id == new.id), (1, 1, false));
    let keys = lab.admin.key_list().await.unwrap();
    assert_eq!(keys[0], new);
    assert!(keys[1].id.starts_with("sha256:"), "{keys:?}");
    let after = sealed(&lab).await;
    assert!(before.0 != after.0 && before.1 != after.1);
    // The value is as old as it was.
    assert_eq!(ada.secret_list().await.unwrap(), set);
    lab.restart_opcenter().await;
    assert_eq!(lab.admin.key_list().await.unwrap()[0], new);
    assert_eq!(ada.secret_get("token").await.unwrap().value, "sesame");
    lab.resume(&job).await;
    lab.expect(&job, JobStatus::Executing).await;
    assert!(!lab.state_dir().join("secret-key.next").exists());

    refused(ada.key_list().await, PermissionDenied, "admin");
    refused(ada.key_rotate().await, PermissionDenied, "admin");
    let query = AuditQuery { action: Some("key.rotate".into()), ..AuditQuery::default() };
    let entries = lab.admin.audit_list(&query).await.unwrap().entries;
    assert_eq!((entries.len(), entries[1].object.as_str()), (2, new.id.as_str()), "{entries:?}");
    let key = std::fs::read_to_string(lab.state_dir().join("secret-key")).unwrap();
    assert!(!format!("{entries:?} {keys:?}").contains(key.trim()));
}
