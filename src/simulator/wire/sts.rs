//! STS: who am I, and let me be somebody else.

use std::collections::HashMap;

use axum::{extract::Query, http::Uri};

use super::{Outcome, Route};
use crate::simulator::{
    caller::{Caller, session_token},
    clock::format_timestamp,
    config::{SECRET_ACCESS_KEY, session_key_id},
    faults::Service,
    reply::{ApiError, Protocol, escape_xml},
    world::{World, lock},
};

const DEFAULT_SESSION_SECONDS: i64 = 3_600;

type Form = HashMap<String, String>;

/// The route of an awsQuery request; `None` if it has no Action.
pub(super) fn route(body: &[u8]) -> Option<Route> {
    let form = parse_form(body)?;
    let mut route = Route::new(Protocol::Query, Service::Sts, form.get("Action")?);
    route.assumed_account =
        form.get("RoleArn").and_then(|arn| Some(role_of_arn(arn)?.0.to_string()));
    route.assumed_role = form.get("RoleArn").cloned();
    Some(route)
}

pub(super) fn call(
    world: &World,
    caller: &Caller,
    operation: &str,
    body: &[u8],
) -> Option<Outcome> {
    let form = parse_form(body).unwrap_or_default();
    match operation {
        "GetCallerIdentity" => Some(Ok(caller_identity(caller))),
        "AssumeRole" => Some(assume_role(world, caller, &form)),
        _ => None,
    }
}

fn parse_form(body: &[u8]) -> Option<Form> {
    let uri: Uri = format!("/?{}", std::str::from_utf8(body).ok()?).parse().ok()?;
    Query::<Form>::try_from_uri(&uri).ok().map(|query| query.0)
}

fn caller_identity(caller: &Caller) -> Vec<u8> {
    let (account, arn) = (&caller.account, caller.arn());
    let user_id = if caller.is_session { "AROASIMULATED:session" } else { "AIDASIMULATED" };
    xml(
        "GetCallerIdentity",
        &format!("<Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>{account}</Account>"),
    )
}

fn assume_role(world: &World, caller: &Caller, form: &Form) -> Outcome {
    let arn = form.get("RoleArn").map(String::as_str).unwrap_or_default();
    let Some((account, role)) = role_of_arn(arn) else {
        return Err(validation(format!("{arn} is invalid")));
    };
    let session = form.get("RoleSessionName").map(String::as_str).unwrap_or_default();
    if !(2..=64).contains(&session.len()) || !session.chars().all(is_session_name_char) {
        return Err(validation("RoleSessionName must satisfy [\\w+=,.@-]{2,64}".to_string()));
    }
    let seconds = match form.get("DurationSeconds").map(|text| text.parse::<i64>()) {
        None => DEFAULT_SESSION_SECONDS,
        Some(Ok(seconds)) if (900..=43_200).contains(&seconds) => seconds,
        Some(_) => {
            return Err(validation("DurationSeconds must be between 900 and 43200".to_string()));
        }
    };
    if !world.accounts.contains(account) || !is_admitted(world, caller, account, role, form) {
        return Err(ApiError::new(
            403,
            "AccessDenied",
            format!(
                "User: arn:aws:iam::{}:user/simulated is not authorized to perform: \
                 sts:AssumeRole on resource: {arn}",
                caller.account
            ),
        ));
    }
    let seconds = (*lock(&world.session_seconds)).unwrap_or(seconds);
    let now_ms = world.now_ms();
    let expires_at_ms = now_ms + seconds * 1_000;
    Ok(xml(
        "AssumeRole",
        &format!(
            "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{SECRET_ACCESS_KEY}\
             </SecretAccessKey><SessionToken>{}</SessionToken><Expiration>{}</Expiration>\
             </Credentials><AssumedRoleUser><AssumedRoleId>AROASIMULATED:{session}</AssumedRoleId>\
             <Arn>arn:aws:sts::{account}:assumed-role/{}/{session}</Arn></AssumedRoleUser>",
            session_key_id(account),
            session_token(now_ms, expires_at_ms),
            format_timestamp(expires_at_ms),
            escape_xml(role),
        ),
    ))
}

/// What the role's trust policy says; a role that isn't there is refused in the same words.
fn is_admitted(world: &World, caller: &Caller, account: &str, role: &str, form: &Form) -> bool {
    let given = form.get("ExternalId");
    match world.roles.get(account) {
        Some(known) => {
            known.name == role
                && known.trusts.contains(&caller.account)
                && (known.external_id.is_none() || known.external_id.as_ref() == given)
        }
        None => world.external_id.is_none() || world.external_id.as_ref() == given,
    }
}

/// Account and role name of `arn:P:iam::A:role/…`.
fn role_of_arn(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (Some("arn"), Some(_partition), Some("iam"), Some(""), Some(account), Some(role)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let name = role.strip_prefix("role/").filter(|name| !name.is_empty())?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    is_account.then_some((account, name))
}

fn is_session_name_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+=,.@-".contains(character)
}

fn validation(message: String) -> ApiError {
    ApiError::new(400, "ValidationError", message)
}

fn xml(operation: &str, result: &str) -> Vec<u8> {
    format!(
        "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <{operation}Result>{result}</{operation}Result></{operation}Response>"
    )
    .into_bytes()
}
