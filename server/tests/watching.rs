//! What a running server shows of itself: logs, metrics, health and the status page, after real traffic, hostile as it may be.

mod watched;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use watched::{BOB, HOSTILE, SECRETS, Watched, families};

/// A path that would end its line, its field or its JSON text, if it could.
const HOSTILE_PATH: &str = "/a%0A\"}{,\"status\":200,'&amp;%3Cscript%3E[31m|;message=request\\";

#[test]
fn what_happens_is_in_the_metrics_the_logs_and_the_status_page() {
    let server = Watched::start(&["--log-format", "json"]);
    let mut hostile = server.connect();
    hostile.get("/get", Some(&hostile.credential(HOSTILE))).expect(200);
    hostile.get("/nowhere", Some(&hostile.credential(HOSTILE))).expect(404);
    let mut nobody = server.connect();
    nobody.get("/get", None).expect(401);
    nobody.get("/get", Some(&nobody.credential(("nobody", SECRETS[1])))).expect(401);
    nobody.get("/get", Some(&nobody.credential((HOSTILE.0, SECRETS[1])))).expect(401);

    let families = server.metrics_once(|families| families.get("ekm_otp_refusals_total{reason=\"wrong\"}") == Some(&1.0));
    let is = |series: &str| families.get(series).copied().unwrap_or_else(|| panic!("{series} is not there: {families:#?}"));
    assert_eq!(is("ekm_otp_requests_total{site=\"localhost\",status=\"2xx\"}"), 1.0);
    assert_eq!(is("ekm_otp_requests_total{site=\"localhost\",status=\"4xx\"}"), 1.0);
    assert_eq!(is("ekm_otp_refusals_total{reason=\"missing\"}"), 1.0);
    assert_eq!(is("ekm_otp_refusals_total{reason=\"unknown_key\"}"), 1.0);
    assert_eq!(is("ekm_otp_handshakes_total{result=\"ok\"}"), 2.0);
    assert_eq!(is("ekm_otp_connections{state=\"verified\"}"), 1.0);
    assert_eq!(is("ekm_otp_connections{state=\"unverified\"}"), 1.0);
    assert_eq!(is("ekm_otp_request_duration_seconds_count{site=\"localhost\"}"), 2.0);
    assert_eq!(
        is("ekm_otp_response_body_bytes_total{site=\"localhost\"}"),
        ("ok\n".len() + "there is GET /get and GET /whoami\n".len()) as f64
    );
    assert_eq!(is("ekm_otp_registry_keys"), 2.0);
    assert_eq!(is("ekm_otp_ready{check=\"certificates\"}"), 1.0);
    assert!(is("ekm_otp_certificate_expiry_timestamp_seconds{site=\"localhost\"}") > 1.8e9);
    assert!(is("process_resident_memory_bytes") > 1e6 && is("process_open_fds") > 5.0);
    let of_client: Vec<_> =
        families.iter().filter(|(series, _)| series.starts_with("ekm_otp_client_requests_total{client=\"<script>")).collect();
    assert_eq!(of_client.iter().map(|(_, count)| **count).collect::<Vec<_>>(), [2.0], "{families:#?}");

    let status: Value = serde_json::from_str(&server.admin("/status.json").1).expect("JSON");
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["clients"][0]["name"], HOSTILE.2);
    assert_eq!(status["refused_in_last_hour"].as_array().expect("minutes").iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    let page = server.admin("/status").1;
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert_eq!(server.admin("/readyz").0, 200);
    assert_eq!(server.admin("/healthz"), (200, "ok workers: all threads answer\n".to_owned()));

    drop((hostile, nobody));
    server.metrics_once(|families| families.get("ekm_otp_connections_closed_total{reason=\"peer\"}") == Some(&2.0));
    let stopped = server.stop();
    let access: Vec<Value> = json_lines(&stopped.access);
    let requests: Vec<_> =
        access.iter().map(|line| (&line["fields"]["path"], &line["fields"]["status"], &line["fields"]["client"])).collect();
    assert_eq!(requests, [(&"/get".into(), &200.into(), &HOSTILE.2.into()), (&"/nowhere".into(), &404.into(), &HOSTILE.2.into())]);
    let audit: Vec<Value> = json_lines(&stopped.audit);
    let told: Vec<_> =
        audit.iter().map(|line| (line["outcome"].as_str().unwrap_or_default(), line["reason"].as_str().unwrap_or_default())).collect();
    for expected in [("verified", ""), ("refused", "missing"), ("refused", "unknown_key"), ("refused", "wrong"), ("closed", "peer")] {
        assert!(told.contains(&expected), "{told:?}");
    }
    assert_eq!(access[0]["fields"]["connection"], audit[0]["connection"], "one connection has one number in all logs");
}

