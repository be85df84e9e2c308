//! The patches of a finding: as a list and line by line for people, and as vulnerabilities for
//! machines. Each has its limit, and says what it leaves out; the most severe come first.

use std::{collections::BTreeSet, fmt::Write as _};

use aws_sdk_securityhub::types::{
    SoftwarePackage, Vulnerability, VulnerabilityFixAvailable, VulnerabilityVendor,
};

use super::limits::{Meter, Pairs};
use crate::record::{
    PatchDetail, Text,
    observation::{CVES_KEPT_MAX, NodeInfo, PatchState},
};

/// `ProductFields` values: up to 2,048 characters (Security Hub model).
pub(super) const LIST_CHARS_MAX: usize = 2048;
/// Room for ` +4294967295 more` at the end of a list.
const MORE_CHARS_MAX: usize = 17;

/// The fields of the patches that have a line of their own: of `ProductFields`' 50 pairs, what a
/// person reads.
const LINE_FIELDS: [&str; 20] = [
    "patchferry/patch-01",
    "patchferry/patch-02",
    "patchferry/patch-03",
    "patchferry/patch-04",
    "patchferry/patch-05",
    "patchferry/patch-06",
    "patchferry/patch-07",
    "patchferry/patch-08",
    "patchferry/patch-09",
    "patchferry/patch-10",
    "patchferry/patch-11",
    "patchferry/patch-12",
    "patchferry/patch-13",
    "patchferry/patch-14",
    "patchferry/patch-15",
    "patchferry/patch-16",
    "patchferry/patch-17",
    "patchferry/patch-18",
    "patchferry/patch-19",
    "patchferry/patch-20",
];
/// Of one line: twenty of them stay below 40 KB.
const LINE_CHARS_MAX: usize = 400;
/// CVE ids in one line.
const LINE_CVES_MAX: usize = 6;

/// ASFF names no limit of its own; a finding is a summary, and AWS takes 240 KB of it.
const VULNERABILITIES_MAX: usize = 50;
const _: () = assert!(
    VULNERABILITIES_MAX < CVES_KEPT_MAX,
    "what isn't kept of a patch has to be among what is said to be left out"
);
const PACKAGES_MAX: usize = 8;
const RELATED_MAX: usize = 8;
/// A vulnerability that begins within this budget may end beyond it, by at most one's size.
const VULNERABILITIES_BYTES_MAX: usize = 112 * 1024;
/// Braces, brackets and `FixAvailable`.
const VULNERABILITY_FRAME_BYTES: usize = 100;

/// The most severe first, else as they came.
pub(super) fn most_severe_first(details: &[PatchDetail]) -> Vec<&PatchDetail> {
    let mut sorted: Vec<&PatchDetail> = details.iter().collect();
    sorted.sort_by_key(|patch| patch.rank());
    sorted
}

/// A line for each of the first patches.
pub(super) fn put_lines(
    details: &[&PatchDetail],
    fields: &mut Pairs<LIST_CHARS_MAX>,
    meter: &mut Meter,
) {
    for (field, patch) in LINE_FIELDS.into_iter().zip(details) {
        let line = Text::<LINE_CHARS_MAX>::truncated(&line(patch));
        fields.put_given(meter, field, Some(&line));
    }
}

/// `KB1: its title; Security; Critical; missing; CVE-1, CVE-2 +1 more`, without what isn't known.
fn line(patch: &PatchDetail) -> String {
    let mut text = name(patch).to_owned();
    if !patch.title.is_blank() && !patch.kb.is_blank() {
        text.push_str(": ");
        text.push_str(patch.title.as_str());
    }
    let known = [patch.classification.as_str(), patch.severity.as_str(), state(patch.state)];
    for known in known.into_iter().filter(|it| !it.trim().is_empty()) {
        text.push_str("; ");
        text.push_str(known);
    }
    for (number, cve) in patch.cves.iter().take(LINE_CVES_MAX).enumerate() {
        text.push_str(if number == 0 { "; " } else { ", " });
        text.push_str(cve.as_str());
    }
    if patch.cves.len() > LINE_CVES_MAX {
        let left_out = patch.cves.len() - LINE_CVES_MAX;
        let more = if patch.may_have_more_cves() { "or more" } else { "more" };
        write!(text, " +{left_out} {more}").expect("writing to a String can't fail");
    }
    text
}

