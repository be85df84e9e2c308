//! Accuracy, formatting and compliance of an observation: pure judgement, and the stage around
//! it.
//!
//! | check | if not |
//! |---|---|
//! | the node id has the form of one | dead: `invalid_node_id` |
//! | no count is negative | dead: `negative_count` |
//! | the operation is Scan or Install | dead: `unknown_operation` |
//! | no time is before 2000 | dead: `invalid_time` |
//! | no time is after the read | clamped to the read, counted |
//! | the service's verdict is one | dead: `unknown_status` |
//! | the counts agree with the service's verdict | the verdict wins, counted |
//! | there is a verdict or counts at all | dead: `no_verdict` |
//!
//! A panic on one item buries that item. Deliberately doesn't know what the hub holds.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::stage;
use crate::{
    failpoint::{self, FailPoint},
    metrics::{Correction, Metrics},
    queue::{Accepted, ClaimedPage, Damaged, Death, QueueError, Queues, Validated},
    record::{
        Assessment, Facts, NodeId, Observation, PatchCounts, Reason, Severity, Stage, Text,
        UnixMillis, Verdict,
        assessment::Compliance,
        dead_letter::DeadItem,
        observation::{
            ASSOCIATION_DOCUMENT, BASELINE_DOCUMENT, RawCompliance, RawPatchState, SeverityCounts,
        },
    },
};

/// 2000-01-01T00:00:00Z: SSM is younger; earlier times are Windows' zero dates and the like.
const EARLIEST: UnixMillis = UnixMillis(946_684_800_000);

/// What a patch of unspecified severity is worth: most baselines leave it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnspecifiedSeverity {
    /// Any critical patch missing: HIGH; any security patch: MEDIUM; else LOW.
    Counts,
    /// Always this label. AWS's own integration says INFORMATIONAL.
    Fixed(Severity),
}

/// What was put right on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    pub times_clamped: u32,
    pub verdict_disagreed: bool,
}

/// Why an observation is no assessment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub message: String,
}

fn refuse<T>(reason: Reason, message: String) -> Result<T, Refusal> {
    Err(Refusal { reason, message })
}

/// Judges one observation.
pub fn assess(
    accepted: &Accepted,
    unspecified: UnspecifiedSeverity,
) -> Result<(Assessment, Corrections), Refusal> {
    let observation = &accepted.observation;
    let mut corrections = Corrections::default();
    let node: NodeId = observation.node.as_str().parse().or_else(|error| {
        refuse(Reason::InvalidNodeId, format!("SSM named a node that is none: {error}"))
    })?;
    let facts = facts(observation, &mut corrections)?;
    let verdict = verdict(observation, &facts, unspecified, &mut corrections)?;
    let assessment = Assessment {
        node,
        read: observation.read,
        read_at: observation.read_at,
        accepted_at: accepted.at,
        source: observation.source,
        verdict,
        facts,
    };
    Ok((assessment, corrections))
}

fn facts(observation: &Observation, corrections: &mut Corrections) -> Result<Facts, Refusal> {
    let read_at = observation.read_at;
    let mut facts = Facts {
        node_info: observation.node_info.clone(),
        patches: observation.patches.clone(),
        ..Facts::default()
    };
    facts.document = document(observation).map(Text::truncated);
    if let Some(raw) = &observation.compliance {
        facts.compliance = Some(compliance(raw, read_at, corrections)?);
    }
    let Some(raw) = &observation.patch_state else { return Ok(facts) };
    facts.counts = counts(raw)?;
    facts.baseline = Text::non_blank(raw.baseline.as_str());
    facts.patch_group = Text::non_blank(raw.patch_group.as_str());
    facts.snapshot.clone_from(&raw.snapshot);
    facts.operation = operation(raw)?;
    facts.operation_start = time("operation start", raw.operation_start, read_at, corrections)?;
    facts.operation_end = time("operation end", raw.operation_end, read_at, corrections)?;
    facts.reboot_option.clone_from(&raw.reboot_option);
    Ok(facts)
}

