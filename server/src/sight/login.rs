//! Logging in to the console: a key is pasted once, and a cookie stands for it until the session ends.
//!
//! The cookie is HttpOnly and SameSite=Strict, so that neither a script nor another site gets at it, and it says
//! nothing but whose key it was made with ([`crate::access::session`]).

use std::fmt::Write as _;
use std::net::IpAddr;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tonic::transport::server::TcpConnectInfo;

use super::http::Shared;
use crate::access::session::{COOKIE, SESSION_MS};
use crate::access::{Caller, Doors, Way, Who};
use crate::error::Failure;

/// Where it is.
pub const PATH: &str = "/login";
/// Where a session is ended.
pub const OUT_PATH: &str = "/logout";
/// Bytes of what is pasted.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// This page sends a form to itself and runs nothing.
const CONTENT_SECURITY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// Whether a browser should be sent here first.
pub fn is_needed(doors: &Doors, path: &str, headers: &HeaderMap) -> bool {
    doors.required() && path == "/" && doors.identify(headers).is_err()
}

/// Sends a browser on.
pub fn to(path: &'static str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static(path));
    response
}

/// The page: a form, and who is logged in.
pub async fn page(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let doors = &shared.doors;
    match doors.identify(&headers) {
        Ok(who) => shown(StatusCode::OK, Some(&who), ""),
        Err(_) if doors.required() => shown(StatusCode::OK, None, ""),
        Err(_) => shown(StatusCode::OK, None, "This node asks nobody for a key."),
    }
}

/// Takes a key, and begins a session.
pub async fn log_in(State(shared): State<Shared>, request: Request) -> Response {
    let doors = shared.doors.clone();
    let info = request.extensions().get::<TcpConnectInfo>();
    let from = info.and_then(|info| Some(info.remote_addr()?.ip().to_canonical()));
    let Ok(form) = to_bytes(request.into_body(), FORM_BYTES_MAX).await else {
        return shown(StatusCode::PAYLOAD_TOO_LARGE, None, "That is no key.");
    };
    let form = String::from_utf8_lossy(&form);
    // A key has no character that a form would encode.
    let key = form.strip_prefix("key=").unwrap_or_default().trim();
    match begun(&doors, key, from) {
        Ok(cookie) => {
            let mut response = to("/");
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(failure) => shown(StatusCode::UNAUTHORIZED, None, &told(&failure)),
    }
}

/// Ends the session in this browser.
pub async fn log_out() -> Response {
    let mut response = to(PATH);
    let gone = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    if let Ok(gone) = HeaderValue::try_from(gone) {
        response.headers_mut().insert(header::SET_COOKIE, gone);
    }
    response
}

fn begun(doors: &Doors, key: &str, from: Option<IpAddr>) -> Result<HeaderValue, Failure> {
    let book = doors.book().cloned();
    let caller = |who| Caller::new(who, from, PATH, book.clone());
    let who = match doors.of_credential(key) {
        Ok(who) => who,
        Err(unknown) => {
            let nobody = caller(std::sync::Arc::new(Who::nobody()));
            return Err(nobody.refuse("", Failure::Credentials(unknown)));
        }
    };
    let Way::Key(id) = &who.way else {
        return Err(Failure::field(
            "key",
            "must be an API key: a token is not taken here",
        ));
    };
    let session = doors.sessions().seal(id, doors.now_ms());
    let age = SESSION_MS / 1_000;
    let cookie = format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}");
    let cookie = HeaderValue::try_from(cookie);
    let cookie = cookie.map_err(|error| Failure::Internal(error.to_string()))?;
    caller(who.clone()).did("log in", "console");
    Ok(cookie)
}

fn told(failure: &Failure) -> String {
    tonic::Status::from(failure.clone()).message().to_owned()
}

fn shown(code: StatusCode, who: Option<&Who>, note: &str) -> Response {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Firebreak</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{font:16px system-ui;max-width:28rem;margin:15vh auto;padding:0 1rem}\
         input{width:100%;box-sizing:border-box;padding:.5rem;margin:.5rem 0}</style>\
         <h1>Firebreak</h1>",
    );
    // Writing to a String cannot fail.
    let _ = match who {
        Some(who) => write!(
            page,
            "<p>You are {} ({}).</p><p><a href=\"/\">To the console</a></p>\
             <form method=\"post\" action=\"{OUT_PATH}\"><button>Log out</button></form>",
            escaped(&who.name),
            who.roles.names().join(", ")
        ),
        None => write!(
            page,
            "<form method=\"post\" action=\"{PATH}\"><label>API key with the role viewer\
             <input name=\"key\" type=\"password\" autocomplete=\"off\" autofocus></label>\
             <button>Log in</button></form><p>{}</p>",
            escaped(note)
        ),
    };
    let mut response = (code, page).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    let security = HeaderValue::from_static(CONTENT_SECURITY);
    headers.insert(header::CONTENT_SECURITY_POLICY, security);
    response
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, one| {
        match one {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_markup() {
        assert_eq!(escaped("<b>\"a\" & b"), "&lt;b&gt;&quot;a&quot; &amp; b");
    }
}
