//! Every action that patchferry needs, and why: the one table.
//!
//! Policies are printed from it, `patchferry check` tries what it lists and names its statements,
//! and a test holds it to the operations that this module's clients call.
//!
//! Deliberately doesn't know: accounts, ARNs, and how a policy is written.

/// Whose policy a statement stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// Whoever works in a lane's account: the role assumed there, or the daemon's own identity.
    Lane,
    /// The daemon's own identity.
    Runner,
}

/// When a statement is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    Always,
    /// `finding.identity = "node"`: what the hub holds is read back.
    OneFindingPerNode,
    /// What is non-compliant on a node is read item by item: for events, and for associations.
    Items,
    /// `ingest.associations`.
    Associations,
    /// `ingest.cloud_control`, where findings are resolved.
    CloudControl,
    /// For `patchferry check` only.
    Preflight,
    /// Lanes or queues with a role.
    Roles,
    /// Queues of events.
    Events,
    /// `[discovery]`, without a role of its own to list the accounts with.
    Discovery,
}

/// What the actions of a statement can be confined to, by AWS's action reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// No resource type, or one that confines nothing within an account.
    Anything,
    /// The product that findings are imported into.
    Product,
    Hub,
    /// The roles of the lanes and queues.
    Roles,
    /// The queues of events.
    Queues,
}

/// One statement of a policy.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    pub sid: &'static str,
    pub holder: Holder,
    pub need: Need,
    pub target: Target,
    /// With the service's prefix: `ssm:DescribeInstancePatches`.
    pub actions: &'static [&'static str],
    /// What it is for.
    pub why: &'static str,
    /// What happens without it; `None`: the lane doesn't work.
    pub without: Option<&'static str>,
}

/// All statements. `sts:GetCallerIdentity` isn't here: it needs no permission.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        sid: "ReadFleet",
        holder: Holder::Lane,
        need: Need::Always,
        target: Target::Anything,
        actions: &[
            "ssm:DescribeInstanceInformation",
            "ssm:DescribeInstancePatchStates",
            "ssm:DescribeInstancePatches",
            "ssm:ListResourceComplianceSummaries",
        ],
        why: "read which nodes there are and what they lack",
        without: None,
    },
    Statement {
        sid: "ReadItems",
        holder: Holder::Lane,
        need: Need::Items,
        target: Target::Anything,
        actions: &["ssm:ListComplianceItems"],
        why: "read what one node lacks, when an event or an association tells of it",
        without: None,
    },
    Statement {
        sid: "Import",
        holder: Holder::Lane,
        need: Need::Always,
        target: Target::Product,
        actions: &["securityhub:BatchImportFindings"],
        why: "deliver findings",
        without: None,
    },
    Statement {
        sid: "ReadBack",
        holder: Holder::Lane,
        need: Need::OneFindingPerNode,
        target: Target::Hub,
        actions: &["securityhub:GetFindings"],
        why: "read one's own findings, after the ledger was lost and to confirm doubtful deliveries",
        without: Some(
            "patchferry delivers, but can't take over what a lost store had sent, compare a hub with \
             what it was told, or see what people have resolved",
        ),
    },
    Statement {
        sid: "ReadAssociations",
        holder: Holder::Lane,
        need: Need::Associations,
        target: Target::Anything,
        actions: &["ssm:ListAssociations", "ssm:DescribeInstanceAssociationsStatus"],
        why: "read which associations scan for patches, and when they ran",
        without: Some("patchferry warns, and tells what patch states say"),
    },
    Statement {
        sid: "AskWhetherInstancesExist",
        holder: Holder::Lane,
        need: Need::CloudControl,
        target: Target::Anything,
        // What Cloud Control reads, it reads with the caller's permissions.
        actions: &["cloudformation:GetResource", "ec2:DescribeInstances"],
        why: "ask whether EC2 nodes that Systems Manager no longer lists still exist",
        without: Some("such a node counts as gone after `finding.gone_after`"),
    },
    Statement {
        sid: "Preflight",
        holder: Holder::Lane,
        need: Need::Preflight,
        target: Target::Hub,
        actions: &["securityhub:DescribeHub", "securityhub:ListEnabledProductsForImport"],
        why: "let `patchferry check` see whether the hub is on, and whether AWS's own integration is",
        without: Some("only `patchferry check` asks this: it can't see it"),
    },
    Statement {
        sid: "EnterAccounts",
        holder: Holder::Runner,
        need: Need::Roles,
        target: Target::Roles,
        actions: &["sts:AssumeRole"],
        why: "work in other accounts, by the roles there",
        without: None,
    },
    Statement {
        sid: "ReadEvents",
        holder: Holder::Runner,
        need: Need::Events,
        target: Target::Queues,
        actions: &[
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:ChangeMessageVisibility",
            "sqs:GetQueueAttributes",
        ],
        why: "take events, and let `patchferry check` see the queue",
        without: None,
    },
    Statement {
        sid: "DiscoverAccounts",
        holder: Holder::Runner,
        need: Need::Discovery,
        target: Target::Anything,
        actions: &["organizations:ListAccounts"],
        why: "list the organization's accounts",
        without: None,
    },
];

/// The statement that allows `action`.
#[must_use]
pub fn statement_of(action: &str) -> Option<&'static Statement> {
    STATEMENTS.iter().find(|statement| statement.actions.contains(&action))
}