/// The KB number or package; where there is none, the title.
fn name(patch: &PatchDetail) -> &str {
    if patch.kb.is_blank() { patch.title.as_str() } else { patch.kb.as_str() }
}

fn state(state: PatchState) -> &'static str {
    match state {
        PatchState::Missing | PatchState::Other => "missing",
        PatchState::Failed => "failed",
        PatchState::InstalledRejected => "rejected",
        PatchState::InstalledPendingReboot => "pending reboot",
    }
}

/// `KB1, KB2 (failed) +3 more`: what isn't missing says what it is. `total` counts the patches
/// there are, listed or not.
pub(super) fn list(details: &[&PatchDetail], total: u32) -> String {
    let total = total.max(u32::try_from(details.len()).unwrap_or(u32::MAX));
    let mut text = String::new();
    let (mut chars, mut listed) = (0, 0_u32);
    for patch in details {
        let item = item(patch);
        let item_chars = item.chars().count() + 2;
        if chars + item_chars > LIST_CHARS_MAX - MORE_CHARS_MAX {
            break;
        }
        if listed > 0 {
            text.push_str(", ");
        }
        text.push_str(&item);
        chars += item_chars;
        listed += 1;
    }
    if listed > 0 && listed < total {
        write!(text, " +{} more", total - listed).expect("writing to a String can't fail");
    }
    text
}

fn item(patch: &PatchDetail) -> String {
    match patch.state {
        PatchState::Missing | PatchState::Other => name(patch).to_owned(),
        other => format!("{} ({})", name(patch), state(other)),
    }
}

/// Vulnerabilities as they are sent, and how many there are.
pub(super) struct Vulnerabilities {
    pub listed: Option<Vec<Vulnerability>>,
    pub total: usize,
    /// There may be more than `total`: a patch has more ids than are kept of one.
    pub or_more: bool,
}

impl Vulnerabilities {
    /// `50 of 73 CVE ids are listed`, if any are left out.
    pub fn left_out(&self) -> Option<String> {
        let listed = self.listed.as_ref().map_or(0, Vec::len);
        let total = self.total;
        let or_more = if self.or_more { " or more" } else { "" };
        (listed < total).then(|| format!("{listed} of {total}{or_more} CVE ids are listed"))
    }
}

/// One vulnerability for each CVE id, with the packages whose patch closes it, and what else these
/// patches close.
///
/// A fix is available by definition: the patch is one of the node's baseline. Whose severity it is
/// follows from the platform.
pub(super) fn vulnerabilities(
    details: &[&PatchDetail],
    info: Option<&NodeInfo>,
    meter: &mut Meter,
) -> Vulnerabilities {
    let mut found: Vec<(&str, Vec<&PatchDetail>)> = Vec::new();
    let mut known = BTreeSet::new();
    let mut left_out = false;
    for &patch in details {
        for cve in patch.cves.iter().filter(|cve| !cve.is_blank()) {
            known.insert(cve.as_str());
            match found.iter().position(|(known, _)| *known == cve.as_str()) {
                Some(at) if found[at].1.len() < PACKAGES_MAX => found[at].1.push(patch),
                None if found.len() < VULNERABILITIES_MAX => {
                    found.push((cve.as_str(), vec![patch]));
                }
                _ => left_out = true,
            }
        }
    }
    let start = meter.bytes();
    let mut rendered = Vec::with_capacity(found.len());
    for (cve, patches) in found {
        if meter.bytes() - start > VULNERABILITIES_BYTES_MAX {
            left_out = true;
            break;
        }
        rendered.extend(vulnerability(cve, &patches, info, meter));
    }
    if left_out {
        meter.count_cut();
    }
    let listed = (!rendered.is_empty()).then_some(rendered);
    let or_more = details.iter().any(|patch| patch.may_have_more_cves());
    Vulnerabilities { listed, total: known.len(), or_more }
}

