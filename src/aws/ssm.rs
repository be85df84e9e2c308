//! Reads a lane's fleet from Systems Manager, a page at a time.
//!
//! Guarantees: every call ends within a minute; an answer is a [`Page`] of records or an
//! [`AwsError`]; nothing is tried again here: whoever asks has the lane's limiter, and
//! the SDK's own retries would go past it.
//!
//! Deliberately doesn't know: how fast to call, what has changed, and what a row means.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    types::{
        AssociationFilter, AssociationFilterKey, ComplianceQueryOperatorType,
        ComplianceStringFilter, InstanceInformationStringFilter, PatchOrchestratorFilter,
    },
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

use super::{
    AwsError, Fault, Page, Unavailability, classify::classify, connect::retry_partition,
    http::CONNECT_TIMEOUT, ssm_rows,
};
use crate::record::{
    Lane, NodeId, PatchDetail, Text, UnixMillis,
    observation::{ASSOCIATION_DOCUMENT, NodeInfo, RawCompliance, RawPatchState},
};

/// Rows of a page: the most that all operations take. (`DescribeInstancePatches` is modelled
/// up to 100, but the service has refused more than 50: flanksource/config-db#35.)
pub const PAGE_ROWS_MAX: u16 = 50;
/// Node ids of one `DescribeInstancePatchStates` call (SSM model, `InstanceIdList`).
pub const PATCH_STATE_NODES_MAX: usize = 50;

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// As live answers and the CLI's examples spell them.
const NON_COMPLIANT_STATES: [&str; 4] =
    ["Missing", "Failed", "InstalledRejected", "InstalledPendingReboot"];

/// A `ListResourceComplianceSummaries` row.
#[derive(Clone, Debug, PartialEq)]
pub struct ComplianceRow {
    /// As AWS gave it.
    pub node: Text<128>,
    pub compliance: RawCompliance,
}

/// A `DescribeInstanceInformation` row.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    /// As AWS gave it.
    pub node: Text<128>,
    pub info: NodeInfo,
}

/// A `DescribeInstancePatchStates` row.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchStateRow {
    /// As AWS gave it.
    pub node: Text<128>,
    pub state: RawPatchState,
}

/// A `ListComplianceItems` row of type `Patch` that makes its node non-compliant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRow {
    /// By the baseline's compliance level.
    pub severity: Text<32>,
    pub execution_id: Option<Text<100>>,
    pub execution_type: Option<Text<50>>,
    pub execution_time: Option<UnixMillis>,
}

/// A `ListAssociations` row whose document is `AWS-RunPatchBaselineAssociation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationRow {
    pub id: Text<64>,
    /// On whichever node.
    pub last_run: Option<UnixMillis>,
}

/// A `ListComplianceItems` row of type `Association`. It has a time, too, but that moves whenever
/// any association of the node runs (SSM model, `ComplianceItem.ExecutionSummary`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationItem {
    pub association: Text<64>,
    pub document: Option<Text<128>>,
    /// `COMPLIANT`, `NON_COMPLIANT` or nothing.
    pub status: Text<32>,
    pub severity: Text<32>,
    pub baseline: Option<Text<128>>,
}

/// A `DescribeInstanceAssociationsStatus` row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationRun {
    pub association: Text<64>,
    /// On this node.
    pub at: Option<UnixMillis>,
}

/// A `DescribeInstancePatches` row that makes its node non-compliant.
pub type PatchRow = PatchDetail;

/// One lane's SSM. Cheap to clone.
#[derive(Clone)]
pub struct Ssm {
    client: Client,
    lane: Arc<Lane>,
    /// AWS has called the filter of `patches` invalid. Then no later page may use it either: the
    /// token of an unfiltered page means nothing to a filtered one.
    filter_refused: Arc<AtomicBool>,
    /// The same, of `non_compliant_items`.
    item_filter_refused: Arc<AtomicBool>,
}

impl Ssm {
    pub(super) fn new(config: &SdkConfig, lane: Lane) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let config = aws_sdk_ssm::config::Builder::from(config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .retry_partition(retry_partition("ssm", &lane.to_string()))
            .build();
        Self {
            client: Client::from_conf(config),
            lane: Arc::new(lane),
            filter_refused: Arc::default(),
            item_filter_refused: Arc::default(),
        }
    }

    /// The service's own verdict on the patches of every node that has one.
    pub async fn compliance_summaries(
        &self,
        from: Option<String>,
    ) -> Result<Page<ComplianceRow>, AwsError> {
        self.summaries("Patch", from).await
    }

    /// The service's own verdict on the associations of every node that has any, whatever their
    /// documents.
    pub async fn association_summaries(
        &self,
        from: Option<String>,
    ) -> Result<Page<ComplianceRow>, AwsError> {
        self.summaries("Association", from).await
    }

