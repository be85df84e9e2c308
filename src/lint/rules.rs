//! Members against each other: what a look at one member alone can't tell.
//!
//! Sources, beyond those of the schema: "Integrating Security Hub CSPM with custom products" (the
//! default product, who may import), "`BatchImportFindings` for finding providers" (times,
//! `FindingProviderFields`), the partner guide and the product readiness checklist (titles,
//! resources, generators).

use super::{
    arn::{Arn, partition_of, same_partition},
    json::Json,
    report::{Path, Remarks, shown},
    time,
};

/// Clocks differ.
const FUTURE_MS_MAX: i64 = 5 * 60 * 1_000;
/// More are an error already.
const RESOURCES_MAX: usize = 32;
const ROOT: Path<'static> = Path::ROOT;

/// Everything that is to be said of a finding beyond its single members.
pub(super) fn check(finding: &Json, now_unix_ms: i64, remarks: &mut Remarks) {
    severity_and_types(finding, remarks);
    verdict(finding, remarks);
    times(finding, now_unix_ms, remarks);
    product(finding, remarks);
    product_fields(finding, remarks);
    resources(finding, remarks);
    title(finding, remarks);
    let id = finding.text("Id");
    if id.is_some() && id == finding.text("GeneratorId") {
        let text = "is the Id: it is to name what finds, such as a rule, not what is found";
        remarks.warning(ROOT.member("GeneratorId"), text);
    }
}

fn severity_and_types(finding: &Json, remarks: &mut Remarks) {
    let both = |object: Option<&Json>| {
        object.is_some_and(|it| it.get("Severity").is_some() && it.get("Types").is_some())
    };
    if !both(finding.get("FindingProviderFields")) && !both(Some(finding)) {
        let text = "must have both Severity and Types (or, as it was before there were \
                    FindingProviderFields, the finding itself)";
        remarks.error(ROOT.member("FindingProviderFields"), text);
    }
    if let Some(severity) = finding.get("Severity")
        && severity.get("Label").is_none()
        && severity.get("Normalized").is_none()
    {
        let severity = ROOT.member("Severity");
        remarks.error(severity.member("Label"), "is missing: it is required");
    }
    let provider = ROOT.member("FindingProviderFields");
    for (at, fields) in [(provider, finding.get("FindingProviderFields")), (ROOT, Some(finding))] {
        if fields.is_some_and(|fields| fields.items("Types").len() > 1) {
            remarks.warning(at.member("Types"), "a finding should be of one type");
        }
    }
}

/// Compliant findings "should always" be informational (ASFF mapping guidelines).
fn verdict(finding: &Json, remarks: &mut Remarks) {
    let status = finding.get("Compliance").and_then(|compliance| compliance.text("Status"));
    let severity = finding
        .get("FindingProviderFields")
        .and_then(|fields| fields.get("Severity"))
        .or_else(|| finding.get("Severity"))
        .and_then(|severity| severity.text("Label"));
    if status == Some("PASSED") && severity.is_some_and(|label| label != "INFORMATIONAL") {
        let text = "is PASSED, but the severity isn't INFORMATIONAL";
        remarks.warning(ROOT.member("Compliance").member("Status"), text);
    }
}

fn times(finding: &Json, now_unix_ms: i64, remarks: &mut Remarks) {
    let time = |of: &Json, name: &str| of.text(name).and_then(time::parse);
    for (earlier, later) in [("CreatedAt", "UpdatedAt"), ("FirstObservedAt", "LastObservedAt")] {
        if let (Some(first), Some(last)) = (time(finding, earlier), time(finding, later))
            && last < first
        {
            remarks.warning(ROOT.member(later), format!("is before {earlier}"));
        }
    }
    for name in ["CreatedAt", "UpdatedAt", "FirstObservedAt", "LastObservedAt"] {
        if time(finding, name).is_some_and(|at| at > now_unix_ms.saturating_add(FUTURE_MS_MAX)) {
            let text = if name == "UpdatedAt" {
                "is in the future: until then the hub ignores every update that says the truth"
            } else {
                "is in the future"
            };
            remarks.warning(ROOT.member(name), text);
        }
    }
    if let Some(summary) = finding.get("PatchSummary")
        && let (Some(start), Some(end)) =
            (time(summary, "OperationStartTime"), time(summary, "OperationEndTime"))
        && end < start
    {
        let at = ROOT.member("PatchSummary");
        remarks.warning(at.member("OperationEndTime"), "is before OperationStartTime");
    }
}