/// The document that has found what is told, if anything is.
fn document(observation: &Observation) -> Option<&'static str> {
    if observation.is_by_association() {
        return Some(ASSOCIATION_DOCUMENT);
    }
    let is_told = observation.compliance.is_some() || observation.patch_state.is_some();
    is_told.then_some(BASELINE_DOCUMENT)
}

fn operation(raw: &RawPatchState) -> Result<Option<Text<32>>, Refusal> {
    match raw.operation.as_str() {
        "" => Ok(None),
        "Scan" | "Install" => Ok(Some(raw.operation.clone())),
        other => refuse(
            Reason::UnknownOperation,
            format!("the patch operation is `{other}`, neither Scan nor Install"),
        ),
    }
}

fn time(
    what: &str,
    given: Option<UnixMillis>,
    read_at: UnixMillis,
    corrections: &mut Corrections,
) -> Result<Option<UnixMillis>, Refusal> {
    match given {
        Some(at) if at < EARLIEST => {
            refuse(Reason::InvalidTime, format!("the {what} is {} ms since 1970", at.0))
        }
        Some(at) if at > read_at => {
            corrections.times_clamped += 1;
            Ok(Some(read_at))
        }
        given => Ok(given),
    }
}

fn count(what: &str, given: i32) -> Result<u32, Refusal> {
    u32::try_from(given).or_else(|_| {
        refuse(Reason::NegativeCount, format!("the count of {what} patches is {given}"))
    })
}

fn counts(raw: &RawPatchState) -> Result<PatchCounts, Refusal> {
    Ok(PatchCounts {
        installed: count("installed", raw.installed)?,
        installed_other: count("installed other", raw.installed_other)?,
        installed_pending_reboot: count("installed pending reboot", raw.installed_pending_reboot)?,
        installed_rejected: count("installed rejected", raw.installed_rejected)?,
        missing: count("missing", raw.missing)?,
        failed: count("failed", raw.failed)?,
        not_applicable: count("not applicable", raw.not_applicable)?,
        unreported_not_applicable: count(
            "unreported not applicable",
            raw.unreported_not_applicable,
        )?,
        available_security_update: count(
            "available security update",
            raw.available_security_update,
        )?,
        critical_non_compliant: count("critical non-compliant", raw.critical_non_compliant)?,
        security_non_compliant: count("security non-compliant", raw.security_non_compliant)?,
        other_non_compliant: count("other non-compliant", raw.other_non_compliant)?,
    })
}

fn severity_counts(counts: &SeverityCounts) -> Result<[u32; 6], Refusal> {
    let mut checked = [0; 6];
    for (checked, given) in checked.iter_mut().zip(counts.as_array()) {
        *checked = count("compliance summary", given)?;
    }
    Ok(checked)
}

fn compliance(
    raw: &RawCompliance,
    read_at: UnixMillis,
    corrections: &mut Corrections,
) -> Result<Compliance, Refusal> {
    let non_compliant = match raw.status.as_str() {
        "NON_COMPLIANT" => true,
        "COMPLIANT" => false,
        other => {
            return refuse(
                Reason::UnknownStatus,
                format!("the service's verdict is `{other}`, neither COMPLIANT nor NON_COMPLIANT"),
            );
        }
    };
    Ok(Compliance {
        non_compliant,
        overall_severity: Text::non_blank(raw.overall_severity.as_str()),
        execution_id: raw.execution_id.clone(),
        execution_type: raw.execution_type.clone(),
        execution_time: time("execution time", raw.execution_time, read_at, corrections)?,
        compliant_counts: severity_counts(&raw.compliant)?,
        non_compliant_counts: severity_counts(&raw.non_compliant)?,
    })
}

fn verdict(
    observation: &Observation,
    facts: &Facts,
    unspecified: UnspecifiedSeverity,
    corrections: &mut Corrections,
) -> Result<Verdict, Refusal> {
    if let Some(reason) = observation.gone {
        return Ok(Verdict::Gone(reason));
    }
    // An association tells no counts.
    let counted = observation.patch_state.as_ref().filter(|_| !observation.is_by_association());
    let by_counts = counted.map(RawPatchState::counts_problems);
    let by_service = facts.compliance.as_ref().map(|compliance| compliance.non_compliant);
    let non_compliant = match (by_service, by_counts) {
        (Some(service), Some(counts)) => {
            corrections.verdict_disagreed = service != counts;
            service
        }
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => {
            return refuse(
                Reason::NoVerdict,
                "SSM gave neither a compliance summary nor a patch state".into(),
            );
        }
    };
    if !non_compliant {
        return Ok(Verdict::Compliant);
    }
    Ok(Verdict::NonCompliant(severity(facts, unspecified)))
}