fn vulnerability(
    cve: &str,
    patches: &[&PatchDetail],
    info: Option<&NodeInfo>,
    meter: &mut Meter,
) -> Option<Vulnerability> {
    // Of nothing but control characters, so that nothing is left of it.
    let id = meter.text::<64>(cve)?;
    meter.add(VULNERABILITY_FRAME_BYTES);
    let packages: Vec<_> = patches.iter().filter_map(|patch| package(patch, meter)).collect();
    let related: BTreeSet<&str> = patches
        .iter()
        .flat_map(|patch| &patch.cves)
        .map(Text::as_str)
        .filter(|other| *other != cve)
        .collect();
    if related.len() > RELATED_MAX {
        meter.count_cut();
    }
    let related: Vec<String> =
        related.into_iter().take(RELATED_MAX).filter_map(|it| meter.text::<64>(it)).collect();
    let vulnerability = Vulnerability::builder()
        .id(id)
        .set_vulnerable_packages((!packages.is_empty()).then_some(packages))
        .set_related_vulnerabilities((!related.is_empty()).then_some(related))
        .set_vendor(vendor(patches, info, meter))
        .fix_available(VulnerabilityFixAvailable::Yes)
        .build();
    Some(vulnerability)
}

/// The maker of the platform and its severity of the most severe patch. ASFF requires the name.
fn vendor(
    patches: &[&PatchDetail],
    info: Option<&NodeInfo>,
    meter: &mut Meter,
) -> Option<VulnerabilityVendor> {
    let name = meter.optional::<128, 128>(info?.platform_name.as_ref())?;
    meter.add(VULNERABILITY_FRAME_BYTES);
    let severity = patches.first().map(|patch| &patch.severity);
    Some(
        VulnerabilityVendor::builder()
            .name(name)
            .set_vendor_severity(meter.optional::<64, 32>(severity))
            .build(),
    )
}

