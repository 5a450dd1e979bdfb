//! `request` as people use it who know curl: against an application behind the real server, and beside curl itself against the same application. All
//! secrets are test data.

mod common;

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use common::echo::{Echo, Seen};
use common::{Bench, Server, client, text, write_private};

/// An application, the server before it, and the client's flags for it.
struct Site {
    bench: Bench,
    server: Server,
    echo: Echo,
}

impl Site {
    fn new() -> Self {
        let bench = Bench::new();
        let secret = "dGVzdCBkYXRhLCB1c2VkIG5vd2hlcmUgZWxzZSAuLi4=";
        write_private(&bench.path("secret"), secret);
        write_private(&bench.path("secrets.toml"), &format!("[client1]\nclient = \"Alice\"\nsecret = \"{secret}\"\n"));
        let echo = Echo::start();
        let server = Server::start_before(&bench, &echo.url(), &[]);
        Self { bench, server, echo }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.port)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = client();
        command.args(&args[..1]).args(["--kid", "client1", "--secret-file", "secret", "--ca", "server.pem"]).args(&args[1..]);
        command.current_dir(self.bench.swtpm.dir()).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the client")
    }

    /// Exit code, standard output, and standard error without the warning of the secret's file.
    fn shown(&self, args: &[&str]) -> (Option<i32>, String, String) {
        shown(&self.run(args))
    }

    /// A request to this path, with these flags.
    fn get(&self, path: &str, flags: &[&str]) -> (Option<i32>, String, String) {
        self.shown(&[&["request", &self.url(path)], flags].concat())
    }
}

fn shown(output: &Output) -> (Option<i32>, String, String) {
    let told: String =
        text(&output.stderr).lines().filter(|line| !line.contains("the secret is in a file")).map(|line| format!("{line}\n")).collect();
    (output.status.code(), text(&output.stdout), told)
}

/// Feeds and waits.
fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let _ = child.stdin.take().expect("its input").write_all(input);
    child.wait_with_output().expect("its end")
}

