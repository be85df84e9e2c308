//! From SDK errors to faults: pure functions.
//!
//! Status and code come from the raw response, because the SDK files the same answer under
//! different errors: an unreadable 200 and a 503 without JSON are a `ServiceError` of Security
//! Hub's generated code and a `ResponseError` of SSM's.
//!
//! Guarantees: total (every SDK error gets a [`Fault`]); no secret in any text. AWS's message on
//! a bad signature quotes the request's headers, the session token among them, so messages about
//! credentials are replaced by our own.
//!
//! Deliberately doesn't know: what is done about a fault.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{Fault, HoldReason, Unavailability};
use crate::record::Text;

/// `aws_runtime::retries::classifiers::THROTTLING_ERRORS` (aws-runtime 1.10.2), which has
/// Security Hub's `LimitExceededException` in it.
const THROTTLING_CODES: [&str; 14] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "RequestThrottled",
    "SlowDown",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
];

/// Codes that hold a lane, from AWS's "Common error types" of the query and JSON protocols and
/// the Security Hub API Reference.
const HOLDING_CODES: [(&str, HoldReason); 18] = [
    ("ExpiredToken", HoldReason::CredentialsExpired),
    ("ExpiredTokenException", HoldReason::CredentialsExpired),
    ("TokenRefreshRequired", HoldReason::CredentialsExpired),
    ("UnrecognizedClientException", HoldReason::CredentialsInvalid),
    ("InvalidClientTokenId", HoldReason::CredentialsInvalid),
    ("InvalidAccessKeyId", HoldReason::CredentialsInvalid),
    ("InvalidSignatureException", HoldReason::CredentialsInvalid),
    ("SignatureDoesNotMatch", HoldReason::CredentialsInvalid),
    ("IncompleteSignature", HoldReason::CredentialsInvalid),
    ("MissingAuthenticationToken", HoldReason::CredentialsInvalid),
    ("MissingAuthenticationTokenException", HoldReason::CredentialsInvalid),
    ("AuthFailure", HoldReason::CredentialsInvalid),
    ("RequestExpired", HoldReason::ClockSkewed),
    ("RequestTimeTooSkewed", HoldReason::ClockSkewed),
    ("InvalidAccessException", HoldReason::HubOff),
    ("OptInRequired", HoldReason::RegionOff),
    ("SubscriptionRequiredException", HoldReason::RegionOff),
    ("RegionDisabledException", HoldReason::RegionOff),
];

/// What an SDK error means.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::TimeoutError(_) => unavailable(Unavailability::Timeout, &chain(error)),
        SdkError::DispatchFailure(failure) => {
            if let Some(credentials) = find::<CredentialsError>(error) {
                return classify_credentials(credentials);
            }
            if failure.is_timeout() {
                return unavailable(Unavailability::Timeout, &chain(error));
            }
            if failure.is_io() || failure.as_other().is_some() {
                return unavailable(Unavailability::Connect, &chain(error));
            }
            classify_undispatched(&chain(error))
        }
        SdkError::ConstructionFailure(_) => find::<CredentialsError>(error)
            .map_or_else(|| held(HoldReason::Misconfigured, &chain(error)), classify_credentials),
        SdkError::ServiceError(context) => {
            let (code, message) = (context.err().code(), context.err().message());
            classify_answer(context.raw().status().as_u16(), code, message, &chain(error))
        }
        SdkError::ResponseError(context) => {
            classify_answer(context.raw().status().as_u16(), None, None, &chain(error))
        }
        _ => unavailable(Unavailability::Connect, &chain(error)),
    }
}

