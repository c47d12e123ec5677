//! The check of an ID token: OpenID Connect Core 1.0, section 3.1.3.7.
//!
//! The signature has to be of a key that the provider publishes, by an algorithm of
//! [`ALGORITHMS`]. Those with a shared secret are not among them, nor is `none`: who knows the
//! client's secret could make tokens. The crate `jsonwebtoken` verifies signature, issuer and
//! audience. Times are compared with OpCenter's own clock.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use mooring_types::Timestamp;
use serde_json::{Map, Value};

use super::failure::Failure;

/// The algorithms that a token may be signed by.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// The difference between two clocks that does not matter, in seconds.
const LEEWAY: i64 = 60;
/// The age of a token beyond which it was not made for this sign-in, in seconds.
const AGE_MAX: i64 = 600;

/// The values that a token has to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// The time, in seconds since 1970.
    pub(super) now: i64,
}

/// The reason why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("it is no ID token")]
    Malformed,
    #[error("it is not signed, or in a way that is not accepted")]
    Algorithm,
    #[error("it is signed with an unknown key")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it comes from another provider")]
    Issuer,
    #[error("it was made for another application")]
    Audience,
    #[error("it belongs to another sign-in")]
    Nonce,
    #[error("it does not say who signs in, or names two people")]
    Subject,
}

/// Checks a token, and returns its claims.
pub(super) fn check(token: &str, keys: &[Jwk], expected: &Expected<'_>) -> Result<Map<String, Value>, Failure> {
    // An algorithm that the crate does not know has no name there.
    let header = decode_header(token).map_err(|error| match error.kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => Untrusted::Malformed,
        _ => Untrusted::Algorithm,
    })?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Untrusted::Algorithm.into());
    }
    let mut outcome = Err(Untrusted::UnknownKey);
    for key in keys.iter().filter(|key| may_sign(key, header.alg, header.kid.as_deref())) {
        outcome = verify(token, key, header.alg, expected);
        // Without the name of a key each may be the right one.
        if outcome != Err(Untrusted::Signature) {
            break;
        }
    }
    let claims = outcome?;
    check_party(&claims, expected)?;
    check_times(&claims, expected.now)?;
    if claims.get("nonce").and_then(Value::as_str) != Some(expected.nonce) {
        return Err(Untrusted::Nonce.into());
    }
    Ok(claims)
}

/// Returns whether a key may have signed a token with that algorithm and key name.
fn may_sign(key: &Jwk, algorithm: Algorithm, name: Option<&str>) -> bool {
    let is_named = name.is_none_or(|name| key.common.key_id.as_deref() == Some(name));
    let is_for_it = key.common.key_algorithm.is_none_or(|of_key| of_key.to_string() == format!("{algorithm:?}"));
    let is_for_signatures = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let is_of_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
        }
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, Algorithm::ES256 | Algorithm::ES384),
        AlgorithmParameters::OctetKeyPair(_) => algorithm == Algorithm::EdDSA,
        _ => false,
    };
    is_named && is_for_it && is_for_signatures && is_of_kind
}

/// Verifies signature, issuer and audience.
fn verify(
    token: &str,
    key: &Jwk,
    algorithm: Algorithm,
    expected: &Expected<'_>,
) -> Result<Map<String, Value>, Untrusted> {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    // By another clock than OpCenter's: `check_times` compares.
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(key).map_err(|_| Untrusted::UnknownKey)?;
    decode(token, &key, &validation).map(|decoded| decoded.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidIssuer => Untrusted::Issuer,
        ErrorKind::InvalidAudience => Untrusted::Audience,
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "iss" => Untrusted::Issuer,
            "aud" => Untrusted::Audience,
            "sub" => Untrusted::Subject,
            _ => Untrusted::Malformed,
        },
        ErrorKind::InvalidSignature => Untrusted::Signature,
        ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::InvalidToken => Untrusted::Malformed,
        _ => Untrusted::Signature,
    })
}

/// Checks the authorized party: a token for several applications names the one that asked for it.
fn check_party(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), Untrusted> {
    let is_for_several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    match claims.get("azp").and_then(Value::as_str) {
        Some(party) if party == expected.client_id => Ok(()),
        None if !is_for_several => Ok(()),
        _ => Err(Untrusted::Audience),
    }
}

/// Compares the times of a token with the present.
fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), Failure> {
    // Times may have fractions.
    let seconds = |key: &str| claims.get(key).and_then(Value::as_f64).map(|time| time as i64);
    let (issued, end) = (seconds("iat").ok_or(Untrusted::Malformed)?, seconds("exp").ok_or(Untrusted::Malformed)?);
    let begin = seconds("nbf").unwrap_or(issued).max(issued);
    let shown = |time: i64| Timestamp::from_second(time).map_or_else(|_| time.to_string(), |time| time.to_string());
    if begin > now.saturating_add(LEEWAY) {
        return Err(Failure::Clock(format!("it is {} there, and {} here", shown(begin), shown(now))));
    }
    if end.saturating_add(LEEWAY) <= now {
        return Err(Failure::Clock(format!(
            "the sign-in was good until {}, and it is {} here",
            shown(end),
            shown(now)
        )));
    }
    if issued < now.saturating_sub(AGE_MAX) {
        return Err(Failure::Clock(format!("it was {} there, and it is {} here", shown(issued), shown(now))));
    }
    Ok(())
}
