//! From what AWS answered to a line with advice: pure.

use super::report::{Item, Missing};
use crate::aws::{
    AwsError, Fault, HoldReason,
    denial::{Blamed, Denial},
    permissions::{Holder, Need, Statement, Target, statement_of},
};

/// The lane's credentials, as advice names them.
pub struct Identity<'a> {
    /// The role that is assumed; `None`: the daemon's own identity.
    pub role_arn: Option<&'a str>,
}

impl Identity<'_> {
    fn holder(&self, statement: &Statement) -> String {
        match (statement.holder, self.role_arn) {
            (Holder::Lane, Some(role)) => format!("role {role}"),
            (Holder::Runner, Some(role))
                if statement.target == Target::Queues || statement.need == Need::Discovery =>
            {
                format!("role {role}")
            }
            _ => "the daemon's own identity".to_string(),
        }
    }

    fn part(&self, statement: &Statement) -> &'static str {
        match (statement.holder, self.role_arn) {
            _ if statement.without.is_some() => "optional",
            (Holder::Lane, Some(_)) => "member",
            _ => "runner",
        }
    }
}

/// What came of trying `action`.
pub fn of_action(action: &str, tried: Result<String, AwsError>, identity: &Identity<'_>) -> Item {
    let error = match tried {
        Ok(text) => return Item::ok(action, text),
        Err(error) => error,
    };
    match &error.fault {
        Fault::Held { reason: HoldReason::AccessDenied, detail } => {
            denied(action, action, detail.as_str(), identity)
        }
        // Authorization comes before the service looks at what it is asked.
        Fault::Refused { code, .. } if is_about_the_request(code.as_str()) => {
            Item::ok(action, "allowed")
        }
        Fault::Refused { .. } => {
            let advice = "AWS understands the request and refuses it: tell patchferry's authors";
            Item::warn(action, error.fault.to_string(), advice)
        }
        Fault::Throttled { .. } => {
            let advice = "others use up the quota: check again when they are done";
            Item::warn(action, format!("not known: {}", error.fault), advice)
        }
        Fault::Held { reason, .. } => Item::fail(action, error.fault.to_string(), reason.advice()),
        Fault::Unavailable { .. } => Item::fail(action, error.fault.to_string(), OUT_OF_REACH),
    }
}

/// What came of asking whose the lane's credentials are.
pub fn of_identity(error: &AwsError, identity: &Identity<'_>) -> Item {
    const CHECK: &str = "identity";
    match &error.fault {
        // `GetCallerIdentity` itself needs no permission: this is the role's.
        Fault::Held { reason: HoldReason::AccessDenied, detail } if identity.role_arn.is_some() => {
            denied(CHECK, "sts:AssumeRole", detail.as_str(), identity)
        }
        Fault::Held { reason, .. } => Item::fail(CHECK, error.fault.to_string(), reason.advice()),
        Fault::Unavailable { .. } => Item::fail(CHECK, error.fault.to_string(), OUT_OF_REACH),
        fault => Item::fail(CHECK, fault.to_string(), "check again later"),
    }
}

const OUT_OF_REACH: &str = "check the network, DNS, `HTTPS_PROXY`, VPC endpoints and \
                            `AWS_ENDPOINT_URL` on the way to this service and Region";

fn is_about_the_request(code: &str) -> bool {
    code.starts_with("Invalid") || code.starts_with("ResourceNotFound")
}

fn denied(check: &str, tried: &str, said: &str, identity: &Identity<'_>) -> Item {
    let denial = Denial::read(said);
    let action = denial.action.clone().unwrap_or_else(|| tried.to_string());
    let statement = statement_of(&action).or_else(|| statement_of(tried));
    let Some(statement) = statement else {
        return Item::fail(check, said, "grant it: no statement of ours lists it");
    };
    let (holder, part) = (identity.holder(statement), identity.part(statement));
    let on = denial.resource.as_ref().map(|it| format!(" on {it}")).unwrap_or_default();
    let mut text = format!("{action} is denied{on}");
    if let Some(without) = statement.without {
        text = format!("{text}; {without}");
    }
    let advice = advice(&denial, &action, statement, &holder, part, identity);
    let mut item = match statement.without {
        Some(_) => Item::warn(check, text, advice),
        None => Item::fail(check, text, advice),
    };
    let (resource, sid) = (denial.resource, statement.sid.to_string());
    item.missing = Some(Missing { action, resource, sid, part, holder });
    item
}

