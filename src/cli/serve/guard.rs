//! Who may do what over HTTP, and what a browser is told to allow.
//!
//! Reading is for everybody who reaches the port. Whoever changes anything shows the
//! token: as a bearer, or by a session that it was exchanged for. A session's cookie
//! is the browser's to send, so what a foreign page might have it send is refused:
//!
//! - the cookie is `SameSite=Strict` and `HttpOnly`;
//! - a request that changes anything has the header `X-CacheFlow: 1`, which no form can
//!   send and no foreign script without being allowed to, which nobody is;
//! - where the browser says where a request comes from (`Origin`), it must be here.
//!
//! On loopback a name that leads here is not ours for that (DNS rebinding): `Host` must
//! be a name of loopback, or one of `--allow-host`.

use crate::connect::Secret;
use axum::extract::Request;
use axum::http::{header, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::Json;
use rand::Rng;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// The session's cookie.
const COOKIE: &str = "cacheflow_session";
/// The header that says that a request was made on purpose.
const ON_PURPOSE: HeaderName = HeaderName::from_static("x-cacheflow");
/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(8 * 3600);
/// Sessions at once: the oldest goes.
const SESSIONS: usize = 64;
/// Before a wrong token is answered: nobody tries many.
const WRONG_TOKEN: Duration = Duration::from_millis(300);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// See the module's text.
pub struct Guard {
    token: Option<Secret>,
    /// Names that lead here; `None`: any.
    hosts: Option<Vec<String>>,
    sessions: Mutex<HashMap<String, Instant>>,
}

/// A request that is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub StatusCode, pub &'static str);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl Guard {
    /// `hosts`: names that lead here; `None`: any.
    pub fn new(token: Option<Secret>, hosts: Option<Vec<String>>) -> Self {
        Self { token, hosts, sessions: Mutex::default() }
    }

    /// Whether there is a token, without which nobody changes anything.
    pub fn is_armed(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request may change anything.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if !self.is_armed() {
            return Err(Refused(StatusCode::FORBIDDEN, "read only: start it with --token-file"));
        }
        self.same_origin(headers)?;
        if let Some(bearer) = bearer(headers) {
            return if self.is_token(bearer) { Ok(()) } else { Err(WRONG) };
        }
        let session = self.session_of(headers);
        session.map(|_| ()).ok_or(Refused(StatusCode::UNAUTHORIZED, "no session: give the token"))
    }

    /// Whether a request comes from here, on purpose.
    ///
    /// # Errors
    /// Why it does not seem so.
    pub fn same_origin(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if headers.get(ON_PURPOSE).is_none_or(|value| value != "1") {
            return Err(Refused(StatusCode::FORBIDDEN, "the header X-CacheFlow: 1 is missing"));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        match (origin, host) {
            (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(Refused(StatusCode::FORBIDDEN, "the request comes from another page")),
        }
    }

    /// Whether a request has a session, or the token.
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|bearer| self.is_token(bearer)) || self.session_of(headers).is_some()
    }

    /// Begins a session for who knows the token; the cookie.
    ///
    /// # Errors
    /// It is the wrong one, or there is none.
    pub async fn begin(&self, token: &str, secure: bool) -> Result<HeaderValue, Refused> {
        if !self.is_token(token) {
            tokio::time::sleep(WRONG_TOKEN).await;
            return Err(WRONG);
        }
        // 256 bits of the thread's ChaCha12, seeded by the system.
        let bytes: [u8; 32] = rand::rng().random();
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let cookie = cookie(&id, SESSION, secure);
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| id.clone());
            oldest.and_then(|id| sessions.remove(&id));
        }
        sessions.insert(id, Instant::now() + SESSION);
        cookie
    }

    /// Ends a request's session; the cookie that takes it away.
    ///
    /// # Errors
    /// Never, of a cookie that can be written.
    pub fn end(&self, headers: &HeaderMap) -> Result<HeaderValue, Refused> {
        if let Some(id) = self.session_of(headers) {
            self.sessions().remove(&id);
        }
        cookie("", Duration::ZERO, false)
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        sessions.retain(|_, ends| *ends > now);
        sessions
    }

    fn session_of(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, id) = pairs.find(|(name, _)| *name == COOKIE)?;
        self.sessions().contains_key(id).then(|| id.to_string())
    }

    fn is_token(&self, given: &str) -> bool {
        self.token.as_ref().is_some_and(|token| token.reveal().as_bytes().ct_eq(given.as_bytes()).into())
    }

    fn is_host(&self, headers: &HeaderMap) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        hosts.iter().any(|one| one.eq_ignore_ascii_case(name))
    }

    /// Every request passes here, and every answer.
    pub async fn watch(&self, request: Request, next: Next) -> Response {
        let mut response = if self.is_host(request.headers()) {
            next.run(request).await
        } else {
            Refused(StatusCode::MISDIRECTED_REQUEST, "another's name leads here: --allow-host")
                .into_response()
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // What a page is made of says itself how long it is good for.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

const WRONG: Refused = Refused(StatusCode::UNAUTHORIZED, "this is not the token");

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookie(id: &str, lasts: Duration, secure: bool) -> Result<HeaderValue, Refused> {
    let secure = if secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lasts.as_secs());
    HeaderValue::from_str(&text)
        .map_err(|_| Refused(StatusCode::INTERNAL_SERVER_ERROR, "no cookie can be made"))
}

/// Whether the browser is spoken to by TLS, as a proxy in front says.
pub fn is_secure(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|value| value == "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        std::fs::write(&path, "t0ken").expect("written");
        Guard::new(
            Some(Secret::of_file(&path).expect("read")),
            Some(vec!["localhost".into(), "[::1]".into()]),
        )
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_token_or_nothing() {
        let purpose = ("x-cacheflow", "1");
        let guard = guard();
        assert_eq!(guard.admit(&headers(&[purpose, ("authorization", "Bearer t0ken")])), Ok(()));
        for wrong in [
            &headers(&[]),
            &headers(&[purpose]),
            &headers(&[("authorization", "Bearer t0ken")]),
            &headers(&[purpose, ("authorization", "Bearer t0ke")]),
            &headers(&[purpose, ("authorization", "t0ken")]),
            &headers(&[purpose, ("cookie", "cacheflow_session=")]),
            &headers(&[
                purpose,
                ("authorization", "Bearer t0ken"),
                ("origin", "http://evil"),
                ("host", "here"),
            ]),
            &headers(&[purpose, ("authorization", "Bearer t0ken"), ("origin", "null"), ("host", "null")]),
        ] {
            assert!(guard.admit(wrong).is_err(), "{wrong:?}");
        }
        let open = Guard::new(None, None);
        assert!(open.admit(&headers(&[purpose, ("authorization", "Bearer ")])).is_err(), "read only");
    }

    #[tokio::test]
    async fn a_session_is_as_good_until_it_ends() {
        let guard = guard();
        assert_eq!(guard.begin("wrong", false).await.map(|_| ()), Err(WRONG));
        let cookie = guard.begin("t0ken", true).await.expect("a session");
        let text = cookie.to_str().expect("text");
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(text.contains(part), "{text}");
        }
        let sent = format!("a=b; {}", text.split(';').next().expect("a pair"));
        let own = [
            ("x-cacheflow", "1"),
            ("cookie", sent.as_str()),
            ("origin", "http://Here:1"),
            ("host", "here:1"),
        ];
        assert_eq!(guard.admit(&headers(&own)), Ok(()));
        assert!(guard.admit(&headers(&own[1..])).is_err(), "a form of a foreign page");
        guard.end(&headers(&own)).expect("a cookie");
        assert!(guard.admit(&headers(&own)).is_err());
        for _ in 0..2 * SESSIONS {
            guard.begin("t0ken", false).await.expect("a session");
        }
        assert_eq!(guard.sessions().len(), SESSIONS);
    }

    #[test]
    fn names_that_lead_here() {
        let guard = guard();
        for (host, ours) in [
            ("localhost:9121", true),
            ("LOCALHOST", true),
            ("[::1]:9121", true),
            ("[::1]", true),
            ("evil:9121", false),
            ("", false),
        ] {
            assert_eq!(guard.is_host(&headers(&[("host", host)])), ours, "{host}");
        }
        assert!(Guard::new(None, None).is_host(&headers(&[])));
    }
}
