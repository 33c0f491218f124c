//! Who may ask what. Loopback reads are free; writes, the backup, the log and everything off loopback need a bearer token: one that
//! may read, or the one that may do everything. A web page of another site gets nowhere: it cannot name a `Host` that we accept (DNS
//! rebinding), nor hide its `Origin` (cross-site posts).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;

use crate::config::TokenScope;

use super::problem::{Kind, Problem};

/// The connection that a request came by.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Our end, as the client reached it.
    pub local: SocketAddr,
    /// The client's.
    pub peer: SocketAddr,
    /// Whether a request has brought the token: such a connection is the last to make room for another.
    pub trusted: Arc<AtomicBool>,
}

/// Who may use a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Everybody who reaches it: it tells nothing of the shop.
    Public,
    /// From loopback, or with any token.
    Loopback,
    /// With any token only.
    Read,
    /// With the token that may do everything only.
    Admin,
}

impl Access {
    /// Whether a client gets in: one on this machine or not, with a token of some scope or none.
    fn admits(self, loopback: bool, scope: Option<TokenScope>) -> bool {
        match self {
            Self::Public => true,
            Self::Loopback => loopback || scope.is_some(),
            Self::Read => scope.is_some(),
            Self::Admin => scope == Some(TokenScope::Admin),
        }
    }
}

/// The secrets of `<data dir>/api-token` and `api-token-read`. A clone is the same pair, also after one was replaced.
#[derive(Clone)]
pub struct Tokens(Arc<RwLock<Pair>>);

struct Pair {
    admin: String,
    read: String,
}

impl Tokens {
    /// Tokens as they stand in their files; white space around them does not count. An empty one opens nothing.
    #[must_use]
    pub fn new(admin: &str, read: &str) -> Self {
        Self(Arc::new(RwLock::new(Pair { admin: admin.trim().to_owned(), read: read.trim().to_owned() })))
    }

    /// Takes another token for a scope from now on; the former one opens nothing any more.
    pub(super) fn replace(&self, scope: TokenScope, token: &str) {
        let mut pair = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let place = match scope {
            TokenScope::Admin => &mut pair.admin,
            TokenScope::Read => &mut pair.read,
        };
        token.trim().clone_into(place);
    }

    /// What the token of a request is good for; none where it brings none that opens anything.
    pub(super) fn scope(&self, headers: &HeaderMap) -> Option<TokenScope> {
        bearer(headers).and_then(|given| self.scope_of(given))
    }