fn json_lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn hostile_names_and_paths_stay_one_line_each() {
    for format in ["json", "text"] {
        let server = Watched::start(&["--log-format", format]);
        let mut client = server.connect();
        let credential = client.credential(HOSTILE);
        for _ in 0..3 {
            client.get(HOSTILE_PATH, Some(&credential)).expect(404);
        }
        drop(client);
        let stopped = server.stop();
        assert_eq!(stopped.access.lines().count(), 3, "{}", stopped.access);
        assert!(stopped.access.bytes().all(|byte| byte == b'\n' || byte >= b' '), "{}", stopped.access);
        if format == "json" {
            for line in json_lines(&stopped.access) {
                assert_eq!((&line["fields"]["path"], &line["fields"]["client"]), (&HOSTILE_PATH.into(), &HOSTILE.2.into()));
            }
        }
        json_lines(&stopped.audit);
    }
}

#[test]
fn no_credential_and_no_secret_is_in_any_log_metric_or_page() {
    let server = Watched::start(&["--log", "trace", "--log-format", "json"]);
    let mut shown = Vec::new();
    for key in [HOSTILE, BOB] {
        let mut client = server.connect();
        let right = client.credential(key);
        client.get("/whoami?token=nobodys-business", Some(&right)).expect(200);
        let wrong = client.credential((key.0, SECRETS[2]));
        client.get("/get", Some(&wrong)).expect(401);
        client.get("/get", Some("Bearer c29tZWJvZHkncyB0b2tlbg")).expect(401);
        for credential in [right, wrong] {
            shown.extend(credential.split('"').skip(1).step_by(2).skip(1).map(str::to_owned));
        }
    }
    let pages = ["/metrics", "/status", "/status.json", "/readyz"].map(|page| server.admin(page).1);
    let stopped = server.stop();
    assert!(shown.len() >= 8 && shown.iter().all(|value| value.len() > 20), "channels and passwords: {shown:?}");
    let forbidden = shown.iter().map(String::as_str).chain(SECRETS).chain(["nobodys-business", "c29tZWJvZHkncyB0b2tlbg", "PRIVATE KEY"]);
    for value in forbidden {
        for (name, text) in [("log", &stopped.log), ("access", &stopped.access), ("audit", &stopped.audit)] {
            assert!(!text.contains(value), "{value} is in the {name} log");
        }
        assert!(pages.iter().all(|page| !page.contains(value)), "{value} is on a page");
    }
    assert!(stopped.log.contains("\"level\":\"DEBUG\""), "more than usual is logged");
}

#[test]
fn a_log_on_a_full_disk_ends_nothing_and_its_lost_lines_are_counted() {
    let server = Watched::start(&["--access-log", "/dev/full"]);
    let mut client = server.connect();
    let credential = client.credential(HOSTILE);
    for _ in 0..20 {
        client.get("/get", Some(&credential)).expect(200);
    }
    let families = server.metrics_once(|families| families["ekm_otp_log_lines_lost_total{log=\"access\",reason=\"not_written\"}"] == 20.0);
    assert_eq!(families["ekm_otp_client_requests_total{client=\"other\"}"], 0.0);
    let stopped = server.stop();
    assert_eq!(stopped.log.matches("/dev/full").count(), 1, "it is told once: {}", stopped.log);
}