    async fn summaries(
        &self,
        compliance_type: &str,
        from: Option<String>,
    ) -> Result<Page<ComplianceRow>, AwsError> {
        let answer = self
            .client
            .list_resource_compliance_summaries()
            .filters(of_type(compliance_type))
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("ListResourceComplianceSummaries", classify(&error)))?;
        let items = answer.resource_compliance_summary_items();
        Ok(page(items, ssm_rows::compliance_row, answer.next_token()))
    }

    /// The associations that scan for patches, of all nodes.
    pub async fn patch_associations(
        &self,
        from: Option<String>,
    ) -> Result<Page<AssociationRow>, AwsError> {
        let by_document = AssociationFilter::builder()
            .key(AssociationFilterKey::Name)
            .value(ASSOCIATION_DOCUMENT)
            .build()
            .expect("key and value are set");
        let answer = self
            .client
            .list_associations()
            .association_filter_list(by_document)
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("ListAssociations", classify(&error)))?;
        Ok(page(answer.associations(), ssm_rows::association_row, answer.next_token()))
    }

    /// What each association of a node has come to.
    pub async fn association_items(
        &self,
        node: &NodeId,
        from: Option<String>,
    ) -> Result<Page<AssociationItem>, AwsError> {
        let answer = self
            .client
            .list_compliance_items()
            .resource_ids(node.as_str())
            .resource_types("ManagedInstance")
            .filters(of_type("Association"))
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("ListComplianceItems", classify(&error)))?;
        Ok(page(answer.compliance_items(), ssm_rows::association_item, answer.next_token()))
    }

    /// When each association has really run on a node.
    pub async fn association_runs(
        &self,
        node: &NodeId,
        from: Option<String>,
    ) -> Result<Page<AssociationRun>, AwsError> {
        let answer = self
            .client
            .describe_instance_associations_status()
            .instance_id(node.as_str())
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("DescribeInstanceAssociationsStatus", classify(&error)))?;
        let items = answer.instance_association_status_infos();
        Ok(page(items, ssm_rows::association_run, answer.next_token()))
    }

    /// What each node is. Stopped and terminated nodes are absent.
    pub async fn node_information(&self, from: Option<String>) -> Result<Page<NodeRow>, AwsError> {
        let answer = self
            .client
            .describe_instance_information()
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("DescribeInstanceInformation", classify(&error)))?;
        let items = answer.instance_information_list();
        Ok(page(items, ssm_rows::node_row, answer.next_token()))
    }

    /// As [`Ssm::node_information`], of these nodes only: at most [`PAGE_ROWS_MAX`].
    pub async fn node_information_of(
        &self,
        nodes: &[NodeId],
        from: Option<String>,
    ) -> Result<Page<NodeRow>, AwsError> {
        debug_assert!(nodes.len() <= usize::from(PAGE_ROWS_MAX), "{} nodes", nodes.len());
        let ids = nodes.iter().map(ToString::to_string).collect();
        let by_id = InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .set_values(Some(ids))
            .build()
            .expect("a filter with a key and values is complete");
        let answer = self
            .client
            .describe_instance_information()
            .filters(by_id)
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("DescribeInstanceInformation", classify(&error)))?;
        let items = answer.instance_information_list();
        Ok(page(items, ssm_rows::node_row, answer.next_token()))
    }

    /// The items that make a node's patches non-compliant. AWS is asked for those only; if it calls
    /// that filter invalid, for all, and the others are dropped here: a page may then be empty and
    /// still have a successor.
    pub async fn non_compliant_items(
        &self,
        node: &NodeId,
        from: Option<String>,
    ) -> Result<Page<ItemRow>, AwsError> {
        let ask = |filtered| self.items_filtered(node, from.clone(), filtered);
        filtered_if_allowed(&self.item_filter_refused, ask).await
    }

    async fn items_filtered(
        &self,
        node: &NodeId,
        from: Option<String>,
        filtered: bool,
    ) -> Result<Page<ItemRow>, AwsError> {
        let mut filters = vec![of_type("Patch")];
        filters.extend(filtered.then(|| equals("Status", "NON_COMPLIANT")));
        let answer = self
            .client
            .list_compliance_items()
            .resource_ids(node.as_str())
            .resource_types("ManagedInstance")
            .set_filters(Some(filters))
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("ListComplianceItems", classify(&error)))?;
        Ok(page(answer.compliance_items(), ssm_rows::item_row, answer.next_token()))
    }

    /// The patch states of at most [`PATCH_STATE_NODES_MAX`] nodes.
    ///
    /// The SDK can't read an answer in which one node lacks its `Operation`. Such a page is read
    /// again in halves, and the node that does it comes back as a row with nothing in it, so that
    /// one bad row costs neither its page nor its sweep.
    pub async fn patch_states(
        &self,
        nodes: &[NodeId],
        from: Option<String>,
    ) -> Result<Page<PatchStateRow>, AwsError> {
        let first = from.is_none();
        match self.patch_states_page(nodes, from).await {
            Err(error) if first && lacks_operation(&error.fault) => {
                self.patch_states_in_parts(nodes).await
            }
            answer => answer,
        }
    }

    async fn patch_states_in_parts(
        &self,
        nodes: &[NodeId],
    ) -> Result<Page<PatchStateRow>, AwsError> {
        let mut rows = Vec::with_capacity(nodes.len());
        let mut parts = vec![nodes];
        while let Some(part) = parts.pop() {
            let mut from = None;
            loop {
                match self.patch_states_page(part, from).await {
                    Ok(page) => {
                        rows.extend(page.items);
                        from = page.next;
                    }
                    Err(error) if lacks_operation(&error.fault) => {
                        if let [node] = part {
                            let (node, state) = (node.as_str().into(), RawPatchState::default());
                            rows.push(PatchStateRow { node, state });
                        } else {
                            let (left, right) = part.split_at(part.len() / 2);
                            parts.extend([left, right]);
                        }
                        break;
                    }
                    Err(error) => return Err(error),
                }
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(Page { items: rows, next: None })
    }

    async fn patch_states_page(
        &self,
        nodes: &[NodeId],
        from: Option<String>,
    ) -> Result<Page<PatchStateRow>, AwsError> {
        debug_assert!(nodes.len() <= PATCH_STATE_NODES_MAX, "{} nodes in one call", nodes.len());
        let ids = nodes.iter().map(ToString::to_string).collect();
        let answer = self
            .client
            .describe_instance_patch_states()
            .set_instance_ids(Some(ids))
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("DescribeInstancePatchStates", classify(&error)))?;
        Ok(page(answer.instance_patch_states(), ssm_rows::patch_state_row, answer.next_token()))
    }

    /// The patches that make a node non-compliant. AWS is asked for those states only; if it
    /// calls that filter invalid, for all, and the others are dropped here: a page may then be
    /// empty and still have a successor.
    pub async fn patches(
        &self,
        node: &NodeId,
        from: Option<String>,
    ) -> Result<Page<PatchRow>, AwsError> {
        let ask = |filtered| self.patches_filtered(node, from.clone(), filtered);
        filtered_if_allowed(&self.filter_refused, ask).await
    }

    async fn patches_filtered(
        &self,
        node: &NodeId,
        from: Option<String>,
        filtered: bool,
    ) -> Result<Page<PatchRow>, AwsError> {
        let filter = filtered.then(|| {
            let values = NON_COMPLIANT_STATES.iter().map(ToString::to_string).collect();
            vec![PatchOrchestratorFilter::builder().key("State").set_values(Some(values)).build()]
        });
        let answer = self
            .client
            .describe_instance_patches()
            .instance_id(node.as_str())
            .set_filters(filter)
            .max_results(i32::from(PAGE_ROWS_MAX))
            .set_next_token(from)
            .send()
            .await
            .map_err(|error| self.failed("DescribeInstancePatches", classify(&error)))?;
        Ok(page(answer.patches(), ssm_rows::patch_row, answer.next_token()))
    }

    fn failed(&self, operation: &'static str, fault: Fault) -> AwsError {
        AwsError { operation, lane: Some(Lane::clone(&self.lane)), fault }
    }
}

