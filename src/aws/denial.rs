//! What AWS says of a missing permission, taken apart: pure.
//!
//! The forms are those of "Troubleshoot access denied error messages" (IAM User Guide):
//! `User: … is not authorized to perform: … on resource: … because no identity-based policy allows
//! the … action`, or `… with an explicit deny in a service control policy`.

/// Which policy AWS blames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blamed {
    /// The identity's own policies lack it.
    Identity,
    /// The policy of what is called lacks it: a role's trust policy, a queue's policy.
    Resource,
    /// Something above the account's own policies forbids it: an organization's policy, a
    /// permissions boundary, a session policy, a VPC endpoint's policy.
    Above,
    /// An explicit deny in one of the account's own policies.
    ExplicitDeny,
    /// It doesn't say.
    Unsaid,
}

/// A denial, as far as AWS tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// `ssm:DescribeInstancePatches`.
    pub action: Option<String>,
    /// An ARN, often with wildcards.
    pub resource: Option<String>,
    pub blamed: Blamed,
}

impl Denial {
    /// Reads AWS's message, or a text that contains it.
    #[must_use]
    pub fn read(message: &str) -> Self {
        Self {
            action: word_after(message, "perform: ").filter(|action| action.contains(':')),
            resource: word_after(message, "on resource: "),
            blamed: blamed(message),
        }
    }
}

fn word_after(text: &str, marker: &str) -> Option<String> {
    let (_, rest) = text.split_once(marker)?;
    let word = rest.split_whitespace().next()?;
    let word = word.trim_end_matches([',', ';', '.', '"']);
    (!word.is_empty()).then(|| word.to_string())
}

fn blamed(message: &str) -> Blamed {
    const ABOVE: [&str; 5] = [
        "service control policy",
        "resource control policy",
        "permissions boundary",
        "session policy",
        "VPC endpoint policy",
    ];
    if ABOVE.iter().any(|policy| message.contains(policy)) {
        Blamed::Above
    } else if message.contains("explicit deny") {
        Blamed::ExplicitDeny
    } else if message.contains("no identity-based policy") {
        Blamed::Identity
    } else if message.contains("no resource-based policy") || message.contains("trust policy") {
        Blamed::Resource
    } else {
        Blamed::Unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_resource_and_blame_are_read_from_the_message() {
        let message = "status 403 AccessDeniedException User: arn:aws:sts::1:assumed-role/r/s is \
                       not authorized to perform: ssm:DescribeInstancePatches on resource: \
                       arn:aws:ec2:us-east-1:1:instance/i-1 because no identity-based policy \
                       allows the ssm:DescribeInstancePatches action";
        assert_eq!(
            Denial::read(message),
            Denial {
                action: Some("ssm:DescribeInstancePatches".into()),
                resource: Some("arn:aws:ec2:us-east-1:1:instance/i-1".into()),
                blamed: Blamed::Identity,
            }
        );
    }

    #[test]
    fn whoever_stands_above_the_account_is_told_from_its_own_policies() {
        let said = |end: &str| {
            Denial::read(&format!("User: u is not authorized to perform: a:B on resource: r {end}"))
        };
        let blamed = |end: &str| said(end).blamed;
        assert_eq!(blamed("with an explicit deny in a service control policy"), Blamed::Above);
        assert_eq!(blamed("because no permissions boundary allows the a:B action"), Blamed::Above);
        assert_eq!(
            blamed("with an explicit deny in an identity-based policy"),
            Blamed::ExplicitDeny
        );
        assert_eq!(blamed("because no resource-based policy allows it"), Blamed::Resource);
        assert_eq!(said("with x").resource.as_deref(), Some("r"));
    }

    #[test]
    fn a_message_of_another_form_is_no_harm() {
        let nothing = Denial { action: None, resource: None, blamed: Blamed::Unsaid };
        for message in ["", "Access denied", "perform: ", "perform: nothing on resource: "] {
            assert_eq!(Denial::read(message), nothing);
        }
    }
}