/// On Linux the title is the package's name and the version that closes the hole, joined by a
/// colon (`bind-libs.x86_64:32:9.8.2-0.68.rc1.60.amzn1`; AWS CLI examples).
fn package(patch: &PatchDetail, meter: &mut Meter) -> Option<SoftwarePackage> {
    let (kb, title) = (patch.kb.as_str(), patch.title.as_str());
    let fixed_in = title.strip_prefix(kb).and_then(|rest| rest.strip_prefix(':'));
    meter.add(VULNERABILITY_FRAME_BYTES);
    let name = meter.text::<128>(kb).or_else(|| meter.text::<128>(title))?;
    Some(
        SoftwarePackage::builder()
            .name(name)
            .set_fixed_in_version(fixed_in.and_then(|version| meter.text::<128>(version)))
            .build(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Text;

    fn patch(kb: &str, state: PatchState, cves: &[&str]) -> PatchDetail {
        PatchDetail {
            state,
            kb: kb.into(),
            title: Text::truncated(&format!("{kb}:32:9.8.2")),
            classification: "Security".into(),
            severity: "Critical".into(),
            cves: cves.iter().map(|cve| Text::truncated(cve)).collect(),
        }
    }

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let two = [
            patch("KB1", PatchState::Missing, &[]),
            patch("KB2", PatchState::InstalledPendingReboot, &[]),
        ];
        let two: Vec<_> = two.iter().collect();
        assert_eq!(list(&two, 2), "KB1, KB2 (pending reboot)");
        assert_eq!(list(&two, 7), "KB1, KB2 (pending reboot) +5 more");
        let many: Vec<_> =
            (0..3000).map(|n| patch(&format!("package-{n}"), PatchState::Missing, &[])).collect();
        let many: Vec<_> = many.iter().collect();
        let text = list(&many, 3000);
        assert!(text.chars().count() <= LIST_CHARS_MAX && text.ends_with(" more"), "{text}");
    }

    #[test]
    fn a_cve_of_two_packages_is_one_vulnerability() {
        let details = [
            patch("a.x86_64", PatchState::Missing, &["CVE-1", "CVE-2"]),
            patch("b.x86_64", PatchState::Missing, &["CVE-1"]),
        ];
        let details: Vec<_> = details.iter().collect();
        let info = NodeInfo { platform_name: Some("Amazon Linux".into()), ..NodeInfo::default() };
        let found = vulnerabilities(&details, Some(&info), &mut Meter::default());
        assert_eq!((found.total, found.left_out()), (2, None));
        let found = found.listed.unwrap();
        let first = &found[0].vulnerable_packages()[0];
        assert_eq!((first.name(), first.fixed_in_version()), (Some("a.x86_64"), Some("32:9.8.2")));
        assert_eq!(found[0].vulnerable_packages().len(), 2);
        assert_eq!(found[0].related_vulnerabilities(), ["CVE-2"]);
        let vendor = found[0].vendor().unwrap();
        assert_eq!(
            (vendor.name(), vendor.vendor_severity()),
            (Some("Amazon Linux"), Some("Critical"))
        );
    }

    #[test]
    fn what_is_not_kept_of_a_patch_is_said_to_be_left_out() {
        let ids: Vec<String> = (0..CVES_KEPT_MAX + 30).map(|n| format!("CVE-{n}")).collect();
        let mut kernel = patch("kernel", PatchState::Missing, &[]);
        kernel.cves = PatchDetail::split_cves(&ids.join(","));
        assert_eq!(kernel.cves.len(), CVES_KEPT_MAX);
        let found = vulnerabilities(&[&kernel], None, &mut Meter::default());
        assert_eq!(found.left_out().unwrap(), "50 of 100 or more CVE ids are listed");
        assert!(line(&kernel).ends_with("CVE-5 +94 or more"), "{}", line(&kernel));
        kernel.cves.truncate(CVES_KEPT_MAX - 1);
        let found = vulnerabilities(&[&kernel], None, &mut Meter::default());
        assert_eq!(found.left_out().unwrap(), "50 of 99 CVE ids are listed");
        assert!(line(&kernel).ends_with("CVE-5 +93 more"), "{}", line(&kernel));
    }

    #[test]
    fn a_line_tells_all_that_is_known_of_a_patch_and_nothing_else() {
        let mut known = patch("KB1", PatchState::Failed, &["CVE-1", "CVE-2"]);
        assert_eq!(line(&known), "KB1: KB1:32:9.8.2; Security; Critical; failed; CVE-1, CVE-2");
        known.cves = (0..9).map(|n| Text::truncated(&format!("CVE-{n}"))).collect();
        assert!(line(&known).ends_with("; CVE-0, CVE-1, CVE-2, CVE-3, CVE-4, CVE-5 +3 more"));
        // As Windows has them now and then.
        known = PatchDetail {
            title: "".into(),
            classification: "".into(),
            severity: "".into(),
            cves: Vec::new(),
            ..known
        };
        assert_eq!(line(&known), "KB1; failed");
    }

    #[test]
    fn the_most_severe_come_first_whatever_the_vendor_calls_them() {
        let severities = ["Low", "", "Moderate", "HIGH", "Critical", "Important", "Unspecified"];
        let patches = severities.map(|severity| PatchDetail {
            severity: severity.into(),
            ..patch("KB1", PatchState::Missing, &[])
        });
        let sorted: Vec<_> =
            most_severe_first(&patches).iter().map(|it| it.severity.as_str()).collect();
        assert_eq!(sorted, ["Critical", "HIGH", "Important", "Moderate", "Low", "", "Unspecified"]);
    }
}
