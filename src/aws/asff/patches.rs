//! The patches of a finding: as a list for people, and as vulnerabilities for machines.

use std::fmt::Write as _;

use aws_sdk_securityhub::types::{SoftwarePackage, Vulnerability, VulnerabilityFixAvailable};

use super::limits::Meter;
use crate::record::{PatchDetail, observation::PatchState};

/// `ProductFields` values: up to 2,048 characters (Security Hub model).
pub(super) const LIST_CHARS_MAX: usize = 2048;
/// Room for ` +4294967295 more` at the end of a list.
const MORE_CHARS_MAX: usize = 17;

/// ASFF names no limit of its own; a finding is a summary, and AWS takes 240 KB of it.
const VULNERABILITIES_MAX: usize = 50;
const PACKAGES_MAX: usize = 8;
/// A vulnerability that begins within this budget may end beyond it, by at most one's size.
const VULNERABILITIES_BYTES_MAX: usize = 112 * 1024;
/// Braces, brackets and `FixAvailable`.
const VULNERABILITY_FRAME_BYTES: usize = 100;

/// `KB1, KB2 (failed) +3 more`: what isn't missing says what it is. `total` counts the patches
/// there are, listed or not.
pub(super) fn list(details: &[PatchDetail], total: u32) -> String {
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
    let name = if patch.kb.is_blank() { patch.title.as_str() } else { patch.kb.as_str() };
    let state = match patch.state {
        PatchState::Missing | PatchState::Other => return name.to_owned(),
        PatchState::Failed => "failed",
        PatchState::InstalledRejected => "rejected",
        PatchState::InstalledPendingReboot => "pending reboot",
    };
    format!("{name} ({state})")
}

/// One vulnerability for each CVE id, with the packages whose patch closes it.
///
/// A fix is available by definition: the patch is one of the node's baseline.
pub(super) fn vulnerabilities(
    details: &[PatchDetail],
    meter: &mut Meter,
) -> Option<Vec<Vulnerability>> {
    let mut found: Vec<(&str, Vec<&PatchDetail>)> = Vec::new();
    let mut left_out = false;
    for patch in details {
        for cve in patch.cves.iter().filter(|cve| !cve.is_blank()) {
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
        // Of nothing but control characters, so that nothing is left of it.
        let Some(id) = meter.text::<64>(cve) else { continue };
        meter.add(VULNERABILITY_FRAME_BYTES);
        let packages: Vec<_> =
            patches.into_iter().filter_map(|patch| package(patch, meter)).collect();
        rendered.push(
            Vulnerability::builder()
                .id(id)
                .set_vulnerable_packages((!packages.is_empty()).then_some(packages))
                .fix_available(VulnerabilityFixAvailable::Yes)
                .build(),
        );
    }
    if left_out {
        meter.count_cut();
    }
    (!rendered.is_empty()).then_some(rendered)
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
        assert_eq!(list(&two, 2), "KB1, KB2 (pending reboot)");
        assert_eq!(list(&two, 7), "KB1, KB2 (pending reboot) +5 more");
        let many: Vec<_> =
            (0..3000).map(|n| patch(&format!("package-{n}"), PatchState::Missing, &[])).collect();
        let text = list(&many, 3000);
        assert!(text.chars().count() <= LIST_CHARS_MAX && text.ends_with(" more"), "{text}");
    }

    #[test]
    fn a_cve_of_two_packages_is_one_vulnerability() {
        let details = [
            patch("a.x86_64", PatchState::Missing, &["CVE-1", "CVE-2"]),
            patch("b.x86_64", PatchState::Missing, &["CVE-1"]),
        ];
        let found = vulnerabilities(&details, &mut Meter::default()).unwrap();
        assert_eq!(found.len(), 2);
        let first = &found[0].vulnerable_packages()[0];
        assert_eq!((first.name(), first.fixed_in_version()), (Some("a.x86_64"), Some("32:9.8.2")));
        assert_eq!(found[0].vulnerable_packages().len(), 2);
    }
}