/// The most severe non-compliant patch by the baseline's compliance level.
fn severity(facts: &Facts, unspecified: UnspecifiedSeverity) -> Severity {
    if let Some(compliance) = &facts.compliance {
        let specified = Severity::ALL
            .into_iter()
            .zip(compliance.non_compliant_counts)
            .find(|(_, count)| *count > 0);
        if let Some((severity, _)) = specified {
            return severity;
        }
    }
    match unspecified {
        UnspecifiedSeverity::Fixed(severity) => severity,
        UnspecifiedSeverity::Counts if facts.counts.critical_non_compliant > 0 => Severity::High,
        UnspecifiedSeverity::Counts if facts.counts.security_non_compliant > 0 => Severity::Medium,
        UnspecifiedSeverity::Counts => Severity::Low,
    }
}

/// The stage: pages of observations in, pages of assessments and dead letters out.
pub struct Validate {
    pub queues: Queues,
    pub metrics: Arc<Metrics>,
    pub unspecified: UnspecifiedSeverity,
}

impl Validate {
    pub async fn run(
        self,
        shutdown: tokio_util::sync::CancellationToken,
    ) -> Result<(), QueueError> {
        let queues = self.queues.clone();
        stage::run(self, queues.observed_signal(), shutdown).await
    }

    fn page(&self, page: &ClaimedPage<Accepted>) -> Validated {
        let mut out = Validated::default();
        match &page.items {
            Ok(items) => items.iter().for_each(|item| self.item(item, &mut out)),
            Err(damaged) => out.deaths.push(undecodable(page, damaged)),
        }
        out
    }

    fn item(&self, accepted: &Accepted, out: &mut Validated) {
        let judged = catch_unwind(AssertUnwindSafe(|| assess(accepted, self.unspecified)));
        let refusal = match judged {
            Ok(Ok((assessment, corrections))) => {
                let counted = &self.metrics.corrections;
                counted[Correction::FutureTime].increment(u64::from(corrections.times_clamped));
                counted[Correction::CountsOverruled]
                    .increment(u64::from(corrections.verdict_disagreed));
                out.assessments.push(assessment);
                return;
            }
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal {
                reason: Reason::Panicked,
                message: "validate panicked on this observation: please report it".into(),
            },
        };
        out.deaths.push(Death {
            node: accepted.observation.node.clone(),
            stage: Stage::Validate,
            reason: refusal.reason,
            message: Text::truncated(&refusal.message),
            item: DeadItem::Observation {
                accepted_at: accepted.at,
                observation: Box::new(accepted.observation.clone()),
            },
            count: 1,
        });
    }
}

fn undecodable(page: &ClaimedPage<Accepted>, damaged: &Damaged) -> Death {
    let name = format!("(page {:08x})", crc32fast::hash(page.key.as_bytes()));
    let message = damaged.error.to_string();
    Death::undecodable(&name, Stage::Validate, &message, &damaged.bytes, page.count)
}

impl stage::Stage for Validate {
    async fn turn(&mut self) -> Result<bool, QueueError> {
        let pages = self.queues.claim_observed(stage::CLAIM_PAGES_MAX).await?;
        if pages.is_empty() {
            return Ok(false);
        }
        let began = std::time::Instant::now();
        let validated = pages
            .into_iter()
            .map(|page| {
                let out = self.page(&page);
                (page, out)
            })
            .collect();
        failpoint::reach(FailPoint::ValidateBeforeSettle);
        self.queues.settle_observed(validated).await?;
        self.metrics.stage_seconds[Stage::Validate].record(began.elapsed().as_secs_f64());
        Ok(true)
    }
}
