//! Answers, errors, and how each of AWS's wire protocols writes them.

use std::{borrow::Cow, convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde_json::json;

/// A wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// awsJson1.1: SSM.
    AwsJson,
    /// awsJson1.0: Cloud Control, SQS.
    AwsJson10,
    /// restJson1: Security Hub.
    RestJson,
    /// awsQuery: STS.
    Query,
}

/// An error in the service's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub status: u16,
    pub code: Cow<'static, str>,
    pub message: String,
}

impl ApiError {
    pub(super) fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }
}

/// An answer before it has headers.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub error_code: Option<String>,
    /// `Date`, where it isn't now.
    pub date: Option<String>,
    pub body: Vec<u8>,
}

impl Protocol {
    pub(super) fn ok(self, body: Vec<u8>) -> Reply {
        Reply { status: 200, content_type: self.content_type(), error_code: None, date: None, body }
    }

    pub(super) fn error(self, error: &ApiError) -> Reply {
        let (code, message) = (&*error.code, error.message.as_str());
        let body = match self {
            Self::AwsJson | Self::AwsJson10 => {
                json!({"__type": code, "message": message}).to_string()
            }
            Self::RestJson => json!({"Code": code, "Message": message}).to_string(),
            Self::Query => format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                 <Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
                escape_xml(code),
                escape_xml(message)
            ),
        };
        Reply {
            status: error.status,
            content_type: self.content_type(),
            error_code: Some(code.to_string()),
            date: None,
            body: body.into_bytes(),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::AwsJson => "application/x-amz-json-1.1",
            Self::AwsJson10 => "application/x-amz-json-1.0",
            Self::RestJson => "application/json",
            Self::Query => "text/xml",
        }
    }
}

impl Reply {
    pub(super) fn web_page() -> Self {
        let body = "<html><body><h1>This network asks you to log in</h1></body></html>";
        Self {
            status: 200,
            content_type: "text/html",
            error_code: None,
            date: None,
            body: body.into(),
        }
    }

    /// Roughly how many bytes the answer's head takes on the wire: a status line, the headers
    /// below, `content-length` and `date`.
    pub(super) fn head_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 160;
        FIXED_BYTES + self.content_type.len()
    }

    pub(super) fn into_response(mut self, request_id: &str) -> Response<Body> {
        let body = Body::from(std::mem::take(&mut self.body));
        self.with_body(request_id, body)
    }

    /// The body comes byte by byte, with a pause before each.
    pub(super) fn into_trickle(mut self, request_id: &str, pause: Duration) -> Response<Body> {
        let bytes = std::mem::take(&mut self.body).into_iter();
        let trickle = futures_util::stream::unfold(bytes, move |mut bytes| async move {
            let byte = bytes.next()?;
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(vec![byte]), bytes))
        });
        self.with_body(request_id, Body::from_stream(trickle))
    }

    fn with_body(self, request_id: &str, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Ok(request_id) = HeaderValue::from_str(request_id) {
            headers.insert("x-amzn-requestid", request_id);
        }
        if let Some(Ok(date)) = self.date.map(|date| HeaderValue::from_str(&date)) {
            headers.insert(header::DATE, date);
        }
        if let Some(Ok(code)) = self.error_code.map(|code| HeaderValue::from_str(&code)) {
            headers.insert("x-amzn-errortype", code);
        }
        response
    }
}

pub(super) fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
