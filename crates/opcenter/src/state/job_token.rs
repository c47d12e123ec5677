//! The token of a job, by which the programs inside it are known to OpCenter.
//!
//! ```text
//!  job's id · `.` · HMAC-SHA256 of a message and the id, by the key of the job's capsules, in hex
//! ```
//!
//! The job has it in `$FLOAT_TOKEN` from its start on, so it can't change. A process keeps its
//! environment over migrations, suspends and rotations of OpCenter's key. The token is good until
//! the job ends. [`crate::auth`] says what it permits.

use aws_lc_rs::hmac;
use mooring_capsule::CapsuleKey;
use mooring_store::JobRow;
use mooring_types::JobId;

use super::vault::{CantOpen, Vault};

/// The message that a proof signs, before the job's id.
const MESSAGE: &str = "mooring: token of a job: ";
/// The character between id and proof. A session's token and an API token don't have it.
const DIVIDER: char = '.';

/// A token as it was received.
#[derive(Clone)]
pub(crate) struct JobToken {
    pub(crate) job: JobId,
    proof: Vec<u8>,
}

impl JobToken {
    /// Parses a token; `None` if it is none of a job.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (job, proof) = text.split_once(DIVIDER)?;
        Some(Self { job: job.parse().ok()?, proof: hex::decode(proof).ok()? })
    }

    /// Returns whether this is the token of a job.
    pub(crate) fn is_of(&self, vault: &Vault, job: &JobRow) -> bool {
        let is_proven = |key: CapsuleKey| hmac::verify(&signing(&key), &message(&self.job), &self.proof).is_ok();
        self.job == job.id && capsule_key(vault, job).is_ok_and(|key| key.is_some_and(is_proven))
    }
}

/// Returns the token of a job; `None` for a job without a key.
pub(crate) fn token(vault: &Vault, job: &JobRow) -> Result<Option<String>, CantOpen> {
    let signed = |key: CapsuleKey| hex::encode(hmac::sign(&signing(&key), &message(&job.id)));
    Ok(capsule_key(vault, job)?.map(|key| format!("{}{DIVIDER}{}", job.id, signed(key))))
}

fn capsule_key(vault: &Vault, job: &JobRow) -> Result<Option<CapsuleKey>, CantOpen> {
    job.capsule_key.as_deref().map(|sealed| vault.unseal_capsule_key(&job.id, sealed)).transpose()
}

fn signing(key: &CapsuleKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.to_hex().as_bytes())
}

fn message(job: &JobId) -> Vec<u8> {
    format!("{MESSAGE}{job}").into_bytes()
}

#[cfg(test)]
mod tests {
    use mooring_types::job::{Image, JobSpec};

    use super::*;

    fn job(vault: &Vault) -> JobRow {
        let id = JobId::random(&mut rand::rng());
        let capsule_key = vault.seal_capsule_key(&id, &CapsuleKey::random()).unwrap();
        let spec = JobSpec::minimal("lab".parse().unwrap(), Image::Directory("/".into()));
        let row = JobRow::submitted(id, "alice", spec, mooring_types::Timestamp::UNIX_EPOCH);
        JobRow { capsule_key: Some(capsule_key), ..row }
    }

    #[test]
    fn token_is_of_one_job() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let (one, other) = (job(&vault), job(&vault));
        let text = token(&vault, &one).unwrap().unwrap();
        let given = JobToken::parse(&text).unwrap();
        assert!(given.is_of(&vault, &one) && !given.is_of(&vault, &other));
        // Its proof with the id of another job, and a part of its proof.
        let proof = text.split_once('.').unwrap().1;
        for forged in [format!("{}.{proof}", other.id), format!("{}.{}", one.id, &proof[2..]), format!("{}.", one.id)] {
            let forged = JobToken::parse(&forged).unwrap();
            assert!(!forged.is_of(&vault, &one) && !forged.is_of(&vault, &other));
        }
        for text in ["", ".", "not.a job's", one.id.as_str(), &crate::state::token::new_token()] {
            assert!(JobToken::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn token_stays_when_the_key_of_opcenter_changes() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::open(directory.path(), None).unwrap();
        let mut job = job(&vault);
        let before = token(&vault, &job).unwrap();
        let next = vault.prepare().unwrap();
        let sealed = vault.reseal_capsule_key(&next, &job.id, job.capsule_key.as_deref().unwrap()).unwrap();
        job.capsule_key = Some(sealed);
        vault.switch(next);
        assert_eq!(token(&vault, &job).unwrap(), before);
        job.capsule_key = None;
        assert_eq!(token(&vault, &job).unwrap(), None);
    }
}
