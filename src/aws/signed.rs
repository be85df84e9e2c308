//! Signed calls to AWS services that speak JSON and for which no SDK crate is worth its build time.
//!
//! A [`SignedClient`] is what a generated client would be, without shapes: awsJson1.0 or 1.1,
//! Signature Version 4, the lane's HTTP client and credentials, `AWS_ENDPOINT_URL` and
//! `AWS_ENDPOINT_URL_<SERVICE>` with their profile forms, FIPS and dual stack, every partition.
//!
//! Guarantees: one call is one request (nothing is tried again here); it ends within
//! [`ATTEMPT_TIMEOUT`]; whatever goes wrong is a [`Fault`], an answer that can't be read included.
//!
//! Deliberately doesn't know: any operation, and how fast to call.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_runtime::auth::{
    SigV4OperationSigningConfig,
    sigv4::{SCHEME_ID, SigV4AuthScheme},
};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        auth::{
            AuthSchemeOptionResolverParams, SharedAuthScheme,
            static_resolver::StaticAuthSchemeOptionResolver,
        },
        behavior_version::BehaviorVersion,
        orchestrator::{HttpRequest, HttpResponse, OrchestratorError},
        runtime_components::RuntimeComponentsBuilder,
        runtime_plugin::StaticRuntimePlugin,
    },
};
use aws_smithy_types::{
    body::SdkBody,
    config_bag::Layer,
    error::{ErrorMetadata, metadata::ProvideErrorMetadata},
    timeout::TimeoutConfig,
};
use aws_types::{SigningName, region::SigningRegion, service_config::ServiceConfigKey};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Fault, Unavailability, classify::classify, http::CONNECT_TIMEOUT};
use crate::record::{Partition, Region, Text};

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("patchferry/", env!("CARGO_PKG_VERSION"));

/// Which dialect a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonProtocol {
    V1_0,
    V1_1,
}

impl JsonProtocol {
    fn content_type(self) -> &'static str {
        match self {
            Self::V1_0 => "application/x-amz-json-1.0",
            Self::V1_1 => "application/x-amz-json-1.1",
        }
    }
}

/// A service as its model describes it (botocore: `metadata` and `endpoint-rule-set-1.json`).
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonService {
    /// `serviceId`: names it in `AWS_ENDPOINT_URL_<SERVICE>` and in profiles.
    pub id: &'static str,
    /// `endpointPrefix`: the first label of its hosts.
    pub endpoint_prefix: &'static str,
    pub signing_name: &'static str,
    /// `targetPrefix`: stands before the operation in `X-Amz-Target`.
    pub target_prefix: &'static str,
    pub protocol: JsonProtocol,
}

/// A client of one service in one Region. Cheap to clone.
#[derive(Clone)]
pub(super) struct SignedClient {
    operation: Operation<Call, Value, JsonError>,
}

impl SignedClient {
    /// With the HTTP client, credentials and endpoint settings of `config`; signed for `region`.
    pub fn new(config: &SdkConfig, service: JsonService, region: &Region) -> Self {
        let mut components = RuntimeComponentsBuilder::new("signed");
        components
            .set_http_client(config.http_client())
            .set_sleep_impl(config.sleep_impl())
            .set_time_source(config.time_source())
            .push_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
            .set_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![
                SCHEME_ID,
            ])));
        if let Some(cache) = config.identity_cache() {
            components.set_identity_cache(Some(cache));
        }
        if let Some(credentials) = config.credentials_provider() {
            components.set_identity_resolver(SCHEME_ID, credentials);
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut signing = Layer::new("signing");
        signing.store_put(AuthSchemeOptionResolverParams::new(()));
        signing.store_put(SigV4OperationSigningConfig {
            region: Some(SigningRegion::from(aws_config::Region::new(region.as_str().to_owned()))),
            name: Some(SigningName::from_static(service.signing_name)),
            ..SigV4OperationSigningConfig::default()
        });
        let operation = Operation::builder()
            .service_name(service.id)
            .operation_name("json")
            .behavior_version(config.behavior_version().unwrap_or_else(BehaviorVersion::latest))
            .endpoint_url(&endpoint_url(config, service, region))
            .no_retry()
            .timeout_config(timeouts)
            .with_connection_poisoning()
            .runtime_plugin(
                StaticRuntimePlugin::new()
                    .with_config(signing.freeze())
                    .with_runtime_components(components),
            )
            .serializer(move |call: Call| request(service, call))
            .deserializer(answer)
            .build();
        Self { operation }
    }

    /// Sends one request and reads its answer.
    pub async fn call<I, O>(&self, operation: &'static str, input: &I) -> Result<O, Fault>
    where
        I: Serialize,
        O: DeserializeOwned,
    {
        let input = serde_json::to_vec(input).expect("shapes of requests can be written as JSON");
        let call = Call { operation, input };
        let answer = self.operation.invoke(call).await.map_err(|error| classify(&error))?;
        serde_json::from_value(answer).map_err(|error| Fault::Unavailable {
            kind: Unavailability::BadBody,
            detail: Text::truncated(&format!("the answer isn't one to {operation}: {error}")),
        })
    }
}

#[derive(Debug)]
struct Call {
    operation: &'static str,
    input: Vec<u8>,
}