#[test]
fn a_log_that_was_moved_away_is_opened_again_on_a_signal() {
    let server = Watched::start(&[]);
    let path = server.folder().join("access.log");
    let mut client = server.connect();
    let credential = client.credential(HOSTILE);
    for (signal, nth) in [("USR1", 1), ("HUP", 2)] {
        client.get("/get", Some(&credential)).expect(200);
        server.until(|| fs::read_to_string(&path).is_ok_and(|log| log.lines().count() == 1));
        fs::rename(&path, server.folder().join(format!("access.log.{nth}"))).expect("renaming");
        server.signal(signal);
        server.until(|| path.exists());
    }
    client.get("/get", Some(&credential)).expect(200);
    drop(client);
    let mode = fs::metadata(&path).expect("the log").permissions().mode() & 0o777;
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    assert_eq!(server.stop().access.lines().count(), 1);
}

#[test]
fn the_admin_pages_are_for_this_machine_only_and_only_to_look_at() {
    let server = Watched::start(&[]);
    assert_eq!(server.ask("GET", "/metrics", "evil.example").0, 421);
    assert_eq!(server.ask("GET", "/metrics", "localhost.evil.example:9443").0, 421);
    assert_eq!(server.ask("POST", "/metrics", "localhost").0, 405);
    assert_eq!(server.ask("DELETE", "/status", "127.0.0.1").0, 405);
    assert_eq!(server.ask("GET", "/other", "localhost").0, 404);
    assert_eq!(server.ask("GET", "http://evil.example/metrics", "localhost").0, 421);
    let mode = fs::metadata(server.folder().join("admin.sock")).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    let socket = server.folder().join("admin.sock");
    drop(server.stop());
    assert!(!socket.exists(), "it leaves with its server");
    for (admin, told) in [("0.0.0.0:9443", "other machines"), ("192.0.2.1:9443", "other machines"), ("localhost:9443", "127.0.0.1:PORT")] {
        let (code, message) = watched::refused(&["--admin", admin]);
        assert_eq!(code, 64, "{message}");
        assert!(message.contains(told) && message.contains("admin"), "{message}");
    }
}

#[test]
fn readiness_turns_with_its_reasons_and_health_does_not() {
    let expired = Watched::start_with(watched::Setup::expired, &[]);
    let (status, checks) = expired.admin("/readyz");
    assert_eq!(status, 503);
    assert!(checks.contains("FAILS certificates: expired or not valid yet: localhost"), "{checks}");
    drop(expired.stop());

    // It takes connections, and answers none.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let upstream = format!("http://{}", hole.local_addr().expect("its address"));
    let server = Watched::start_with(|settings| settings.upstream(&upstream), &["--drain", "20"]);
    let mut client = server.connect();
    client.send(&format!("GET /get HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n", client.credential(HOSTILE)));
    let waiting = hole.accept().expect("the request");
    assert_eq!(server.admin("/readyz").0, 200);
    server.signal("TERM");
    server.until(|| server.admin("/readyz").0 == 503);
    assert!(server.admin("/readyz").1.contains("FAILS draining"));
    assert_eq!(server.admin("/healthz").0, 200);
    drop((client, waiting));
}

#[test]
fn the_metrics_are_what_prometheus_reads() {
    let server = Watched::start(&[]);
    let mut client = server.connect();
    client.get("/get", Some(&client.credential(HOSTILE))).expect(200);
    let text = server.admin("/metrics").1;
    // Panics where the text is not as the format says.
    let families = families(&text);
    assert!(families.len() > 50, "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn alerts_and_documentation_name_metrics_that_are_there() {
    let source = include_str!("../src/operations/exposition.rs");
    for text in [include_str!("../../examples/alerts.yml"), include_str!("../../docs/operations.md")] {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).filter(|word| word.starts_with("ekm_otp_"));
        let mut checked = 0;
        for word in words {
            let name = ["_total", "_seconds", "_info"].iter().fold(word, |name, suffix| name.strip_suffix(suffix).unwrap_or(name));
            // A crate, and the tables of the registry in PostgreSQL.
            let is_other = ["ekm_otp_tower", "ekm_otp_registry", "ekm_otp_key"].contains(&word);
            assert!(is_other || source.contains(&format!("\"{name}\"")), "there is no {word}");
            checked += 1;
        }
        assert!(checked > 10);
    }
}
