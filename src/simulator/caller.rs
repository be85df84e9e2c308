//! Who calls: account and Region from the `SigV4` `Authorization` header's credential scope.
//!
//! The signature itself isn't checked. A session's token says until when it holds.

use std::sync::atomic::Ordering;

use axum::http::{HeaderMap, header};

use super::{config::account_of_key, world::World};

/// The owner of the credentials that a request was signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub account: String,
    pub region: String,
    pub is_session: bool,
}

/// Why a request is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unidentified {
    NotSigned,
    UnknownKey,
    ExpiredSession,
}

impl Caller {
    /// As messages and `GetCallerIdentity` name the caller.
    pub(super) fn arn(&self) -> String {
        let account = &self.account;
        if self.is_session {
            format!("arn:aws:sts::{account}:assumed-role/simulated/session")
        } else {
            format!("arn:aws:iam::{account}:user/simulated")
        }
    }

    pub(super) fn identify(headers: &HeaderMap, world: &World) -> Result<Self, Unidentified> {
        let authorization =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scope = authorization
            .and_then(|text| text.split_once("Credential="))
            .and_then(|(_, rest)| rest.split([',', ' ']).next())
            .ok_or(Unidentified::NotSigned)?;
        let mut parts = scope.split('/');
        let (Some(key_id), Some(_date), Some(region)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Unidentified::NotSigned);
        };
        let (account, is_session) = account_of_key(key_id).ok_or(Unidentified::UnknownKey)?;
        if !world.accounts.contains(account) {
            return Err(Unidentified::UnknownKey);
        }
        if is_session {
            let token = headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
            check_session(token.unwrap_or_default(), world)?;
        }
        Ok(Self { account: account.to_string(), region: region.to_string(), is_session })
    }
}

/// The token of a session that was issued at one time and ends at another.
pub(super) fn session_token(issued_at_ms: i64, expires_at_ms: i64) -> String {
    format!("simulated-session/{issued_at_ms}/{expires_at_ms}")
}

fn check_session(token: &str, world: &World) -> Result<(), Unidentified> {
    let (issued_at_ms, expires_at_ms) = token
        .strip_prefix("simulated-session/")
        .and_then(|times| times.split_once('/'))
        .and_then(|(issued, expires)| Some((issued.parse().ok()?, expires.parse::<i64>().ok()?)))
        .ok_or(Unidentified::UnknownKey)?;
    let valid_from_ms: i64 = world.sessions_valid_from_ms.load(Ordering::Relaxed);
    if world.now_ms() >= expires_at_ms || valid_from_ms > issued_at_ms {
        return Err(Unidentified::ExpiredSession);
    }
    Ok(())
}