fn product(finding: &Json, remarks: &mut Remarks) {
    const FORM: &str = "arn:PARTITION:securityhub:REGION:ACCOUNT:product/ACCOUNT/default";
    let Some(text) = finding.text("ProductArn") else { return };
    let at = ROOT.member("ProductArn");
    let parsed = Arn::parse(text).filter(|arn| arn.service == "securityhub");
    let product = parsed.and_then(|arn| arn.resource.strip_prefix("product/")?.split_once('/'));
    let (Some(arn), Some((company, name))) = (parsed, product) else {
        return remarks.error(at, format!("is {}; expected: {FORM}", shown(text)));
    };
    match partition_of(arn.region) {
        None => {
            let text = format!("{} is no Region; expected: {FORM}", shown(arn.region));
            remarks.error(at, text);
        }
        Some(partition) if !same_partition(partition, arn.partition) => {
            let (region, given) = (shown(arn.region), shown(arn.partition));
            remarks.error(at, format!("{region} is in partition {partition}, not in {given}"));
        }
        Some(_) => {}
    }
    let account = finding.text("AwsAccountId").unwrap_or_default();
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if name == "default" && is_account(company) {
        for (what, given) in [("product", company), ("account", arn.account)] {
            if given != account && is_account(account) {
                let text = format!(
                    "its {what} is {}, but AwsAccountId is {account}: only an account itself may \
                     import into its default product",
                    shown(given)
                );
                remarks.error(at, text);
            }
        }
    } else if company.eq_ignore_ascii_case("aws") {
        remarks.error(at, format!("belongs to AWS; ours to give is {FORM}"));
    } else {
        let text = format!("belongs to {}: nobody else may import with it", shown(company));
        remarks.warning(at, text);
    }
}

fn product_fields(finding: &Json, remarks: &mut Remarks) {
    let fields = ROOT.member("ProductFields");
    for (key, _) in finding.members("ProductFields") {
        if key.starts_with("aws/") {
            let text =
                "keys that begin with aws/ are reserved: Security Hub adds its own; leave it out";
            remarks.error(fields.member(key), text);
        } else if !key.contains('/') {
            remarks.warning(fields.member(key), "keys should be of the form company/product/field");
        }
    }
}

fn resources(finding: &Json, remarks: &mut Remarks) {
    let product = finding.text("ProductArn").and_then(Arn::parse);
    let list = ROOT.member("Resources");
    let resources = finding.items("Resources");
    if resources.len() > 1 {
        remarks.warning(list, "a finding should be about one resource");
    }
    for (index, resource) in resources.iter().take(RESOURCES_MAX).enumerate() {
        let at = list.index(index);
        let (id, region) = (resource.text("Id"), resource.text("Region"));
        if let (Some(region), Some(product)) = (region, product)
            && region != product.region
            && region != "global"
        {
            let text = format!(
                "is {}, but ProductArn has {}: a finding belongs into its resource's own Region",
                shown(region),
                shown(product.region)
            );
            remarks.warning(at.member("Region"), text);
        }
        let partition = resource.text("Partition");
        if let (Some(partition), Some(product)) = (partition, product)
            && !same_partition(partition, product.partition)
        {
            let text =
                format!("is {}, but ProductArn has {}", shown(partition), shown(product.partition));
            remarks.warning(at.member("Partition"), text);
        }
        if let Some(id) = id {
            identity(&at.member("Id"), id, finding, resource, remarks);
        }
    }
}

fn identity(at: &Path<'_>, id: &str, finding: &Json, resource: &Json, remarks: &mut Remarks) {
    let Some(arn) = Arn::parse(id) else {
        if id.starts_with("arn:") {
            return remarks.warning(at, format!("{} is no whole ARN", shown(id)));
        }
        if id.starts_with("i-") || id.starts_with("mi-") {
            remarks.warning(at, "should be the resource's ARN, which is unique everywhere");
        }
        return;
    };
    for (what, given, from, expected) in [
        ("account", arn.account, "AwsAccountId", finding.text("AwsAccountId")),
        ("Region", arn.region, "Region", resource.text("Region")),
    ] {
        if let Some(expected) = expected
            && !given.is_empty()
            && given != expected
        {
            let text = format!("its {what} is {}, but {from} is {}", shown(given), shown(expected));
            remarks.warning(at, text);
        }
    }
    let partition = resource.text("Partition");
    if partition.is_some_and(|partition| !same_partition(partition, arn.partition)) {
        let given = shown(arn.partition);
        remarks.warning(at, format!("its partition is {given}, but Partition isn't"));
    }
}

/// People see lists of titles.
fn title(finding: &Json, remarks: &mut Remarks) {
    let Some(title) = finding.text("Title") else { return };
    let resources = finding.items("Resources").iter().take(RESOURCES_MAX);
    let mut names = resources
        .filter_map(|resource| resource.text("Id").map(last_part))
        .filter(|name| !name.is_empty())
        .peekable();
    if names.peek().is_some() && !names.any(|name| title.contains(name)) {
        remarks.warning(ROOT.member("Title"), "doesn't name the resource");
    }
}

fn last_part(id: &str) -> &str {
    id.rsplit(['/', ':']).next().unwrap_or(id)
}