    /// What a token is good for. Takes as long whatever it has in common with either.
    fn scope_of(&self, given: &str) -> Option<TokenScope> {
        let pair = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is = |token: &str| !token.is_empty() & bool::from(token.as_bytes().ct_eq(given.as_bytes()));
        match (is(&pair.admin), is(&pair.read)) {
            (true, _) => Some(TokenScope::Admin),
            (false, true) => Some(TokenScope::Read),
            (false, false) => None,
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// Refuses requests whose `Host` or `Origin` is another site's, and sends the headers that browsers heed.
pub(super) async fn site(request: Request, next: Next) -> Response {
    let refused = match request.extensions().get::<Ends>() {
        Some(ends) => check_site(request.uri(), request.headers(), ends.local.ip()).err(),
        None => Some(Problem::new(Kind::Internal, "a request without a connection")),
    };
    let mut response = match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses requests that need a token and do not bring it.
pub(super) async fn token(State((access, tokens)): State<(Access, Tokens)>, request: Request, next: Next) -> Response {
    let scope = tokens.scope(request.headers());
    let ends = request.extensions().get::<Ends>();
    let loopback = ends.is_some_and(|ends| is_loopback(ends.peer.ip()));
    if scope == Some(TokenScope::Admin)
        && let Some(ends) = ends
    {
        ends.trusted.store(true, Ordering::Relaxed);
    }
    if access.admits(loopback, scope) {
        return next.run(request).await;
    }
    let (kind, detail) = match scope {
        Some(_) => (Kind::Forbidden, "this token may read only: send the one of the file api-token"),
        None => (
            Kind::Unauthorized,
            "send Authorization: Bearer with the text of the file api-token in the till's data folder",
        ),
    };
    Problem::new(kind, detail).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn check_site(uri: &Uri, headers: &HeaderMap, local: IpAddr) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Problem::new(Kind::BadRequest, "send one Host header"));
    };
    let host: Option<Authority> = host.to_str().ok().and_then(|h| h.parse().ok());
    let foreign =
        || Problem::new(Kind::Forbidden, "the Host header names neither this machine's loopback nor the address asked");
    let host = host.filter(|h| is_ours(h, local)).ok_or_else(foreign)?;
    if uri.authority().is_some_and(|a| a != &host) {
        return Err(foreign());
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let same = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        origin.strip_prefix("http://").is_some_and(|o| o.eq_ignore_ascii_case(host.as_str()))
    };
    if origins.all(same) {
        return Ok(());
    }
    Err(Problem::new(Kind::Forbidden, "the Origin header is another site's: its pages may not use this till"))
}

/// Whether a host is `localhost`, a loopback address or the address that the client reached. Names are never ours: a name can be made to
/// point anywhere. The port does not matter: tunnels change it.
fn is_ours(host: &Authority, local: IpAddr) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host();
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    literal.parse::<IpAddr>().is_ok_and(|ip| is_loopback(ip) || ip.to_canonical() == local.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        check_site(&Uri::from_static("/v1/status"), &headers, "192.168.1.21".parse().unwrap()).is_ok()
    }

    #[test]
    fn hosts() {
        for ours in ["localhost:3031", "LOCALHOST", "127.0.0.1:3031", "127.9.9.9", "[::1]:3031", "192.168.1.21:8080"] {
            assert!(check(ours, None), "{ours}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example", "192.168.1.22", "a@localhost", "[::2]", "", "127.0.0.1.nip.io"]
        {
            assert!(!check(foreign, None), "{foreign}");
        }
    }

    #[test]
    fn origins() {
        assert!(check("localhost:3031", Some("http://localhost:3031")));
        for foreign in ["http://localhost:80", "https://localhost:3031", "null", "http://evil.example", ""] {
            assert!(!check("localhost:3031", Some(foreign)), "{foreign}");
        }
    }

    #[test]
    fn the_target_and_the_host_agree() {
        let mut headers = HeaderMap::new();
        let local = "127.0.0.1".parse().unwrap();
        assert!(check_site(&Uri::from_static("/"), &headers, local).is_err(), "no Host");
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        assert!(check_site(&Uri::from_static("http://evil.example/"), &headers, local).is_err());
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(check_site(&Uri::from_static("/"), &headers, local).is_err(), "two Hosts");
    }

    #[test]
    fn off_loopback_all_but_the_page_needs_a_token() {
        let (read, admin) = (Some(TokenScope::Read), Some(TokenScope::Admin));
        assert!(Access::Loopback.admits(true, None) && !Access::Loopback.admits(false, None));
        assert!(Access::Loopback.admits(false, read) && Access::Loopback.admits(false, admin));
        assert!(
            !Access::Read.admits(true, None) && Access::Read.admits(false, read) && Access::Read.admits(true, admin)
        );
        assert!(!Access::Admin.admits(true, None) && !Access::Admin.admits(true, read));
        assert!(Access::Admin.admits(false, admin) && Access::Public.admits(false, None));
        for (address, loopback) in
            [("127.0.0.2", true), ("::1", true), ("::ffff:127.0.0.1", true), ("192.168.1.9", false)]
        {
            assert_eq!(is_loopback(address.parse().unwrap()), loopback, "{address}");
        }
    }

    #[test]
    fn each_token_opens_its_scope_and_an_empty_one_nothing() {
        let tokens = Tokens::new(" secret\n", "reader\n");
        assert_eq!(tokens.scope_of("secret"), Some(TokenScope::Admin));
        assert_eq!(tokens.scope_of("reader"), Some(TokenScope::Read));
        for wrong in ["secre", "secret ", "Secret", "readers", ""] {
            assert_eq!(tokens.scope_of(wrong), None, "{wrong:?}");
        }
        assert_eq!(Tokens::new("", "").scope_of(""), None);
        assert_eq!(Tokens::new("same", "same").scope_of("same"), Some(TokenScope::Admin));
        assert_eq!(format!("{tokens:?}"), "Tokens(..)");
    }

    #[test]
    fn a_token_that_was_replaced_opens_nothing_any_more() {
        let tokens = Tokens::new("a", "r");
        tokens.clone().replace(TokenScope::Read, "s\n");
        assert_eq!((tokens.scope_of("r"), tokens.scope_of("s")), (None, Some(TokenScope::Read)));
        tokens.replace(TokenScope::Admin, "b");
        assert_eq!((tokens.scope_of("a"), tokens.scope_of("b")), (None, Some(TokenScope::Admin)));
    }
}
