//! What is missing, patch by patch: told, capped, and marked where something is left out.

use patchferry::{
    aws::{asff::FINDING_BYTES_MAX, render},
    record::{
        PatchDetail, Text,
        observation::{NodeInfo, PatchState},
    },
};
use serde_json::{Value, json};

use super::{Wire, details, lane, ours};

fn patch(number: usize, severity: &str, cves: usize) -> PatchDetail {
    PatchDetail {
        state: PatchState::Missing,
        kb: Text::truncated(&format!("package-{number}.x86_64")),
        title: Text::truncated(&format!("package-{number}.x86_64:0:1.{number}")),
        classification: "Security".into(),
        severity: severity.into(),
        cves: (0..cves)
            .map(|step| Text::truncated(&format!("CVE-2026-{}", number * 100 + step)))
            .collect(),
    }
}

fn sent(patches: &[PatchDetail], total: u32) -> Value {
    let mut finding = ours();
    finding.facts.patches.as_mut().unwrap().total = total;
    finding.facts.node_info =
        Some(NodeInfo { platform_name: Some("Amazon Linux".into()), ..NodeInfo::default() });
    Wire::new().json(render(&lane(), &finding, patches))
}

#[test]
fn each_patch_has_a_line_and_each_cve_a_vulnerability_with_all_that_is_known() {
    let sent = sent(&details(), 2);
    assert_eq!(
        sent["ProductFields"]["patchferry/patch-01"],
        "kernel.x86_64: kernel.x86_64:0:1.2.3; Security; Critical; missing; CVE-2026-0001"
    );
    assert!(sent["ProductFields"]["patchferry/patch-02"].is_string());
    assert_eq!(sent["ProductFields"].get("patchferry/patch-03"), None);
    let found = &sent["Vulnerabilities"][0];
    assert_eq!(found["Vendor"], json!({"Name": "Amazon Linux", "VendorSeverity": "Critical"}));
    assert_eq!(found["FixAvailable"], "YES");
    assert_eq!(found["VulnerablePackages"].as_array().unwrap().len(), 2);
    assert_eq!(found.get("RelatedVulnerabilities"), None, "there is only one");
    let several = self::sent(&[patch(1, "Important", 3)], 1);
    assert_eq!(
        several["Vulnerabilities"][0]["RelatedVulnerabilities"],
        json!(["CVE-2026-101", "CVE-2026-102"])
    );
}

#[test]
fn of_too_many_patches_the_most_severe_are_told_and_what_is_left_out_is_counted() {
    let mut patches: Vec<_> = (0..60).map(|number| patch(number, "Low", 1)).collect();
    patches.push(patch(60, "Critical", 1));
    let sent = sent(&patches, 400);
    let fields = sent["ProductFields"].as_object().unwrap();
    let first = fields["patchferry/patch-01"].as_str().unwrap();
    assert!(first.starts_with("package-60.x86_64: "), "{first}");
    let lines = fields.keys().filter(|key| key.starts_with("patchferry/patch-0")).count();
    assert_eq!(lines, 9);
    assert!(fields.contains_key("patchferry/patch-20"));
    assert!(!fields.contains_key("patchferry/patch-21"));
    let list = fields["patchferry/missing-patches"].as_str().unwrap();
    assert!(list.starts_with("package-60.x86_64, ") && list.ends_with(" more"), "{list}");
    assert_eq!(fields["patchferry/vulnerabilities"], "50 of 61 CVE ids are listed");
    assert_eq!(sent["Vulnerabilities"].as_array().unwrap().len(), 50);
    assert_eq!(sent["Vulnerabilities"][0]["Id"], "CVE-2026-6000");
}

#[test]
fn a_thousand_patches_of_twenty_cves_each_and_titles_in_any_script_stay_under_240_kilobytes() {
    for title in
        ["Sicherheitsupdate für \"Büro\\Produkte\" ", "累積的な更新プログラム ", "𐍈\u{301}🩹"]
    {
        let patches: Vec<_> = (0..1_000)
            .map(|number| PatchDetail {
                title: Text::truncated(&title.repeat(40)),
                ..patch(number, "Important", 20)
            })
            .collect();
        let rendered = render(&lane(), &ours(), &patches);
        assert!(rendered.truncated() > 0);
        let bytes_max = rendered.bytes_max();
        let bytes = Wire::new().bytes(rendered);
        assert!(bytes.len() <= bytes_max && bytes_max <= FINDING_BYTES_MAX, "{bytes_max}");
        let sent: Value = serde_json::from_slice(&bytes).unwrap();
        let marked = sent["ProductFields"]["patchferry/vulnerabilities"].as_str().unwrap();
        assert!(marked.ends_with(" of 20000 CVE ids are listed"), "{marked}");
    }
}

#[test]
fn a_windows_patch_without_title_or_severity_is_told_by_its_number() {
    let bare = PatchDetail {
        kb: "KB5030019".into(),
        title: "".into(),
        classification: "".into(),
        severity: "".into(),
        ..patch(1, "", 0)
    };
    let sent = sent(&[bare], 1);
    assert_eq!(sent["ProductFields"]["patchferry/patch-01"], "KB5030019; missing");
    assert_eq!(sent.get("Vulnerabilities"), None, "SSM names no CVEs of Windows patches");
}
