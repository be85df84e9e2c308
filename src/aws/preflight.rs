//! Asks a lane's hub, changing nothing: is it on, who else reports, would an import be allowed?
//!
//! # Why the probe of an import can't store anything
//! It sends one finding that lacks seven of the attributes that the Security Hub API Reference
//! requires (`SchemaVersion`, `Title`, `Description`, `Resources`, `Severity`, `Types`,
//! `CreatedAt`), while its `ProductArn` and `AwsAccountId`, by which AWS authorizes the call, are
//! the lane's. Authorization comes first, so a refusal of the finding proves the permission. Any one
//! of the seven would keep it out; should it get in all the same, that is told, with its Id.

use aws_sdk_securityhub::types::AwsSecurityFinding;

use super::{
    AwsError, Fault, HoldReason, SecurityHub, Unavailability,
    classify::{classify, is_not_subscribed},
};
use crate::record::Text;

/// The finding that is made to be refused.
pub const PROBE_ID: &str = "patchferry/check/made-to-be-refused";
/// Pages of `ListEnabledProductsForImport`; a hub has some hundred products at most.
const PRODUCT_PAGES_MAX: usize = 10;

/// What the probe of an import has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportProbe {
    /// The hub has refused the finding as invalid: it was allowed to look at it.
    Permitted,
    /// The hub has taken the finding: somebody has to archive [`PROBE_ID`].
    Stored,
}

impl SecurityHub {
    /// Whether the lane's credentials may import into `product_arn`. See the module.
    pub async fn probe_import(&self, product_arn: &str) -> Result<ImportProbe, AwsError> {
        const OPERATION: &str = "BatchImportFindings";
        let finding = AwsSecurityFinding::builder()
            .id(PROBE_ID)
            .product_arn(product_arn)
            .aws_account_id(self.lane.account.as_str())
            .build();
        let sent = self.client.batch_import_findings().findings(finding).send().await;
        let answer = match sent.map_err(|error| classify(&error)) {
            Ok(answer) => answer,
            Err(Fault::Refused { .. }) => return Ok(ImportProbe::Permitted),
            Err(fault) => return Err(self.failed(OPERATION, fault)),
        };
        if answer.success_count().unwrap_or(0) > 0 {
            return Ok(ImportProbe::Stored);
        }
        let Some(failed) = answer.failed_findings().first() else {
            let kind = Unavailability::BadBody;
            let detail = "the answer tells nothing of the finding that was sent".into();
            return Err(self.failed(OPERATION, Fault::Unavailable { kind, detail }));
        };
        let (code, message) =
            (failed.error_code().unwrap_or_default(), failed.error_message().unwrap_or_default());
        if code.starts_with("InvalidAccess") || is_not_subscribed(message) {
            let (reason, detail) = (HoldReason::HubOff, Text::truncated(message));
            return Err(self.failed(OPERATION, Fault::Held { reason, detail }));
        }
        Ok(ImportProbe::Permitted)
    }

    /// Since when the hub is on, in AWS's words. A hub that is off is a fault.
    pub async fn enabled_since(&self) -> Result<String, AwsError> {
        match self.client.describe_hub().send().await {
            Ok(answer) => Ok(answer.subscribed_at().unwrap_or("(not said)").to_owned()),
            Err(error) => Err(self.failed(
                "DescribeHub",
                match classify(&error) {
                    Fault::Refused { code, message, .. }
                        if code.as_str() == "ResourceNotFoundException" =>
                    {
                        let detail = Text::truncated(message.as_str());
                        Fault::Held { reason: HoldReason::HubOff, detail }
                    }
                    fault => fault,
                },
            )),
        }
    }

    /// The ARNs of the integrations that may send findings to this hub.
    pub async fn enabled_products(&self) -> Result<Vec<String>, AwsError> {
        let mut products = Vec::new();
        let mut from = None;
        for _ in 0..PRODUCT_PAGES_MAX {
            let answer = self
                .client
                .list_enabled_products_for_import()
                .max_results(100)
                .set_next_token(from)
                .send()
                .await
                .map_err(|error| self.failed("ListEnabledProductsForImport", classify(&error)))?;
            products.extend_from_slice(answer.product_subscriptions());
            from = answer.next_token().filter(|token| !token.is_empty()).map(ToOwned::to_owned);
            if from.is_none() {
                break;
            }
        }
        Ok(products)
    }
}
