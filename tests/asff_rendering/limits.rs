//! Whatever the facts, what is sent keeps ASFF's limits.

use patchferry::{
    aws::{asff::FINDING_BYTES_MAX, render},
    lint::{Level, Remark, lint_finding},
    record::{
        Finding, HybridAs, PatchDetail, RenderPolicy, Template, Text, UnixMillis,
        observation::{NodeInfo, PatchState},
    },
};
use proptest::prelude::*;
use serde_json::Value;

use super::{Wire, lane, ours};

/// Texts that are as large as JSON can make them, blank, or odd, of up to `MAX` characters.
fn nasty<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    let length = prop_oneof![Just(MAX), Just(MAX + 1), 0..MAX];
    (prop_oneof![Just('𐍈'), Just('"'), Just('\\'), Just('\u{1}'), Just(' '), Just('a')], length)
        .prop_map(|(c, length)| Text::truncated(&c.to_string().repeat(length)))
}

fn patch() -> impl Strategy<Value = PatchDetail> {
    let cves = prop::collection::vec(nasty::<32>(), 0..=20);
    (nasty(), nasty(), nasty(), nasty(), cves, "[A-Z]{4}-[0-9]{1,20}").prop_map(
        |(kb, title, classification, severity, mut cves, unique)| {
            cves.push(Text::truncated(&unique));
            let state = PatchState::InstalledPendingReboot;
            PatchDetail { state, kb, title, classification, severity, cves }
        },
    )
}

prop_compose! {
    fn node_info()(
        resource_type in nasty(), name in nasty(), computer in nasty(), platform in nasty(),
        version in nasty(), address in nasty(), agent in nasty(), kind in nasty(), id in nasty(),
    ) -> NodeInfo {
        NodeInfo {
            resource_type,
            ping_status: "Online".into(),
            name: Some(name),
            computer_name: Some(computer),
            platform_type: Some("Linux".into()),
            platform_name: Some(platform),
            platform_version: Some(version),
            ip_address: Some(address),
            agent_version: Some(agent),
            source_type: Some(kind),
            source_id: Some(id),
        }
    }
}

prop_compose! {
    fn any_finding()(
        info in node_info(), baseline in nasty(), group in nasty(), document in nasty(),
        product_arn in nasty(), product_name in nasty(), company_name in nasty(),
        operation in nasty(), reboot in nasty(), count in any::<u32>(), millis in any::<i64>(),
        parity in any::<bool>(),
    ) -> Finding {
        let mut finding = ours();
        let time = UnixMillis(millis);
        finding.facts.node_info = Some(info);
        finding.facts.baseline = Some(baseline);
        finding.facts.patch_group = Some(group);
        finding.facts.document = Some(document);
        finding.facts.operation = Some(operation);
        finding.facts.reboot_option = Some(reboot);
        finding.facts.operation_end = Some(time);
        finding.facts.counts.missing = count;
        finding.facts.counts.installed = count;
        finding.updated_at = time;
        finding.policy = RenderPolicy {
            template: if parity { Template::AwsParity } else { Template::Patchferry },
            hybrid_as: HybridAs::Other,
            product_arn: Some(product_arn),
            product_name: Some(product_name),
            company_name: Some(company_name),
        };
        finding
    }
}

/// What ASFF requires beside severity and types.
const REQUIRED: [&str; 10] = [
    "SchemaVersion",
    "Id",
    "ProductArn",
    "GeneratorId",
    "AwsAccountId",
    "CreatedAt",
    "UpdatedAt",
    "Title",
    "Description",
    "Resources",
];

/// The limits of ASFF (Security Hub model) that a value could break, by path.
fn assert_within_limits(finding: &Value) {
    for required in REQUIRED {
        assert!(finding.get(required).is_some(), "{required} is required");
    }
    let limit = |path: &str| match path.split('.').next().unwrap_or_default() {
        "Id" | "GeneratorId" | "Remediation" => 512,
        "Title" | "PatchSummary" => 256,
        "Description" => 1024,
        "ProductName" | "CompanyName" => 128,
        "Resources" if path.contains(".Other.") => 1023,
        _ => 2048,
    };
    let mut strings = Vec::new();
    collect_strings(finding, "", &mut strings);
    for (path, text) in strings {
        let chars = text.chars().count();
        assert!(chars <= limit(&path), "{path} has {chars} characters");
        assert!(text.chars().any(|c| !c.is_whitespace()), "{path} is blank");
    }
    for (name, count) in finding["PatchSummary"].as_object().into_iter().flatten() {
        if let Some(count) = count.as_i64() {
            assert!((0..=100_000).contains(&count), "{name} is {count}");
        }
    }
    let fields = finding["ProductFields"].as_object();
    assert!(fields.is_none_or(|fields| fields.len() <= 50));
    assert!(finding["Vulnerabilities"].as_array().is_none_or(|found| found.len() <= 50));
}

fn collect_strings(value: &Value, prefix: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                collect_strings(member, &format!("{prefix}.{key}"), found);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_strings(item, prefix, found);
            }
        }
        Value::String(text) => {
            found.push((prefix.trim_start_matches('.').to_owned(), text.clone()));
        }
        _ => {}
    }
}

#[test]
fn no_finding_exceeds_asffs_limits_or_its_own_size_estimate() {
    let wire = Wire::new();
    let config =
        ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    let inputs = (any_finding(), prop::collection::vec(patch(), 0..120));
    let result =
        proptest::test_runner::TestRunner::new(config).run(&inputs, |(finding, patches)| {
            let rendered = render(&lane(), &finding, &patches);
            let bytes_max = rendered.bytes_max();
            let bytes = wire.bytes(rendered);
            prop_assert!(bytes.len() <= bytes_max, "{} bytes, estimated {bytes_max}", bytes.len());
            prop_assert!(bytes_max <= FINDING_BYTES_MAX, "estimated {bytes_max}");
            assert_within_limits(&serde_json::from_slice(&bytes).unwrap());
            // A product that somebody has configured is theirs.
            let refused: Vec<Remark> = lint_finding(&bytes, 0)
                .into_iter()
                .filter(|it| it.level == Level::Error && it.path != "ProductArn")
                .collect();
            prop_assert!(refused.is_empty(), "{refused:?}");
            Ok(())
        });
    result.unwrap();
}

#[test]
fn a_finding_of_nothing_but_maxima_stays_under_240_kilobytes() {
    let widest = |chars: usize| "𐍈".repeat(chars);
    let mut finding = ours();
    let patches: Vec<_> = (0..400)
        .map(|n| PatchDetail {
            state: PatchState::Missing,
            kb: Text::truncated(&format!("{n}{}", widest(128))),
            title: Text::truncated(&format!("{n}{}", widest(256))),
            classification: "Security".into(),
            severity: "Critical".into(),
            cves: (0..20).map(|m| Text::truncated(&format!("{}{}", m % 7, widest(31)))).collect(),
        })
        .collect();
    finding.facts.patch_group = Some(Text::truncated(&widest(256)));
    finding.policy.product_arn = Some(Text::truncated(&widest(2048)));
    let rendered = render(&lane(), &finding, &patches);
    assert!(rendered.truncated() > 0);
    let bytes_max = rendered.bytes_max();
    let bytes = Wire::new().bytes(rendered);
    assert!(bytes.len() <= bytes_max && bytes_max <= FINDING_BYTES_MAX, "{bytes_max}");
}