impl fmt::Debug for Ssm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssm").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// Asks with a filter until AWS has once called it invalid, and without it from then on.
async fn filtered_if_allowed<T, F>(
    refused: &AtomicBool,
    ask: impl Fn(bool) -> F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let filtered = !refused.load(Ordering::Relaxed);
    match ask(filtered).await {
        Err(AwsError { fault: Fault::Refused { code, .. }, .. })
            if filtered && code.as_str() == "InvalidFilter" =>
        {
            refused.store(true, Ordering::Relaxed);
            ask(false).await
        }
        answer => answer,
    }
}

/// The SDK's words for a missing required member (`InstancePatchStateBuilder::build`).
fn lacks_operation(fault: &Fault) -> bool {
    matches!(fault, Fault::Unavailable { kind: Unavailability::BadBody, detail }
        if detail.as_str().contains("operation was not specified"))
}

fn equals(key: &str, value: &str) -> ComplianceStringFilter {
    ComplianceStringFilter::builder()
        .key(key)
        .values(value)
        .r#type(ComplianceQueryOperatorType::Equal)
        .build()
}

fn of_type(compliance_type: &str) -> ComplianceStringFilter {
    equals("ComplianceType", compliance_type)
}

fn page<S, R>(items: &[S], row: impl Fn(&S) -> Option<R>, next: Option<&str>) -> Page<R> {
    Page {
        items: items.iter().filter_map(row).collect(),
        next: next.filter(|token| !token.is_empty()).map(ToOwned::to_owned),
    }
}
