//! git's own server for HTTP behind the application: `git http-backend` (CGI, RFC 3875).

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response, header};

use super::app::{Body, broken, text};

/// Answers what was asked below `/git`, for the repositories in this folder.
pub async fn answer(request: Request<Incoming>, folder: PathBuf) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let field = |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        // Whom the server has verified.
        .env("REMOTE_USER", field(header::HeaderName::from_static("ekm-otp-client")))
        .env("PATH_INFO", head.uri.path().strip_prefix("/git").unwrap_or_default())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("CONTENT_TYPE", field(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", field(header::CONTENT_ENCODING))
        .env("GIT_PROTOCOL", field(header::HeaderName::from_static("git-protocol")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let body = body.collect().await?.to_bytes();
    Ok(match tokio::task::spawn_blocking(move || run(command, &body)).await.expect("a task") {
        Ok(output) => read(&output.stdout),
        Err(error) => broken(&error),
    })
}

fn run(mut command: Command, body: &[u8]) -> io::Result<Output> {
    let mut backend = command.spawn()?;
    let mut input = backend.stdin.take().expect("its input");
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(body));
        backend.wait_with_output()
    })
}

/// What it wrote: fields, an empty line, a body.
fn read(output: &[u8]) -> Response<Body> {
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a header section");
    let mut response = text(Bytes::copy_from_slice(&output[end + 4..]));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a field");
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() = value.split(' ').next().and_then(|status| status.parse().ok()).expect("a status");
        } else {
            response.headers_mut().insert(name.parse::<header::HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
    }
    response
}
