//! `[[sqs]]`: the queues that `EventBridge` puts events in, and the role to assume for each.
//!
//! Guarantees of a list of queues that comes out of here: every URL is one of a queue, none is there
//! twice, all are in the partition of the lanes if these are configured, at most [`QUEUES_MAX`].
//!
//! Deliberately doesn't know: whether the queues exist or may be read.

use std::collections::HashMap;

use super::{
    error::{Fault, Origin, Problem},
    file::{ListEntry, expect_text},
    roles::{self, ExternalId, Role},
    rules::{Raw, shortened},
};
use crate::record::{AccountId, Partition, Region};

/// One for each Region, and room.
pub const QUEUES_MAX: usize = 100;

/// SQS: 80 characters of `[\w-]`, and `.fifo`.
const NAME_CHARS_MAX: usize = 80;

/// One queue as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub url: String,
    /// The queue's owner, by its URL.
    pub account: AccountId,
    pub region: Region,
    /// `None`: the daemon's own credentials.
    pub role: Option<Role>,
}

impl QueueConfig {
    /// The last part of the URL.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }

    #[must_use]
    pub fn arn(&self) -> String {
        let Self { account, region, .. } = self;
        format!("arn:{}:sqs:{region}:{account}:{}", region.partition(), self.name())
    }
}

/// Checks each entry, then all of them together; `partition` is that of the lanes, if it is known.
pub(super) fn read(
    entries: &[ListEntry],
    partition: Option<Partition>,
    problems: &mut Vec<Problem>,
) -> Vec<QueueConfig> {
    let mut reader = Reader { problems, partition, queues: Vec::new(), seen: HashMap::new() };
    for entry in entries {
        reader.entry(entry);
    }
    reader.queues
}

struct Reader<'a> {
    problems: &'a mut Vec<Problem>,
    /// Of the lanes, or else of the first queue.
    partition: Option<Partition>,
    queues: Vec<QueueConfig>,
    seen: HashMap<String, Origin>,
}

impl Reader<'_> {
    fn entry(&mut self, entry: &ListEntry) {
        match self.queue(entry) {
            Ok(queue) => {
                self.partition.get_or_insert(queue.region.partition());
                self.seen.insert(queue.url.clone(), entry.origin.clone());
                self.queues.push(queue);
            }
            Err((origin, fault)) => self.problems.push(Problem { origin, fault }),
        }
    }

    fn queue(&self, entry: &ListEntry) -> Result<QueueConfig, (Origin, Fault)> {
        let at_entry =
            |reason: String| (entry.origin.clone(), Fault::Invalid { key: "sqs".into(), reason });
        let Some(setting) = entry.settings.get("sqs.url") else {
            let reason = "missing from this `[[sqs]]`".into();
            let fault = Fault::Invalid { key: "sqs.url".into(), reason };
            return Err((entry.origin.clone(), fault));
        };
        let url = expect_text("sqs.url", setting)
            .and_then(QueueUrl::parse)
            .map_err(|fault| (setting.origin.clone(), fault))?;
        let region = region(entry, &url)?;
        let role = role(entry, url.account, &region)?;
        if let Some(first) = self.seen.get(&url.text) {
            return Err(at_entry(format!("queue {} is already given at {first}", url.text)));
        }
        if let Some(partition) = self.partition.filter(|it| *it != region.partition()) {
            return Err(at_entry(format!(
                "queue {} is in partition {}, the lanes in {partition}: credentials never cross \
                 partitions, so run one daemon for each",
                shortened(&url.text),
                region.partition()
            )));
        }
        if self.queues.len() == QUEUES_MAX {
            return Err(at_entry(format!(
                "more than {QUEUES_MAX} queues: one per Region is meant"
            )));
        }
        Ok(QueueConfig { url: url.text, account: url.account, region, role })
    }
}

/// A queue's URL, taken apart.
struct QueueUrl {
    text: String,
    account: AccountId,
    /// As far as the host tells.
    region: Option<Region>,
}

impl QueueUrl {
    fn parse(text: &str) -> Result<Self, Fault> {
        let invalid = || Fault::Invalid {
            key: "sqs.url".into(),
            reason: format!(
                "`{}` is not a queue's URL: expected https://sqs.<region>.amazonaws.com/<account>/<name>",
                shortened(text)
            ),
        };
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let (host, path) = rest.and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
        let is_plain = !host.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let mut parts = path.rsplit('/');
        let (name, account) = (parts.next().unwrap_or_default(), parts.next());
        let plain_name = name.strip_suffix(".fifo").unwrap_or(name);
        let is_name = !plain_name.is_empty()
            && name.len() <= NAME_CHARS_MAX
            && plain_name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let account = account.and_then(|account| account.parse().ok());
        match account {
            Some(account) if is_plain && is_name && !host.contains('@') => {
                Ok(Self { text: text.to_string(), account, region: region_of(host) })
            }
            _ => Err(invalid()),
        }
    }
}

