//! Organizations: the accounts, a page at a time.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Outcome, parse};
use crate::simulator::{
    caller::Caller,
    reply::ApiError,
    world::{World, lock},
};

/// Carries out an operation; `None` if it is unknown.
pub(super) fn call(
    world: &World,
    caller: &Caller,
    operation: &str,
    body: &[u8],
) -> Option<Outcome> {
    if operation != "ListAccounts" {
        return None;
    }
    Some(list_accounts(world, caller, body).map(|answer| answer.to_string().into_bytes()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListAccounts {
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_accounts(world: &World, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let request: ListAccounts = parse(body)?;
    let organization = lock(&world.organization);
    if !organization.readers.contains(&caller.account) {
        return Err(ApiError::new(
            400,
            "AccessDeniedException",
            "You don't have permissions to access this resource.",
        ));
    }
    let page = request.max_results.unwrap_or(20);
    if !(1..=20).contains(&page) {
        let message = "MaxResults must be between 1 and 20";
        return Err(ApiError::new(400, "InvalidInputException", message));
    }
    let start: usize = match request.next_token.map(|token| token.parse()) {
        None => 0,
        Some(Ok(start)) => start,
        Some(Err(_)) => {
            return Err(ApiError::new(400, "InvalidInputException", "NextToken is invalid"));
        }
    };
    let accounts: Vec<Value> = organization
        .accounts
        .iter()
        .skip(start)
        .take(page)
        .map(|(id, state)| {
            // A state that the older member doesn't know is told as the nearest that it knows.
            let status = match state.as_str() {
                known @ ("ACTIVE" | "SUSPENDED" | "PENDING_CLOSURE") => known,
                _ => "SUSPENDED",
            };
            json!({
                "Id": id,
                "Arn": format!("arn:aws:organizations::{}:account/o-simulated0/{id}", caller.account),
                "Email": format!("{id}@example.com"),
                "Name": format!("simulated {id}"),
                "State": state,
                "Status": status,
                "JoinedMethod": "CREATED",
                "JoinedTimestamp": 1_700_000_000.0,
            })
        })
        .collect();
    let end = start + accounts.len();
    let mut answer = json!({ "Accounts": accounts });
    if end < organization.accounts.len() {
        answer["NextToken"] = json!(end.to_string());
    }
    Ok(answer)
}