/// What both sent: the boundary is chance, and what names the program, the way or the peer is each one's own.
fn alike(seen: &Seen) -> (String, String, Vec<(String, String)>, String) {
    let boundary = seen.field("content-type").and_then(|text| text.split_once("boundary=")).map(|(_, boundary)| boundary.to_owned());
    let same = |text: &str| boundary.as_ref().map_or_else(|| text.to_owned(), |boundary| text.replace(boundary.as_str(), "BOUNDARY"));
    let ours = |name: &str| {
        ["accept", "content-type", "content-length", "cookie", "range", "referer", "accept-encoding", "user-agent"].contains(&name)
            || name.starts_with("x-t-")
    };
    let mut fields: Vec<(String, String)> = seen
        .fields
        .iter()
        .filter(|(name, _)| ours(name.as_str()))
        .map(|(name, value)| (name.to_string(), same(&String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    fields.retain(|(name, value)| {
        let is_name = name == "user-agent" && (value.starts_with("curl/") || value.starts_with("ekm-otp-client/"));
        // The boundary's length is each one's own.
        let is_form_length = name == "content-length" && boundary.is_some();
        !is_name && !is_form_length
    });
    fields.sort();
    (seen.method.clone(), seen.target.clone(), fields, same(&String::from_utf8_lossy(&seen.body)))
}

#[test]
fn the_application_gets_the_same_as_from_curl() {
    let site = Site::new();
    let dir = site.bench.path("");
    fs::write(dir.join("lines.txt"), "a=1\r\nb=2\nc=3\n").expect("written");
    fs::write(dir.join("bytes.bin"), [0, 255, b'\n', b'\r', b'&']).expect("written");
    fs::write(dir.join("data.json"), "{\"a\": [1, 2]}\n").expect("written");
    fs::write(dir.join("two words;.html"), "<p>").expect("written");
    fs::write(dir.join("two words.html"), "<p>").expect("written");
    fs::write(dir.join("fields"), "X-T-One: 1\n\nX-T-Two:2\r\n").expect("written");
    fs::write(dir.join("empty"), "").expect("written");
    let cases: &[(&str, &[&str], &[u8])] = &[
        ("/x?y=z", &[], b""),
        ("/", &["-d", "a=1", "-d", "b=2"], b""),
        ("/", &["-d", "@lines.txt", "--data-binary", "@lines.txt", "--data-raw", "@lines.txt", "--data-ascii", "x"], b""),
        ("/", &["--data-binary", "@bytes.bin"], b""),
        ("/", &["-d", ""], b""),
        ("/", &["-d", "@empty"], b""),
        ("/", &["-d", "@-", "-d", "c=3"], b"a=1\nb=2\n"),
        ("/", &["--data-binary", "@-"], b"a=1\nb=2\n"),
        (
            "/",
            &[
                "--data-urlencode",
                "a b&c=d e+f/\u{e9}~_-.",
                "--data-urlencode",
                "=x=y z",
                "--data-urlencode",
                "name@lines.txt",
                "--data-urlencode",
                "@lines.txt",
                "--data-urlencode",
                "plain text",
            ],
            b"",
        ),
        ("/p?q=1", &["-G", "-d", "a=1", "--data-urlencode", "b=c d"], b""),
        ("/p", &["-G", "-I", "-d", "a=1"], b""),
        ("/", &["--json", "{\"a\":1}"], b""),
        ("/", &["--json", "{\"a\":", "--json", "1}"], b""),
        ("/", &["--json", "@data.json", "-H", "Accept: text/plain"], b""),
        ("/", &["--json", "@-", "-X", "PATCH"], b"[1]"),
        ("/", &["-F", "a=1", "-F", "b=x y;type=text/x-t", "--form-string", "c=@;<"], b""),
        ("/", &["-F", "f=@data.json;type=application/json", "-F", "t=<lines.txt", "-F", "p=@bytes.bin;filename=other \"name\".png"], b""),
        ("/", &["-F", "h=@\"two words;.html\"", "-F", "x=@lines.txt;type=text/plain; charset=utf-8;filename=y"], b""),
        ("/", &["-F", "a\"b=1", "-F", "g=@empty;filename=pic.JPEG"], b""),
        ("/", &["-F", "f=@-"], b"from a pipe"),
        ("/", &["-F", "f=@-;filename=a.txt"], b"from a pipe"),
        ("/", &["-F", "a=1", "-H", "Content-Type: multipart/form-data; charset=utf-8"], b""),
        ("/f", &["-T", "lines.txt"], b""),
        ("/dir/", &["-T", "two words.html"], b""),
        ("/dir/?x=1", &["-T", "lines.txt", "-X", "POST"], b""),
        ("/f", &["-T", "empty"], b""),
        ("/f", &["-T", "-"], b"from a pipe"),
        ("/", &["-X", "DELETE"], b""),
        ("/", &["-X", "OPTIONS", "-d", "x"], b""),
        ("/", &["-I"], b""),
        ("/", &["-H", "X-T-A: 1", "-H", "X-T-A:2", "-H", "X-T-Empty;", "-H", "Accept:", "-H", "User-Agent: me"], b""),
        ("/", &["-d", "x", "-H", "Content-Type:"], b""),
        ("/", &["-d", "x", "-H", "content-type: text/plain"], b""),
        ("/", &["-H", "@fields", "-A", "agent 007", "-e", "https://from.test/", "-b", "a=b; c=d", "-r", "0-4,-2"], b""),
        ("/", &["-H", "@-", "-A", ""], b"X-T-In: yes\n"),
    ];
    let mut differences = Vec::new();
    for (path, flags, input) in cases {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "curl.out"])
            .args(*flags)
            .arg(format!("{}{path}", site.echo.url()))
            .current_dir(&dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let output = fed(&mut curl, input);
        assert!(output.status.success(), "curl {flags:?}: {}", text(&output.stderr));
        let by_curl = site.echo.take();
        for version in ["--http1.1", "--http2"] {
            let output = fed(&mut site.command(&[&["request", "-o", "our.out", version, &site.url(path)], *flags].concat()), input);
            assert!(output.status.success(), "{flags:?}: {}", text(&output.stderr));
            let ours = site.echo.take();
            assert_eq!((by_curl.len(), ours.len()), (1, 1), "{flags:?}");
            let (mut theirs, ours) = (alike(&by_curl[0]), alike(&ours[0]));
            // curl guesses ten kinds of files and calls all others application/octet-stream.
            theirs.3 = theirs.3.replace("charset=utf-8;filename=y", "charset=utf-8");
            if theirs != ours {
                differences.push(format!("{flags:?} {version}:\n{theirs:?}\n{ours:?}"));
            }
        }
        let (theirs, ours) = (fs::read(dir.join("curl.out")).expect("a body"), fs::read(dir.join("our.out")).expect("a body"));
        if !flags.contains(&"-I") {
            assert_eq!(text(&theirs), text(&ours), "{flags:?}");
        }
    }
    assert!(differences.is_empty(), "curl's, then ours:\n{}", differences.join("\n"));
}

#[test]
fn write_out_tells_the_same_as_curl_s() {
    let site = Site::new();
    let format = r"%{http_code} %{response_code} %{content_type} %{size_download} %{size_upload} %{num_redirects} %{method} %{http_version} %{num_connects} %{filename_effective} %{exitcode} %{errormsg} %{onerror}nothing\n";
    for (path, flags) in [
        ("/", &[][..]),
        ("/status/204", &[]),
        ("/bytes/100000", &["-o", "/dev/null"]),
        ("/", &["-d", "some data"]),
        ("/", &["-I"]),
        ("/to/302/%2Fstatus%2F201", &["-L"]),
    ] {
        let told = |output: Output| text(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let curl =
            Command::new("curl").args(["-s", "-w", format]).args(flags).arg(format!("{}{path}", site.echo.url())).output().expect("curl");
        let ours = site.run(&[&["request", "--http1.1", "-w", format, &site.url(path)], flags].concat());
        assert_eq!(told(curl), told(ours), "{path} {flags:?}");
    }
    let (_, out, err) = site.get("/", &["-w", "%{json}", "-o", "/dev/null"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    let time = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("no {name}: {json}"));
    let times = ["time_namelookup", "time_connect", "time_appconnect", "time_pretransfer", "time_starttransfer", "time_total"].map(time);
    assert!(times[0] > 0.0 && times.windows(2).all(|two| two[0] <= two[1]), "{times:?}");
    assert!(time("mac_time") > 0.0 && time("mac_time") < time("time_pretransfer"), "{json}");
    for (name, expected) in [
        ("kid", serde_json::json!("client1")),
        ("credential", "otp".into()),
        ("server_proven", 1.into()),
        ("http_version", "2".into()),
        ("remote_ip", "127.0.0.1".into()),
        ("remote_port", site.server.port.into()),
        ("tls_version", "TLSv1.3".into()),
        ("tls_group", "X25519MLKEM768".into()),
    ] {
        assert_eq!(json[name], expected, "{name}");
    }
    // It is told of a failure, too, and a variable that nobody knows is found before anything is sent.
    let (code, out, _) = site.get("/silent", &["-m", "0.5", "-w", "%{http_code} %{exitcode}%{onerror} %{errormsg}", "-s"]);
    assert_eq!(code, Some(69));
    assert!(out.starts_with("000 69 it took longer than 500ms"), "{out}");
    site.echo.take();
    let (code, _, err) = site.get("/", &["-w", "%{http_cod}"]);
    assert!(code == Some(64) && err.contains("Is it http_code?"), "{err}");
    assert!(site.echo.take().is_empty());
}

#[test]
fn the_header_section_is_shown_where_it_is_asked_for() {
    let site = Site::new();
    let (_, out, _) = site.get("/", &["-i", "--http1.1"]);
    assert!(out.starts_with("HTTP/1.1 200 OK\r\n") && out.contains("\r\nx-echo: yes\r\n") && out.ends_with("\r\n\r\nok\n"), "{out}");
    let (_, out, _) = site.get("/", &["-i", "--http2-prior-knowledge"]);
    assert!(out.starts_with("HTTP/2 200 \r\n"), "{out}");
    let (code, out, _) = site.shown(&["head", &site.url("/")]);
    assert!(code == Some(0) && out.starts_with("HTTP/2 200 \r\n") && out.ends_with("\r\n\r\n"), "{out}");
    assert_eq!(site.echo.take().last().expect("a request").method, "HEAD");
    let (_, out, _) = site.get("/to/302/%2F", &["-D", "heads", "-L"]);
    let heads = fs::read_to_string(site.bench.path("heads")).expect("a file");
    assert_eq!((out.as_str(), heads.matches("HTTP/2 ").count()), ("ok\n", 2), "{heads}");
    let (_, out, _) = site.get("/", &["-D", "-"]);
    assert!(out.starts_with("HTTP/2 200 \r\n") && out.ends_with("\r\n\r\nok\n"), "{out}");
    // -v shows what was sent and what came, and neither credential nor proof.
    let (_, out, err) = site.get("/x", &["-v", "-d", "a", "-b", "session=hidden"]);
    assert_eq!(out, "ok\n");
    for line in [
        "> POST /x HTTP/2",
        "> content-type: application/x-www-form-urlencoded",
        "< HTTP/2 200 OK",
        "< x-echo: yes",
        "* answer: 200 OK",
        "> cookie: (not shown)",
    ] {
        assert!(err.contains(line), "{line} is missing in:\n{err}");
    }
    assert!(!err.contains("otp=") && !err.contains("proof=") && !err.contains("hidden"), "{err}");
}

#[test]
fn a_body_goes_to_its_file_and_stays_there_in_part_where_it_breaks_off() {
    let site = Site::new();
    let read = |name: &str| fs::read_to_string(site.bench.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    fs::write(site.bench.path("old"), "something longer that was there before").expect("written");
    assert_eq!(site.get("/", &["-o", "old"]), (Some(0), String::new(), String::new()));
    assert_eq!(read("old"), "ok\n");
    assert_eq!(
        site.get("/dir/name.txt?x=1", &["-O", "--output-dir", "a/b", "--create-dirs", "-w", "%{filename_effective}"]).1,
        "a/b/name.txt"
    );
    assert_eq!(read("a/b/name.txt"), "ok\n");
    assert_eq!(site.get("/status/204", &["-o", "nothing"]).0, Some(0));
    assert_eq!(read("nothing"), "");
    let (code, _, err) = site.get("/", &["-o", "c/d"]);
    assert!(code == Some(69) && err.contains("--create-dirs"), "{err}");
    let (code, _, err) = site.get("/dir/", &["-O"]);
    assert!(code == Some(64) && err.contains("-o FILE"), "{err}");
    for version in ["--http1.1", "--http2"] {
        let (code, _, err) = site.get("/cut", &["-o", "part", version]);
        assert!(code == Some(1) && err.contains("incomplete"), "{version}: {code:?} {err}");
        assert_eq!(read("part"), "the first");
        assert_eq!(site.get("/cut", &["-o", "gone", "--remove-on-error", version]).0, Some(1));
        assert!(!site.bench.path("gone").exists());
    }
    // -f leaves no file of an error, and without it there is what the server said.
    let (code, out, err) = site.get("/status/404", &["-f", "-o", "error"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("404 Not Found") && !site.bench.path("error").exists(), "{err}");
    assert_eq!(site.get("/status/404", &["-o", "error"]).0, Some(1));
    assert_eq!(read("error"), "the status 404\n");
}

#[test]
fn output_that_cannot_be_written_is_told() {
    let site = Site::new();
    let (code, _, err) = site.get("/bytes/1000000", &["-o", "/dev/full"]);
    assert_eq!((code, err.contains("cannot write to /dev/full: No space left on device")), (Some(1), true), "{err}");
    let (code, out, err) = site.get("/", &["-D", "/dev/full"]);
    assert_eq!((code, out.as_str(), err.contains("cannot write to /dev/full")), (Some(1), "", true), "{err}");
    for (flags, path) in [(&["-w", "%{http_code}", "-o", "/dev/null"][..], "/"), (&["-i"], "/"), (&["--repeat", "2"], "/")] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = site.command(&[&["request", &site.url(path)], flags].concat()).stdout(full).output().expect("the client");
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        assert!(text(&output.stderr).contains("cannot write to standard output: No space left"), "{flags:?}: {}", text(&output.stderr));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = site.command(&[&["request", "-s", &site.url(path)], flags].concat()).stdout(writer).output().expect("the client");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{flags:?}");
    }
}

#[test]
fn redirects_are_followed_within_the_origin_and_nowhere_else() {
    let site = Site::new();
    let methods =
        || site.echo.take().iter().map(|seen| format!("{} {} {}", seen.method, seen.target, text(&seen.body))).collect::<Vec<_>>();
    let (code, out, err) = site.get("/to/302/%2Fx", &[]);
    assert_eq!((code, out.as_str()), (Some(1), "moved\n"));
    assert!(err.contains(&format!("it is at {}", site.url("/x"))) && err.contains("-L"), "{err}");
    methods();
    for (status, method, flags, second) in [
        ("301", "POST", &["-d", "a"][..], "GET /x "),
        ("302", "POST", &["-d", "a", "-X", "POST"], "GET /x "),
        ("303", "PUT", &["-T", "server.pem"], "GET /x "),
        ("307", "POST", &["-d", "a"], "POST /x a"),
        ("308", "PATCH", &["-d", "a", "-X", "PATCH"], "PATCH /x a"),
        ("301", "POST", &["-d", "a", "--post301"], "POST /x a"),
        ("303", "HEAD", &["-I"], "HEAD /x "),
    ] {
        let (code, _, err) = site.get(&format!("/to/{status}/..%2F..%2Fx"), &[&["-L"], flags].concat());
        assert_eq!(code, Some(0), "{status}: {err}");
        let seen = methods();
        assert!(seen[0].starts_with(method) && seen.len() == 2, "{seen:?}");
        assert_eq!(seen[1], second, "{status} {flags:?}");
    }
    // What belongs to the body does not go on without it.
    site.get("/to/303/%2Fx", &["-L", "--json", "{}"]);
    assert_eq!(site.echo.take()[1].field("content-type"), None);

    let elsewhere = Echo::start();
    for target in
        [format!("https:%2F%2Flocalhost:{}%2F", elsewhere.address.port()), "http:%2F%2Flocalhost%2F".into(), "%2F%2Fother.test%2F".into()]
    {
        let (code, out, err) = site.get(&format!("/to/302/{target}"), &["-L"]);
        assert_eq!((code, out.as_str()), (Some(77), ""), "{target}: {err}");
        assert!(
            err.contains("another origin than https://localhost")
                && err.contains(if target.starts_with("%2F") { "https://other.test/" } else { "://localhost" }),
            "{err}"
        );
    }
    assert!(elsewhere.take().is_empty());
    let (code, _, err) = site.get("/to/302/%2Fto%2F302%2F..%252F..%252Fx", &["-L", "--max-redirs", "0"]);
    assert!(code == Some(1) && err.contains("--max-redirs"), "{err}");
    let (_, out, _) = site.get("/to/301/%2Fx", &["-w", "%{redirect_url}", "-o", "/dev/null"]);
    assert_eq!(out, site.url("/x"));
    let output = fed(&mut site.command(&["request", &site.url("/to/307/%2Fx"), "-L", "-T", "-"]), b"once");
    let (code, _, err) = shown(&output);
    assert!(code == Some(64) && err.contains("can be sent once"), "{err}");
}

#[test]
fn what_may_pass_is_tried_again() {
    let site = Site::new();
    let (code, out, err) = site.get("/flaky/a/2", &["--retry", "3", "--retry-delay", "0.01", "-d", "x"]);
    assert_eq!((code, out.as_str()), (Some(0), "at last\n"), "{err}");
    assert!(err.contains("503 Service Unavailable: tried again in 0.01 s, 2 tries left"), "{err}");
    assert_eq!(site.echo.take().iter().map(|seen| text(&seen.body)).collect::<Vec<_>>(), ["x"; 3]);
    // The last answer is shown as it would be without.
    let (code, out, _) = site.get("/flaky/b/9", &["--retry", "1", "--retry-delay", "0.01", "-w", "%{num_retries}"]);
    assert_eq!((code, out.as_str()), (Some(69), "not now\n1"));
    assert_eq!(site.echo.take().len(), 2);
    let (code, out, _) = site.get("/status/404", &["--retry", "3", "--retry-delay", "0.01"]);
    assert_eq!((code, out.as_str(), site.echo.take().len()), (Some(1), "the status 404\n", 1));
    assert_eq!(site.get("/status/404", &["--retry", "2", "--retry-delay", "0.01", "--retry-all-errors", "-f"]).0, Some(1));
    assert_eq!(site.echo.take().len(), 3);
    // Each try has its own time. What went into a file is taken back, what went to a pipe is not doubled.
    let (code, _, err) = site.get("/stall", &["--retry", "2", "--retry-delay", "0.01", "-m", "0.4", "-o", "out"]);
    assert_eq!((code, site.echo.take().len()), (Some(69), 3), "{err}");
    assert_eq!(fs::read_to_string(site.bench.path("out")).expect("a file"), "the first");
    let (code, out, _) = site.get("/stall", &["--retry", "2", "--retry-delay", "0.01", "-m", "0.4"]);
    assert_eq!((code, out.as_str(), site.echo.take().len()), (Some(69), "the first", 1));
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let url = format!("https://localhost:{free}/");
    let (code, _, err) = site.shown(&["request", &url, "--retry", "2", "--retry-delay", "0.01"]);
    assert!(code == Some(69) && !err.contains("tried again") && err.contains("is the server running"), "{err}");
    let (code, _, err) = site.shown(&["request", &url, "--retry", "2", "--retry-delay", "0.01", "--retry-connrefused"]);
    assert!(code == Some(69) && err.matches("tries left").count() == 2, "{err}");
    let (code, _, err) = shown(&fed(&mut site.command(&["request", &site.url("/"), "--retry", "1", "-T", "-"]), b"x"));
    assert!(code == Some(64) && err.contains("put it into a file"), "{err}");
}

#[test]
fn what_is_dialled_can_be_said_and_how_long_it_may_take() {
    let site = Site::new();
    let port = site.server.port;
    let (code, out, err) = site.shown(&["request", "https://localhost:1/", "--connect-to", &format!("localhost:1:127.0.0.1:{port}")]);
    assert_eq!((code, out.as_str()), (Some(0), "ok\n"), "{err}");
    let (code, out, err) = site.get("/", &["--connect-to", &format!("::127.0.0.1:{port}")]);
    assert_eq!((code, out.as_str()), (Some(0), "ok\n"), "{err}");
    let resolve = format!("localhost:{port}:127.0.0.2,127.0.0.1");
    let (code, out, err) = site.get("/", &["--resolve", &resolve, "-w", "%{remote_ip}"]);
    assert_eq!((code, out.as_str()), (Some(0), "ok\n127.0.0.1"), "{err}");
    // Somebody who takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}/", silent.local_addr().expect("an address").port());
    let (code, _, err) = site.shown(&["request", &url, "--connect-timeout", "0.3"]);
    assert!(code == Some(69) && err.contains("--connect-timeout"), "{err}");
    let (code, _, err) = site.get("/silent", &["--max-time", "0.5"]);
    assert!(code == Some(69) && err.contains("--max-time"), "{err}");
    let (code, out, err) = site.get("/stall", &["--timeout", "0.5"]);
    assert!(code == Some(69) && out == "the first" && err.contains("stalled"), "{err}");
}

#[test]
fn a_compressed_answer_is_shown_as_it_was_before() {
    let site = Site::new();
    let (code, out, err) = site.get("/gzip", &["--compressed", "-w", "%{size_download}"]);
    assert_eq!((code, out.as_str()), (Some(0), "compressed\n31"), "{err}");
    assert_eq!(site.echo.take()[0].field("accept-encoding"), Some("deflate, gzip, br, zstd"));
    assert_eq!(site.run(&["request", &site.url("/gzip")]).stdout[..2], [0x1f, 0x8b]);
    let (code, out, err) = site.get("/odd", &["--compressed"]);
    assert!(code == Some(1) && out.is_empty() && err.contains("\"compress\"") && err.contains("Leave --compressed out"), "{err}");
}

#[test]
fn exit_codes_say_what_the_status_says_unless_that_is_not_wanted() {
    let site = Site::new();
    for (status, code) in
        [(200, 0), (204, 0), (304, 0), (302, 1), (401, 77), (403, 77), (404, 1), (418, 1), (421, 77), (429, 69), (500, 1), (503, 69)]
    {
        let path = format!("/status/{status}");
        let (got, out, err) = site.get(&path, &[]);
        assert_eq!(got, Some(code), "{status}: {err}");
        assert_eq!(out.is_empty(), [204, 304].contains(&status), "{status}: {out}");
        assert_eq!(err.is_empty(), code == 0, "{status}: {err}");
        let (got, out, _) = site.get(&path, &["-f"]);
        assert_eq!((got, out.is_empty()), (Some(code), status >= 400 || [204, 304].contains(&status)), "{status}");
        assert_eq!(site.get(&path, &["--no-fail"]).0, Some(0), "{status}");
    }
    let quiet = site.run(&["request", &site.url("/status/404"), "-s", "-f"]);
    assert_eq!((quiet.status.code(), text(&quiet.stderr).as_str()), (Some(1), ""));
    let quiet = site.run(&["request", &site.url("/status/404"), "-fsS"]);
    assert_eq!(text(&quiet.stderr), "ekm-otp-client: the server answered 404 Not Found\n");
}

#[test]
fn wrong_usage_says_what_to_write_and_sends_nothing() {
    let site = Site::new();
    let url = site.url("/");
    for (told, args) in [
        ("`get` has no body", vec!["get", &url, "-d", "x"]),
        ("the method is POST by the command's name", vec!["post", &url, "-X", "PUT"]),
        ("cannot be used with", vec!["request", &url, "-d", "x", "-F", "a=b"]),
        ("cannot be used with", vec!["request", &url, "-T", "secret", "-d", "x"]),
        ("which has no body", vec!["request", &url, "-I", "-d", "x"]),
        ("-G puts into the URL", vec!["request", &url, "-G"]),
        ("standard input (-) is named twice", vec!["request", &url, "-d", "@-", "--data-binary", "@-"]),
        ("cannot read missing", vec!["request", &url, "-d", "@missing"]),
        ("cannot read missing", vec!["request", &url, "-F", "a=@missing"]),
        ("is a folder", vec!["request", &url, "-T", "/tmp"]),
        ("write it as NAME=CONTENT", vec!["request", &url, "-F", "a"]),
        ("write it as 'Name: value'", vec!["request", &url, "-H", "nocolon"]),
        ("host is set by the connection", vec!["request", &url, "-H", "Host: other"]),
        ("write it as HOST:PORT:ADDRESS", vec!["request", &url, "--resolve", "localhost"]),
        ("write it in seconds", vec!["request", &url, "-m", "soon"]),
        ("name its CA with --ca", vec!["request", &url, "-k"]),
        ("no proxy is used", vec!["request", &url, "-x", "http://p"]),
        ("the key says who you are", vec!["request", &url, "-u", "a:b"]),
        ("a tunnel is no request", vec!["request", &url, "-X", "CONNECT"]),
        ("cannot be used with", vec!["request", &url, "--repeat", "2", "-o", "x"]),
        ("with what is no ASCII percent-encoded", vec!["request", "localhost/x"]),
    ] {
        let (code, out, err) = site.shown(&args);
        assert!(matches!(code, Some(64 | 69)), "{args:?}: {code:?} {err}");
        assert!(out.is_empty() && err.contains(told), "{told:?} is missing for {args:?}:\n{err}");
    }
    assert!(site.echo.take().is_empty());
}

#[test]
fn each_name_of_the_command_has_its_method() {
    let site = Site::new();
    for (name, flags, method, body) in [
        ("get", &[][..], "GET", ""),
        ("head", &[], "HEAD", ""),
        ("post", &["-d", "x"], "POST", "x"),
        ("post", &[], "POST", ""),
        ("put", &["-d", "x"], "PUT", "x"),
        ("patch", &["--json", "{}"], "PATCH", "{}"),
        ("delete", &[], "DELETE", ""),
        ("get", &["-G", "-d", "x"], "GET", ""),
    ] {
        let (code, _, err) = site.shown(&[&[name, &site.url("/")], flags].concat());
        assert_eq!(code, Some(0), "{name}: {err}");
        let seen = site.echo.take();
        assert_eq!((seen[0].method.as_str(), text(&seen[0].body).as_str()), (method, body), "{name}");
    }
}

/// The most memory that it ever had, in KiB, and its exit code.
fn peak(mut child: Child) -> (u64, Option<i32>) {
    let mut most = 0;
    loop {
        if let Some(status) = child.try_wait().expect("its state") {
            return (most, status.code());
        }
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0);
        most = most.max(now);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_is_long_streams_both_ways_in_bounded_memory() {
    const LENGTH: u64 = 150 << 20;
    let site = Site::new();
    let file = fs::File::create(site.bench.path("long")).expect("a file");
    file.set_len(LENGTH).expect("a length");
    for version in ["--http1.1", "--http2"] {
        for flags in [&["-T", "long"][..], &["--data-binary", "@long"], &["-F", "f=@long"]] {
            let child = site
                .command(&[&["request", "-s", version, &site.url("/")], flags].concat())
                .stdout(Stdio::null())
                .spawn()
                .expect("the client");
            let (most, code) = peak(child);
            let seen = site.echo.take();
            assert_eq!(code, Some(0), "{flags:?}");
            let [seen] = &seen[..] else { panic!("{flags:?}: {seen:?}") };
            assert!(seen.length >= LENGTH && seen.length < LENGTH + 1000, "{flags:?}: {} of {:?}", seen.length, seen.fields);
            assert!(most > 1000 && most < 60 << 10, "{flags:?} {version}: {most} KiB");
        }
        let child =
            site.command(&["request", "-s", version, &site.url(&format!("/bytes/{LENGTH}")), "-o", "got"]).spawn().expect("the client");
        let (most, code) = peak(child);
        assert_eq!(site.echo.take().len(), 1);
        assert_eq!((code, fs::metadata(site.bench.path("got")).expect("a file").len()), (Some(0), LENGTH));
        assert!(most > 1000 && most < 60 << 10, "{version}: {most} KiB");
    }
}

#[test]
fn many_requests_are_summed_up() {
    let site = Site::new();
    let (code, out, err) = site.get("/", &["--repeat", "500", "--concurrency", "8"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(site.echo.take().len(), 500);
    for told in [
        &format!("GET {}\n500 requests, 8 at once, in ", site.url("/")),
        "         500  200 OK\n",
        "connections   1 (HTTP/2.0)\n",
        "by the software key  1 HMAC,",
        "p99.9",
        "up to",
        "|#",
    ] {
        assert!(out.contains(told), "{told:?} is missing in:\n{out}");
    }
    assert!(!out.contains('\x1b') && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let (_, out, err) = site.get("/", &["--repeat", "40", "--concurrency", "4", "--http1.1", "-d", "some data"]);
    assert!(out.contains("connections   4 (HTTP/1.1)\n") && out.contains("360 B sent"), "{out}{err}");
    assert!(site.echo.take().iter().all(|seen| seen.method == "POST" && seen.body == b"some data"));
    let (code, out, err) = site.get("/status/500", &["--repeat", "3"]);
    assert!(code == Some(1) && out.contains("  3  500 Internal Server Error\n") && err.contains("3 of 3 requests failed"), "{out}{err}");
    assert_eq!(site.get("/status/500", &["--repeat", "3", "--no-fail"]).0, Some(0));
    let (code, out, _) = site.get("/silent", &["--repeat", "2", "--concurrency", "2", "-m", "0.3"]);
    assert!(code == Some(1) && out.contains("  2  no answer: it took longer than 300ms (--max-time)\n"), "{out}");
    // Ended by a signal, it shows what there is.
    site.echo.take();
    let mut child = site.command(&["request", &site.url("/"), "--repeat", "100000000"]).stdout(Stdio::piped()).spawn().expect("the client");
    while site.echo.take().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(child.try_wait().expect("its state").is_none(), "it ended");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let output = child.wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stdout).contains("of 100,000,000 (ended early)"), "{}", text(&output.stdout));
}
