//! From an HTTP request to its answer: route, caller, faults, quota, operation.
//!
//! What an operation does is in `wire`; this file only decides whether it is carried out and whether
//! its answer arrives.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{Response, request::Parts},
};
use tokio::{net::TcpListener, time::Instant};

use super::{
    caller::{Caller, Unidentified},
    clock::format_http_date,
    config::SimLane,
    connection::{Connection, CuttableListener},
    denials,
    faults::{Call, Fault, Service},
    reply::{ApiError, Protocol, Reply},
    wire::{self, Route},
    world::{AskingSts, InFlight, LaneWorld, World, lock},
};

/// A request is read up to here, so that one beyond the hub's 6 MB can be answered properly.
const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A reset comes amid the status line.
const RESET_AFTER_BYTES: usize = 9;
/// A signature is good for five minutes before and after its time (IAM, "Signature Version 4").
const SIGNATURE_SECONDS_MAX: i64 = 300;

/// An answer, and how much of it arrives.
enum Answer {
    Whole(Reply),
    /// Closed after so many bytes.
    ClosedAfter(usize, Reply),
    ResetAfter(usize),
    /// Byte by byte.
    Trickled(Duration, Reply),
}

/// Serves until the world stops.
pub(super) async fn serve(listener: TcpListener, world: Arc<World>) {
    let stop = world.stop.clone();
    let router = Router::new().fallback(handle).with_state(world);
    let service = router.into_make_service_with_connect_info::<Connection>();
    let server = axum::serve(CuttableListener(listener), service);
    if let Err(error) = server.with_graceful_shutdown(stop.cancelled_owned()).await {
        eprintln!("simulator: stopped serving: {error}");
    }
}