fn request(service: JsonService, call: Call) -> Result<HttpRequest, BoxError> {
    let target = format!("{}.{}", service.target_prefix, call.operation);
    let length = call.input.len().to_string();
    let mut request = HttpRequest::new(SdkBody::from(call.input));
    request.set_method("POST")?;
    request.set_uri("/")?;
    let headers = request.headers_mut();
    headers.insert("content-type", service.protocol.content_type());
    headers.insert("content-length", length);
    headers.insert("x-amz-target", target);
    headers.insert("user-agent", USER_AGENT);
    Ok(request)
}

fn answer(response: &HttpResponse) -> Result<Value, OrchestratorError<JsonError>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        return serde_json::from_slice(body).map_err(OrchestratorError::other);
    }
    let told = serde_json::from_slice(body).unwrap_or(Value::Null);
    Err(OrchestratorError::operation(JsonError::of(response, &told)))
}

/// An error answer: its code and message, as far as it has them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct JsonError(ErrorMetadata);

impl JsonError {
    /// The code comes in a header or in one of two members, with a namespace before it or a URL
    /// behind it (Smithy: "Operation error serialization" of the AWS JSON protocols).
    fn of(response: &HttpResponse, told: &Value) -> Self {
        let member = |name: &str| told.get(name).and_then(Value::as_str);
        let code = response.headers().get("x-amzn-errortype").or(member("__type"));
        let code = code.or(member("code")).map(|code| {
            let code = code.split(':').next().unwrap_or(code);
            code.rsplit('#').next().unwrap_or(code)
        });
        let message = member("message").or(member("Message"));
        let mut error = ErrorMetadata::builder();
        if let Some(code) = code {
            error = error.code(code);
        }
        if let Some(message) = message {
            error = error.message(message);
        }
        Self(error.build())
    }
}

impl ProvideErrorMetadata for JsonError {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

/// Where the service is: as the environment or the profile says, else where AWS has it.
fn endpoint_url(config: &SdkConfig, service: JsonService, region: &Region) -> String {
    let given = || config.endpoint_url().map(ToOwned::to_owned);
    // What was set in code precedes the environment, as in the generated clients.
    if config.get_origin("endpoint_url").is_client_config()
        && let Some(url) = given()
    {
        return url;
    }
    let key = ServiceConfigKey::builder()
        .service_id(service.id)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three parts of the key are set");
    config
        .service_config()
        .and_then(|settings| settings.load_config(key))
        .or_else(given)
        .unwrap_or_else(|| {
            let (fips, dual_stack) =
                (config.use_fips().unwrap_or(false), config.use_dual_stack().unwrap_or(false));
            aws_endpoint_url(service, region, fips, dual_stack)
        })
}

/// The rules that all but a few services share.
fn aws_endpoint_url(service: JsonService, region: &Region, fips: bool, dual_stack: bool) -> String {
    let suffixes = dns_suffixes(region.partition());
    let suffix = if dual_stack { suffixes.dual_stack } else { suffixes.plain };
    let fips = if fips { "-fips" } else { "" };
    format!("https://{}{fips}.{region}.{suffix}", service.endpoint_prefix)
}

struct DnsSuffixes {
    plain: &'static str,
    dual_stack: &'static str,
}

/// `dnsSuffix` and `dualStackDnsSuffix` of `partitions.json` (aws-sdk-ssm 1.133.0).
fn dns_suffixes(partition: Partition) -> DnsSuffixes {
    let (plain, dual_stack) = match partition {
        Partition::Aws | Partition::AwsUsGov => ("amazonaws.com", "api.aws"),
        Partition::AwsCn => ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
        Partition::AwsIso => ("c2s.ic.gov", "api.aws.ic.gov"),
        Partition::AwsIsoB => ("sc2s.sgov.gov", "api.aws.scloud"),
        Partition::AwsIsoE => ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
        Partition::AwsIsoF => ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
        Partition::AwsEusc => ("amazonaws.eu", "api.amazonwebservices.eu"),
    };
    DnsSuffixes { plain, dual_stack }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: JsonService = JsonService {
        id: "CloudControl",
        endpoint_prefix: "cloudcontrolapi",
        signing_name: "cloudcontrolapi",
        target_prefix: "CloudApiService",
        protocol: JsonProtocol::V1_0,
    };

    #[test]
    fn the_host_follows_the_partition_fips_and_dual_stack() {
        for (region, fips, dual_stack, host) in [
            ("us-east-1", false, false, "cloudcontrolapi.us-east-1.amazonaws.com"),
            ("us-east-1", true, false, "cloudcontrolapi-fips.us-east-1.amazonaws.com"),
            ("eu-west-1", false, true, "cloudcontrolapi.eu-west-1.api.aws"),
            ("us-gov-west-1", true, true, "cloudcontrolapi-fips.us-gov-west-1.api.aws"),
            ("cn-north-1", false, false, "cloudcontrolapi.cn-north-1.amazonaws.com.cn"),
            ("eusc-de-east-1", false, false, "cloudcontrolapi.eusc-de-east-1.amazonaws.eu"),
            ("us-iso-east-1", false, false, "cloudcontrolapi.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", false, false, "cloudcontrolapi.us-isob-east-1.sc2s.sgov.gov"),
            ("us-isof-east-1", false, false, "cloudcontrolapi.us-isof-east-1.csp.hci.ic.gov"),
            ("eu-isoe-west-1", false, false, "cloudcontrolapi.eu-isoe-west-1.cloud.adc-e.uk"),
        ] {
            let url = aws_endpoint_url(SERVICE, &region.parse().unwrap(), fips, dual_stack);
            assert_eq!(url, format!("https://{host}"));
        }
    }
}
