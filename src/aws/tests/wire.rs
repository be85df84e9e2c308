//! The real HTTP client on real sockets.

use aws_credential_types::Credentials;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{http::lane, rendered};
use crate::aws::{Aws, HoldReason, ImportReply, InstanceFate, http};

async fn aws(endpoint_url: String) -> Aws {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-2"))
        .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
        .http_client(http::client(None).unwrap())
        .endpoint_url(endpoint_url)
        .load()
        .await;
    Aws::from_config(config)
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads one request, head and body.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut part = [0_u8; 4096];
        let read = socket.read(&mut part).await.unwrap();
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().unwrap());
        if body.len() >= length {
            return text.into_owned();
        }
    }
}

async fn import_over_a_socket(answer: &'static str) -> ImportReply {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        socket.write_all(answer.as_bytes()).await.unwrap();
    });
    let hub = aws(url).await.lane(&lane(), None).await.hub;
    let reply = hub.import(vec![rendered()]).await;
    server.await.unwrap();
    reply
}

#[tokio::test]
async fn an_answer_cut_off_on_the_wire_is_unavailable_never_an_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"SuccessCount\":1,",
        "HTTP/1.1 200 OK\r\ncontent-len",
        "",
    ] {
        let reply = import_over_a_socket(answer).await;
        assert!(matches!(reply, ImportReply::Unavailable { .. }), "{answer:?}: {reply:?}");
    }
}

#[tokio::test]
async fn lanes_share_one_connection_pool() {
    const LANES: u32 = 5;
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        // Only one connection is ever accepted.
        let (mut socket, _) = listener.accept().await.unwrap();
        for _ in 0..LANES {
            read_request(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        }
    });
    let aws = aws(url).await;
    for account in 0..LANES {
        let lane = format!("{account:012}/us-east-2").parse().unwrap();
        let reply = aws.lane(&lane, None).await.hub.import(vec![rendered()]).await;
        assert!(matches!(reply, ImportReply::Answered { .. }), "{reply:?}");
    }
    server.await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_holds_the_lane() {
    let hub = aws("not a url".to_owned()).await.lane(&lane(), None).await.hub;
    let reply = hub.import(vec![rendered()]).await;
    assert!(
        matches!(reply, ImportReply::Held { reason: HoldReason::Misconfigured, .. }),
        "{reply:?}"
    );
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unavailable() {
    let (listener, url) = listen().await;
    drop(listener);
    let reply = aws(url).await.lane(&lane(), None).await.hub.import(vec![rendered()]).await;
    assert!(matches!(reply, ImportReply::Unavailable { .. }), "{reply:?}");
}

#[tokio::test]
async fn a_call_without_an_sdk_crate_is_signed_for_its_service_region_and_credentials() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = read_request(&mut socket).await;
        let answer = b"HTTP/1.1 400 Bad Request\r\nx-amzn-errortype: ResourceNotFoundException\r\n\
            content-length: 2\r\n\r\n{}";
        socket.write_all(answer).await.unwrap();
        request
    });
    let clients = aws(url).await.lane(&lane(), None).await;
    let node = "i-0123456789abcdef0".parse().unwrap();
    assert_eq!(clients.cloud_control.instance(&node).await, Ok(InstanceFate::Gone));
    let request = server.await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("post / http/1.1\r\n"), "{request}");
    for expected in [
        "authorization: aws4-hmac-sha256 credential=akidtest/",
        "/us-east-2/cloudcontrolapi/aws4_request, signedheaders=",
        "x-amz-target: cloudapiservice.getresource\r\n",
        "content-type: application/x-amz-json-1.0\r\n",
        "user-agent: patchferry/",
    ] {
        assert!(request.contains(expected), "{expected} isn't in {request}");
    }
}
