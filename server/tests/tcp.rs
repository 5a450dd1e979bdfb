//! Raw TCP through the server, and the paths below the well-known one that are the server's own.

mod proxied;

use proxied::upstream::{OK, Recorder};
use proxied::{ALICE, Server};

#[tokio::test]
async fn what_is_below_the_well_known_path_never_reaches_the_app() {
    let upstream = Recorder::start(OK).await;
    let server = Server::start(&[&upstream.url()], &["--open", "GET=^/.*$"]);
    for path in ["/.well-known/ekm-otp/", "/.well-known/ekm-otp/x", "/.well-known/ekm-otp/x?y=/../..", "/.well-known/ekm-otp//tcp"] {
        let answer = server.ask(ALICE, &format!("GET {path} HTTP/1.1\r\n"), b"").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.field("authentication-info").is_some(), "{path}: {answer:?}");
        // However much is open.
        let answer = server.ask_unverified(&format!("GET {path} HTTP/1.1\r\n")).await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    assert_eq!(server.ask(ALICE, "GET /.well-known/ekm-otp2 HTTP/1.1\r\n", b"").await.text(), "ok\n");
    assert!(upstream.request().starts_with("GET /.well-known/ekm-otp2 "));
}
