//! The organization: whether its accounts may be listed. Those are the lanes that are checked, or, if
//! they can't be had, those of the last list.

use std::collections::BTreeSet;

use tokio::time::{Instant, timeout_at};

use super::{
    super::discovery,
    report::Item,
    verdict::{self, Identity},
};
use crate::{
    aws::Aws,
    config::{Config, DiscoveryConfig, LaneConfig},
    record::AccountId,
};

/// The one action that is tried.
const ACTION: &str = "organizations:ListAccounts";

/// `None` without `[discovery]`.
pub async fn check(
    aws: &Aws,
    config: &Config,
    deadline: Instant,
) -> Option<(Item, Vec<LaneConfig>)> {
    let discovery = config.discovery.as_ref()?;
    let (item, listed) =
        timeout_at(deadline, Box::pin(list(aws, discovery))).await.unwrap_or_else(|_elapsed| {
            let advice = "give more time with --timeout";
            (Item::fail(ACTION, "not checked to its end in the time given", advice), None)
        });
    let last = || discovery::last_list(config).map(|known| known.accounts);
    let accounts = listed.or_else(last).unwrap_or_default();
    Some((item, discovery::all_lanes(config, &accounts)))
}

async fn list(aws: &Aws, discovery: &DiscoveryConfig) -> (Item, Option<BTreeSet<AccountId>>) {
    let identity =
        Identity { role_arn: discovery.list_role.as_ref().map(|role| role.arn.as_str()) };
    match discovery::list(aws, discovery).await {
        Ok(accounts) => {
            let text = format!("{} active accounts", accounts.len());
            (verdict::of_action(ACTION, Ok(text), &identity), Some(accounts.into_iter().collect()))
        }
        Err(error) => (verdict::of_action(ACTION, Err(error), &identity), None),
    }
}