/// What an HTTP answer means that isn't a success in AWS's form.
fn classify_answer(status: u16, code: Option<&str>, message: Option<&str>, detail: &str) -> Fault {
    let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
    let known = HOLDING_CODES.iter().find(|(holding, _)| *holding == code);
    if status == 429 || THROTTLING_CODES.contains(&code) {
        let shown = if code.is_empty() { "429" } else { code };
        return Fault::Throttled { code: Text::truncated(shown) };
    }
    if is_not_subscribed(message) {
        return held(HoldReason::HubOff, message);
    }
    if let Some((_, reason)) = known {
        return held_by_code(*reason, status, code, message);
    }
    match status {
        401 | 403 | 407 => {
            let shown = if message.is_empty() { detail } else { message };
            held(HoldReason::AccessDenied, &format!("status {status} {code} {shown}"))
        }
        _ if code.starts_with("AccessDenied") || code.starts_with("Unauthorized") => {
            held(HoldReason::AccessDenied, message)
        }
        408 => unavailable(Unavailability::Timeout, detail),
        _ if code.starts_with("RequestTimeout") => unavailable(Unavailability::Timeout, detail),
        200..=399 => unavailable(Unavailability::BadBody, &format!("status {status}: {detail}")),
        400..=499 if !code.is_empty() || status == 413 => Fault::Refused {
            status,
            code: Text::truncated(code),
            message: Text::truncated(message),
        },
        _ => {
            let shown = if message.is_empty() { detail } else { message };
            unavailable(Unavailability::Server { status }, shown)
        }
    }
}

/// The wording of Security Hub for an account whose hub is off, whatever the code it comes with.
pub(super) fn is_not_subscribed(message: &str) -> bool {
    message.contains("not subscribed")
}

fn held_by_code(reason: HoldReason, status: u16, code: &str, message: &str) -> Fault {
    let skewed = message.starts_with("Signature expired")
        || message.starts_with("Signature not yet current");
    match reason {
        HoldReason::CredentialsInvalid if skewed => {
            held(HoldReason::ClockSkewed, &format!("AWS answered {status} {code}"))
        }
        HoldReason::HubOff | HoldReason::RegionOff => held(reason, &format!("{code} {message}")),
        _ => held(reason, &format!("AWS answered {status} {code}")),
    }
}

/// Why no credentials could be had: a failed `AssumeRole` is classified as the call that it is.
fn classify_credentials(error: &CredentialsError) -> Fault {
    if let Some(refused) = find::<SdkError<AssumeRoleError, HttpResponse>>(error) {
        return match classify(refused) {
            // The hub's limiter has no business with a throttled STS.
            Fault::Throttled { code } => unavailable(
                Unavailability::Server { status: 429 },
                &format!("AssumeRole was throttled ({code})"),
            ),
            Fault::Refused { code, message, .. } => {
                held(HoldReason::AccessDenied, &format!("AssumeRole: {code} {message}"))
            }
            Fault::Held { reason, detail } => held(reason, &format!("AssumeRole: {detail}")),
            unavailable @ Fault::Unavailable { .. } => unavailable,
        };
    }
    match error {
        CredentialsError::ProviderTimedOut(_) => {
            unavailable(Unavailability::Timeout, "the credentials provider gave no answer in time")
        }
        CredentialsError::InvalidConfiguration(_) => held(HoldReason::Misconfigured, &chain(error)),
        _ => held(HoldReason::CredentialsMissing, &chain(error)),
    }
}

/// Failures before anything was sent that carry no typed source.
fn classify_undispatched(detail: &str) -> Fault {
    if detail.contains("identity") || detail.contains("credentials") {
        return held(HoldReason::CredentialsMissing, detail);
    }
    if detail.contains("endpoint") || detail.contains("region") {
        return held(HoldReason::Misconfigured, detail);
    }
    unavailable(Unavailability::Connect, detail)
}

fn unavailable(kind: Unavailability, detail: &str) -> Fault {
    Fault::Unavailable { kind, detail: Text::truncated(&without_user_info(detail)) }
}

fn held(reason: HoldReason, detail: &str) -> Fault {
    Fault::Held { reason, detail: Text::truncated(&without_user_info(detail.trim())) }
}

/// The first error of type `T` in the chain that starts with `error`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error and its sources in one line; a source that its parent already quotes is left out.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !text.is_empty() && !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = source.source();
    }
    line
}

/// `text` with `user:password@` taken out of its URLs (a proxy's, for example).
fn without_user_info(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        kept.push_str(before);
        let end =
            after.find(|c: char| c == '/' || c.is_whitespace() || c == '"').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => &after[at + 1..],
            None => after,
        };
    }
    kept.push_str(rest);
    kept
}