async fn handle(
    State(world): State<Arc<World>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response<Body> {
    let request_id = world.next_uuid();
    let answer = answer(&world, request).await;
    world.note_change();
    let reply = match answer {
        Answer::Whole(reply) => reply,
        Answer::Trickled(pause, reply) => return reply.into_trickle(&request_id, pause),
        Answer::ClosedAfter(bytes, reply) => {
            connection.close_after(bytes);
            reply
        }
        Answer::ResetAfter(bytes) => {
            connection.reset_after(bytes);
            Reply::web_page()
        }
    };
    reply.into_response(&request_id)
}

fn closed_at_once() -> Answer {
    Answer::ClosedAfter(0, Reply::web_page())
}

async fn answer(world: &World, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else { return closed_at_once() };
    let Some(route) = Route::of(&parts, &body) else {
        return Answer::Whole(unknown(world, None, &parts, Protocol::RestJson));
    };
    let caller = match Caller::identify(&parts.headers, world) {
        Ok(caller) => caller,
        Err(why) => {
            lock(&world.stray).count_operation(&route.operation);
            return Answer::Whole(route.protocol.error(&unidentified(why, route.service)));
        }
    };
    let lane = world.lanes.get(&SimLane::new(&caller.account, &caller.region));
    let is_laneless = matches!(route.service, Service::Sts | Service::Sqs | Service::Organizations);
    if lane.is_none() && !is_laneless {
        return Answer::Whole(
            route.protocol.error(&unidentified(Unidentified::UnknownKey, route.service)),
        );
    }
    Identified { world, route, caller, lane, parts, body }.answer().await
}

fn unidentified(why: Unidentified, service: Service) -> ApiError {
    let is_sts = service == Service::Sts;
    let (code, message) = match why {
        Unidentified::NotSigned => {
            ("MissingAuthenticationTokenException", "Missing Authentication Token")
        }
        Unidentified::UnknownKey if is_sts => {
            ("InvalidClientTokenId", "The security token included in the request is invalid.")
        }
        Unidentified::UnknownKey => (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        Unidentified::ExpiredSession => return expired_token(service),
    };
    ApiError::new(403, code, message)
}

fn expired_token(service: Service) -> ApiError {
    let (status, code) = match service {
        Service::Ssm | Service::CloudControl | Service::Organizations => {
            (400, "ExpiredTokenException")
        }
        Service::SecurityHub => (403, "ExpiredTokenException"),
        Service::Sts | Service::Sqs => (403, "ExpiredToken"),
    };
    ApiError::new(status, code, "The security token included in the request is expired")
}

fn unknown(world: &World, lane: Option<&LaneWorld>, parts: &Parts, protocol: Protocol) -> Reply {
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let what = match target {
        Some(target) => target.to_string(),
        None => format!("{} {}", parts.method, parts.uri.path()),
    };
    world.note_unknown(lane, &what);
    unknown_operation(protocol, &what)
}

fn unknown_operation(protocol: Protocol, what: &str) -> Reply {
    let status = if protocol == Protocol::RestJson { 404 } else { 400 };
    protocol.error(&ApiError::new(
        status,
        "UnknownOperationException",
        format!("the simulator doesn't know {what}"),
    ))
}

/// A request whose sender and destination are known.
struct Identified<'w> {
    world: &'w World,
    route: Route,
    caller: Caller,
    lane: Option<&'w LaneWorld>,
    parts: Parts,
    body: Bytes,
}

impl Identified<'_> {
    async fn answer(&self) -> Answer {
        let _in_flight = self.count();
        let _asking_sts =
            (self.route.service == Service::Sts).then(|| AskingSts::enter(self.world));
        self.world.note_change();
        let faults = self.meet_faults();
        if faults.contains(&Fault::Refuse) {
            return closed_at_once();
        }
        if faults.contains(&Fault::Reset) {
            return Answer::ResetAfter(RESET_AFTER_BYTES);
        }
        if !self.delay(&faults).await {
            return closed_at_once();
        }
        if let Some(error) = self.region_off() {
            return Answer::Whole(self.route.protocol.error(&error));
        }
        if let Some(error) = self.over_quota() {
            return Answer::Whole(self.route.protocol.error(&error));
        }
        let refused = || self.refusal().map(|error| self.route.protocol.error(&error));
        if let Some(reply) = faults.iter().find_map(|fault| self.instead(fault)).or_else(refused) {
            return Answer::Whole(reply);
        }
        if !self.wait_for_messages().await {
            return closed_at_once();
        }
        self.after(self.carry_out(&faults), &faults)
    }

    /// Counts the request; an import is in flight until the guard goes.
    fn count(&self) -> Option<InFlight<'_>> {
        let Some(lane) = self.lane else {
            lock(&self.world.stray).count_operation(&self.route.operation);
            return None;
        };
        let is_import = self.route.is_import();
        {
            let mut stats = lock(&lane.stats);
            stats.count_operation(&self.route.operation);
            if is_import {
                stats.import_requests += 1;
                stats.import_requests_since_mark += 1;
            }
        }
        is_import.then(|| InFlight::enter(lane))
    }

    fn meet_faults(&self) -> Vec<Fault> {
        let call = Call {
            service: self.route.service,
            account: self.route.assumed_account.as_deref().unwrap_or(&self.caller.account),
            region: &self.caller.region,
            operation: &self.route.operation,
        };
        lock(&self.world.faults).meet(&call)
    }

    /// Waits as long as the faults say; false if the world stopped meanwhile.
    async fn delay(&self, faults: &[Fault]) -> bool {
        for fault in faults {
            let wait = async {
                match fault {
                    Fault::NeverAnswer => pending().await,
                    Fault::Latency { min, max } => {
                        let millis = |time: &Duration| u64::try_from(time.as_millis());
                        let (min, max) = (millis(min), millis(max));
                        let wait_ms = self
                            .world
                            .millis_between(min.unwrap_or(u64::MAX), max.unwrap_or(u64::MAX));
                        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    }
                    _ => {}
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.world.stop.cancelled() => return false,
            }
        }
        true
    }

    /// A long poll waits until its queue has something to give; false if the world stopped
    /// meanwhile.
    async fn wait_for_messages(&self) -> bool {
        /// The simulator's clock may be anybody's, so that nobody says when it has moved.
        const LOOK_INTERVAL: Duration = Duration::from_millis(20);
        let Some((queue, patience)) = wire::long_poll(&self.caller, &self.route, &self.body) else {
            return true;
        };
        let Some(queue) = self.world.queues.get(&queue) else { return true };
        let until = Instant::now() + patience;
        while Instant::now() < until && !lock(queue).has_visible(self.world.now_ms()) {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.world.stop.cancelled() => return false,
            }
        }
        true
    }

    /// The answer in a Region that the account hasn't opted in to.
    fn region_off(&self) -> Option<ApiError> {
        let account = self.route.assumed_account.as_deref().unwrap_or(&self.caller.account);
        let lane = SimLane::new(account, &self.caller.region);
        if !lock(&self.world.regions_off).contains(&lane) {
            return None;
        }
        let (code, message) = match self.route.service {
            Service::Sts => (
                "RegionDisabledException",
                "STS is not activated in this region for account. Your account administrator can \
                 activate STS in this region using the IAM Console.",
            ),
            _ => ("OptInRequired", "The AWS Access Key Id needs a subscription for the service"),
        };
        Some(ApiError::new(403, code, message))
    }

    fn over_quota(&self) -> Option<ApiError> {
        let lane = self.lane?;
        let now = Instant::now();
        let mut buckets = lock(&lane.buckets);
        let bucket = match (self.route.service, self.route.operation.as_str()) {
            (Service::Sts | Service::CloudControl | Service::Sqs | Service::Organizations, _) => {
                return None;
            }
            (Service::Ssm, _) => &mut buckets.ssm,
            (Service::SecurityHub, wire::IMPORT) => &mut buckets.import,
            (Service::SecurityHub, wire::GET_FINDINGS) => &mut buckets.get_findings,
            (Service::SecurityHub, _) => &mut buckets.hub_other,
        };
        if bucket.take(now) {
            return None;
        }
        let mut stats = lock(&lane.stats);
        match self.route.service {
            Service::Ssm => stats.throttled += 1,
            _ => stats.over_quota += 1,
        }
        Some(throttled(self.route.service))
    }

    /// What the caller is told if it may not do this.
    fn refusal(&self) -> Option<ApiError> {
        lock(&self.world.denials).refusal(&self.caller, &self.route, &self.body)
    }

    /// What a fault answers in place of the operation.
    fn instead(&self, fault: &Fault) -> Option<Reply> {
        let (protocol, service) = (self.route.protocol, self.route.service);
        let error = match fault {
            Fault::Outage => ApiError::new(503, "ServiceUnavailable", "Service Unavailable"),
            Fault::Throttle { ratio } if self.world.draw(*ratio) => {
                if let Some(lane) = self.lane {
                    lock(&lane.stats).throttled += 1;
                }
                throttled(service)
            }
            Fault::ExpiredToken => expired_token(service),
            Fault::AccessDenied => access_denied(service, &self.caller, &self.route.operation),
            Fault::HubOff if service == Service::SecurityHub => ApiError::new(
                401,
                "InvalidAccessException",
                format!("Account {} is not subscribed to AWS Security Hub", self.caller.account),
            ),
            Fault::ClockAhead { seconds } if seconds.abs() > SIGNATURE_SECONDS_MAX => {
                let error = ApiError::new(403, "RequestExpired", "Request has expired.");
                let date = Some(self.date_ahead(*seconds));
                return Some(Reply { date, ..protocol.error(&error) });
            }
            Fault::Empty200 => return Some(protocol.ok(Vec::new())),
            Fault::Html200 => return Some(Reply::web_page()),
            Fault::ForeignAnswer if self.route.is_import() => {
                return Some(protocol.ok(wire::foreign_import_answer()));
            }
            _ => return None,
        };
        Some(protocol.error(&error))
    }

    fn carry_out(&self, faults: &[Fault]) -> Reply {
        let protocol = self.route.protocol;
        let result = match (self.route.service, self.lane) {
            (Service::Sts, _) => wire::sts(self.world, &self.caller, &self.route, &self.body),
            (Service::Organizations, _) => {
                wire::organizations(self.world, &self.caller, &self.route, &self.body)
            }
            (Service::Sqs, _) => wire::sqs(self.world, &self.caller, &self.route, &self.body),
            (Service::Ssm, Some(lane)) => wire::ssm(self.world, lane, &self.route, &self.body),
            (Service::SecurityHub, Some(lane)) => {
                wire::hub(self.world, lane, &self.route, &self.body, faults)
            }
            (Service::CloudControl, Some(lane)) => {
                wire::cloud_control(lane, &self.route, &self.body)
            }
            (Service::Ssm | Service::SecurityHub | Service::CloudControl, None) => None,
        };
        match result {
            Some(Ok(body)) => protocol.ok(body),
            Some(Err(error)) => protocol.error(&error),
            None => unknown(self.world, self.lane, &self.parts, protocol),
        }
    }

    fn date_ahead(&self, seconds: i64) -> String {
        format_http_date(self.world.now_ms() + seconds * 1_000)
    }

    /// What happens to the answer of an operation that was carried out.
    fn after(&self, mut reply: Reply, faults: &[Fault]) -> Answer {
        for fault in faults {
            match fault {
                Fault::ClockAhead { seconds } => reply.date = Some(self.date_ahead(*seconds)),
                Fault::Truncated200 => {
                    let arriving_bytes = reply.head_bytes() + reply.body.len() / 2;
                    return Answer::ClosedAfter(arriving_bytes, reply);
                }
                Fault::LostReply { ratio } if self.world.draw(*ratio) => {
                    return Answer::ClosedAfter(0, reply);
                }
                Fault::Trickle { pause } => return Answer::Trickled(*pause, reply),
                _ => {}
            }
        }
        Answer::Whole(reply)
    }
}

fn throttled(service: Service) -> ApiError {
    match service {
        Service::Ssm | Service::CloudControl => {
            ApiError::new(400, "ThrottlingException", "Rate exceeded")
        }
        Service::Organizations => ApiError::new(
            400,
            "TooManyRequestsException",
            "AWS Organizations can't complete your request because another request is already in progress.",
        ),
        Service::SecurityHub => ApiError::new(429, "TooManyRequestsException", "Too Many Requests"),
        Service::Sts => ApiError::new(400, "Throttling", "Rate exceeded"),
        Service::Sqs => ApiError::new(400, "RequestThrottled", "Rate exceeded"),
    }
}

fn access_denied(service: Service, caller: &Caller, operation: &str) -> ApiError {
    let (user, prefix) = (caller.arn(), denials::prefix(service));
    ApiError::new(
        denials::status(service),
        denials::code(service),
        format!("User: {user} is not authorized to perform: {prefix}:{operation}"),
    )
}