/// `sqs.us-east-1.amazonaws.com`, `sqs-fips.…`, `us-east-1.queue.amazonaws.com`, or the name of an
/// interface endpoint: whichever part is a Region's name.
fn region_of(host: &str) -> Option<Region> {
    let host = host.split(':').next().unwrap_or(host);
    let is_aws = host.contains(".amazonaws.")
        || host.contains(".api.aws")
        || host.contains(".sc2s.")
        || host.contains(".c2s.")
        || host.contains(".amazonaws-eusc.");
    if !is_aws {
        return None;
    }
    host.split('.').find_map(|part| part.parse().ok())
}

fn region(entry: &ListEntry, url: &QueueUrl) -> Result<Region, (Origin, Fault)> {
    let key = "sqs.region";
    let Some(setting) = entry.settings.get(key) else {
        return url.region.clone().ok_or_else(|| {
            let reason = "missing: the host of this queue's URL doesn't tell its Region".into();
            (entry.origin.clone(), Fault::Invalid { key: key.into(), reason })
        });
    };
    let at = |fault| (setting.origin.clone(), fault);
    let text = expect_text(key, setting).map_err(at)?;
    let given: Region =
        shortened(text).parse().map_err(|reason| at(Fault::Id { key: key.into(), reason }))?;
    match &url.region {
        Some(told) if *told != given => Err(at(Fault::Invalid {
            key: key.into(),
            reason: format!("is {given}, but the queue's URL says {told}"),
        })),
        _ => Ok(given),
    }
}

fn role(
    entry: &ListEntry,
    account: AccountId,
    region: &Region,
) -> Result<Option<Role>, (Origin, Fault)> {
    let key = "sqs.role_arn";
    let external_id = entry.settings.get("sqs.external_id");
    let Some(setting) = entry.settings.get(key) else {
        return match external_id {
            None => Ok(None),
            Some(setting) => {
                let reason = "has no meaning without `sqs.role_arn`".into();
                let fault = Fault::Invalid { key: "sqs.external_id".into(), reason };
                Err((setting.origin.clone(), fault))
            }
        };
    };
    let external_id = external_id
        .map(|setting| {
            let key = "sqs.external_id".into();
            let parsed = match &setting.raw {
                Raw::String(text) => ExternalId::parse(text),
                // Never repeated in a message.
                _ => Err(ExternalId::EXPECTED.into()),
            };
            parsed.map_err(|reason| (setting.origin.clone(), Fault::Invalid { key, reason }))
        })
        .transpose()?;
    let at = |fault| (setting.origin.clone(), fault);
    let arn = expect_text(key, setting).map_err(at)?;
    let wrong = |reason| Err(at(Fault::Invalid { key: key.into(), reason }));
    match roles::owner(arn) {
        None => wrong(format!(
            "`{}` is not a role: expected arn:<partition>:iam::<account>:role/<name>",
            shortened(arn)
        )),
        Some(owner) if owner != account => wrong(format!(
            "`{}` is a role of account {owner}, but the queue's account is {account}",
            shortened(arn)
        )),
        Some(_) if arn.split(':').nth(1) != Some(region.partition().as_str()) => wrong(format!(
            "{} is not in partition {} of the queue",
            shortened(arn),
            region.partition()
        )),
        Some(_) => Ok(Some(Role { arn: arn.to_string(), external_id })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_tells_the_region_if_it_is_one_of_aws() {
        for (host, region) in [
            ("sqs.us-east-1.amazonaws.com", Some("us-east-1")),
            ("sqs-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("eu-west-1.queue.amazonaws.com", Some("eu-west-1")),
            ("vpce-1.sqs.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("sqs.eu-west-1.api.aws", Some("eu-west-1")),
            ("queue.amazonaws.com", None),
            ("localhost:4566", None),
            ("us-east-1.example.com", None),
        ] {
            assert_eq!(region_of(host).map(|it| it.to_string()).as_deref(), region, "{host}");
        }
    }

    #[test]
    fn only_a_queue_s_url_is_one() {
        for (text, is_one) in [
            ("https://sqs.us-east-1.amazonaws.com/111122223333/events", true),
            ("http://127.0.0.1:4566/111122223333/events_2", true),
            ("http://127.0.0.1:4566/queue/111122223333/events.fifo", true),
            ("https://sqs.us-east-1.amazonaws.com/events", false),
            ("https://sqs.us-east-1.amazonaws.com/11112222333/events", false),
            ("https://sqs.us-east-1.amazonaws.com/111122223333/", false),
            ("https://u:p@sqs.us-east-1.amazonaws.com/111122223333/events", false),
            ("arn:aws:sqs:us-east-1:111122223333:events", false),
            ("ftp://sqs/111122223333/events", false),
            ("https://", false),
        ] {
            assert_eq!(QueueUrl::parse(text).is_ok(), is_one, "{text}");
        }
    }
}
