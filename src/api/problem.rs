//! Problems: what the API answers where it does not do what it was asked (RFC 9457).

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

use super::limits::FAULTS_MAX;

/// What is wrong with one field of a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct FieldFault {
    /// Where, as a path into the body: `lines[3].quantity`. A query parameter's name; empty for the whole.
    pub path: String,
    /// What is allowed.
    pub message: String,
}

/// All that is wrong with a request's fields, told at once.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<FieldFault>);

impl Faults {
    /// Notes one; beyond [`FAULTS_MAX`] they are left out.
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(FieldFault { path: path.into(), message: message.into() });
        }
    }

    /// Notes one where `ok` is false.
    pub(super) fn require(&mut self, ok: bool, path: impl FnOnce() -> String, message: &str) {
        if !ok {
            self.add(path(), message);
        }
    }

    /// `value`, where nothing was wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Problem> {
        if self.0.is_empty() { Ok(value) } else { Err(self.into_problem()) }
    }

    /// The problem that tells them.
    pub(super) fn into_problem(self) -> Problem {
        Problem::invalid(self.0)
    }
}

/// What kind of problem. The names are part of the API: `urn:tillmesh:problem:<name>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Syntax,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    Method,
    Timeout,
    Conflict,
    NotNow,
    Gone,
    TooLarge,
    MediaType,
    Invalid,
    Refused,
    NoRoom,
    TooMany,
    Busy,
    StoreUnavailable,
    Unavailable,
    Internal,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Syntax => (StatusCode::BAD_REQUEST, "syntax", "The body is not JSON"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "The request makes no sense"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "The API token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not from here"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "Not with this method"),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The request did not come in time"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "It is here already, and different"),
            Self::NotNow => (StatusCode::CONFLICT, "not-now", "Not in the present state"),
            Self::Gone => (StatusCode::GONE, "cursor-gone", "The cursor is of another database"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body must be JSON"),
            Self::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Fields are not as they should be"),
            Self::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "refused", "This is not taken here"),
            Self::NoRoom => (StatusCode::INSUFFICIENT_STORAGE, "no-room", "The disk has no room for it"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much at once"),
            Self::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "store", "The database cannot be used"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible now"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "A defect of this program"),
        }
    }
}

/// A problem, on its way to the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    faults: Vec<FieldFault>,
    retry_after_s: Option<u32>,
}

/// A problem as the client reads it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Problem"))]
pub(super) struct ProblemBody<'a> {
    /// Names the kind of problem; for programs.
    r#type: String,
    /// The kind of problem; for people.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do.
    detail: &'a str,
    /// What is wrong with each field.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldFault],
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new(), retry_after_s: None }
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("no such {what} here"))
    }

    /// One field of the path or query is not what it should be.
    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        let fault = FieldFault { path: name.to_owned(), message: message.into() };
        let detail = format!("{name}: {}", fault.message);
        Self { kind: Kind::BadRequest, detail, faults: vec![fault], retry_after_s: None }
    }

    fn invalid(faults: Vec<FieldFault>) -> Self {
        let detail = match faults.as_slice() {
            [only] if only.path.is_empty() => format!("nothing was stored: {}", only.message),
            [only] => format!("nothing was stored: {}: {}", only.path, only.message),
            more => format!("nothing was stored: {} fields are wrong", more.len()),
        };
        Self { kind: Kind::Invalid, detail, faults, retry_after_s: None }
    }

    /// What is wrong with each field.
    pub(super) fn faults(&self) -> &[FieldFault] {
        &self.faults
    }

    /// What happened, and what to do.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// An answer of the store that does not belong to the request.
    pub(super) fn unexpected_reply() -> Self {
        Self::new(Kind::Internal, "the store answered another question: please report this")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Rejected(r) => Self::invalid(vec![FieldFault { path: r.path, message: r.message }]),
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::Conflict(_) => Self::new(Kind::Conflict, detail),
            StoreError::Overloaded => Self::new(Kind::Busy, detail).retry_after(1),
            StoreError::DiskFull | StoreError::ReadOnly | StoreError::Io(_) | StoreError::Locked => {
                Self::new(Kind::StoreUnavailable, detail).retry_after(10)
            }
            StoreError::Closed => Self::new(Kind::StoreUnavailable, detail).retry_after(5),
            _ => Self::new(Kind::StoreUnavailable, detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.parts();
        let body = ProblemBody {
            r#type: format!("urn:tillmesh:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.faults,
        };
        let bytes = serde_json::to_vec(&body).expect("plain data serialises into memory");
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tillmesh\""));
        }
        if self.kind == Kind::Timeout {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_says_is_told_with_what_to_do() {
        for (error, status, word) in [
            (StoreError::rejected("lines[2].quantity", "more than zero"), 422, "lines[2].quantity"),
            (StoreError::NotFound("ticket"), 404, "ticket"),
            (StoreError::Conflict("ticket"), 409, "new id"),
            (StoreError::DiskFull, 503, "free some space"),
            (StoreError::ReadOnly, 503, "mount"),
            (StoreError::Io("x".to_owned()), 503, "card"),
            (StoreError::Locked, 503, "another agent"),
            (StoreError::Damaged("x".to_owned()), 503, "restore"),
            (StoreError::Overloaded, 503, "again"),
        ] {
            let problem = Problem::from(error.clone());
            assert!(problem.detail.contains(word), "{}", problem.detail);
            let response = problem.into_response();
            assert_eq!(response.status(), status, "{error}");
            let later = status == 503 && !matches!(error, StoreError::Damaged(_));
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), later, "{error}");
        }
    }
}