fn advice(
    denial: &Denial,
    action: &str,
    statement: &Statement,
    holder: &str,
    part: &str,
    identity: &Identity<'_>,
) -> String {
    let sid = statement.sid;
    let grant = format!(
        "statement {sid} of the policy of {holder} must allow it: `patchferry iam-policy --part \
         {part}`"
    );
    let trust = || {
        let role = identity.role_arn.unwrap_or("the role");
        format!(
            "the trust policy of {role} must let the daemon in, with the external id configured: \
             `patchferry iam-policy --part trust`"
        )
    };
    match denial.blamed {
        Blamed::Above => format!(
            "what stands above the account forbids it (an organization's policy, a permissions \
             boundary, a session or endpoint policy): have {action} allowed there; {sid} of {holder} \
             may be right"
        ),
        Blamed::ExplicitDeny => {
            format!("an explicit Deny forbids {action} to {holder}: take it out; {grant}")
        }
        Blamed::Resource if statement.need == Need::Roles => trust(),
        Blamed::Unsaid if statement.need == Need::Roles => {
            format!("either {grant}; or the role isn't there, or {}", trust())
        }
        // An account that may not list at all is told no more than one whose policy forbids it.
        Blamed::Unsaid if statement.need == Need::Discovery => format!(
            "either {grant}; or its account is neither the organization's management account nor a \
             delegated administrator's: give `discovery.list_role_arn` in one that is"
        ),
        Blamed::Resource | Blamed::Identity | Blamed::Unsaid => grant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::check::Outcome;

    const ROLE: &str = "arn:aws:iam::444455556666:role/patchferry";

    fn error(detail: &str) -> AwsError {
        let (reason, detail) = (HoldReason::AccessDenied, detail.into());
        AwsError { operation: "X", lane: None, fault: Fault::Held { reason, detail } }
    }

    #[test]
    fn whose_policy_lacks_what_is_told_by_statement() {
        let said = "User: u is not authorized to perform: ssm:DescribeInstancePatches on resource: r \
                    because no identity-based policy allows the ssm:DescribeInstancePatches action";
        let by_role = Identity { role_arn: Some(ROLE) };
        let item = of_action("ssm:DescribeInstancePatches", Err(error(said)), &by_role);
        let missing = item.missing.unwrap();
        assert_eq!((missing.sid.as_str(), missing.part), ("ReadFleet", "member"));
        assert!(item.advice.unwrap().contains(ROLE));
        let own = Identity { role_arn: None };
        let item = of_action("ssm:DescribeInstancePatches", Err(error(said)), &own);
        assert_eq!(item.missing.unwrap().part, "runner");
    }

    #[test]
    fn what_patchferry_can_do_without_is_a_warning() {
        let own = Identity { role_arn: None };
        let item = of_action("securityhub:GetFindings", Err(error("AccessDenied")), &own);
        assert_eq!(item.outcome, Outcome::Warn);
        assert!(item.text.contains("lost store"), "{}", item.text);
        assert_eq!(item.missing.unwrap().sid, "ReadBack");
    }

    #[test]
    fn a_role_that_can_not_be_assumed_is_blamed_on_the_side_that_aws_names() {
        let by_role = Identity { role_arn: Some(ROLE) };
        let told = |end: &str| {
            let said = format!(
                "AssumeRole: status 403 AccessDenied User: u is not authorized to perform: \
                 sts:AssumeRole on resource: {ROLE}{end}"
            );
            of_identity(&error(&said), &by_role).advice.unwrap()
        };
        let runner = told(" because no identity-based policy allows the sts:AssumeRole action");
        assert!(runner.contains("EnterAccounts") && !runner.contains("trust"), "{runner}");
        let trust = told(" because no resource-based policy allows the sts:AssumeRole action");
        assert!(trust.contains("trust policy") && !trust.contains("EnterAccounts"), "{trust}");
        let unsaid = told("");
        assert!(unsaid.contains("trust policy") && unsaid.contains("EnterAccounts"), "{unsaid}");
        let above = told(" with an explicit deny in a service control policy");
        assert!(above.contains("organization"), "{above}");
    }
}
