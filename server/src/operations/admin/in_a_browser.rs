//! The status page as a person sees it: in headless Chromium, with names that somebody chose with care. With `STATUS_PICTURE=FILE.png` in its
//! environment, the test leaves docs/status.png there, of names that are kinder.

use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ekm_otp_tower::Connections;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::answer;
use crate::log_queue::Lost;
use crate::operations::health::Facts;
use crate::operations::metrics::shards::{Histogram, Shards};
use crate::operations::process::Process;
use crate::operations::snapshot::{Reloads, SiteNumbers, Snapshot};
use crate::operations::sources::{Certificate, Health, OldKey, RegistryState, TunnelState, UpstreamState};

const HOSTILE: &str = "</td></tr></table><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><style>*{display:none}</style>&'\u{202e}\n";

/// A server that has done something for two weeks.
fn sample(client: &str) -> Snapshot {
    let now = SystemTime::now();
    let hours = |n: u64| Duration::from_secs(3600 * n);
    let certificates = vec![
        Certificate { site: "api.example.com".into(), not_before: now - hours(900), not_after: now + hours(1300) },
        Certificate { site: "billing.example.com".into(), not_before: now - hours(900), not_after: now + hours(190) },
    ];
    let upstream = |site: &str, address: &str, health, requests, failures| UpstreamState {
        site: site.into(),
        address: address.into(),
        health,
        requests,
        failures,
    };
    let upstreams = vec![
        upstream("api.example.com", "http://127.0.0.1:3000", Health::Up, 412_933, 2),
        upstream("api.example.com", "http://127.0.0.1:3001", Health::Down, 201_118, 1_204),
        upstream("billing.example.com", "unix:/run/billing.sock", Health::Up, 18_440, 0),
    ];
    let old = |kid: &str, client: &str, left: u64, used: Option<u64>| OldKey {
        kid: kid.into(),
        client: client.into(),
        not_after: Some(now + hours(left)),
        last_used: used.map(|minutes| now - Duration::from_secs(60 * minutes)),
    };
    let registry = RegistryState {
        engine: "postgres",
        is_reachable: true,
        fault: None,
        is_away: false,
        age: Duration::from_millis(400),
        is_stale: false,
        keys: 1_284,
        unreadable: 0,
        in_overlap: 2,
        overlap: vec![old("pay/2026-10", "payments", 41, Some(3)), old("ci-old", client, 5, None)],
    };
    let facts = Facts {
        is_draining: false,
        is_current: true,
        workers_answer: true,
        registry: &registry,
        certificates: &certificates,
        upstreams: &upstreams,
        now,
    };
    let checks = facts.checks();
    let site = |name: &str, by_class, step: u64, bytes| {
        let times: Shards<Histogram> = Shards::default();
        (0..1000).for_each(|n| times.mine().add(Duration::from_micros(180 + n * step)));
        let distribution = || times.distribution(|histogram| histogram);
        SiteNumbers { name: name.into(), by_class, head: distribution(), whole: distribution(), bytes_in: bytes / 9, bytes_out: bytes }
    };
    let busiest = [("payments", 302_211), ("warehouse", 204_377), (client, 88_030), ("ci", 21_954), ("alice@laptop", 12_004)];
    let mut open = Connections::new(ekm_otp_tower::Limits::default()).counts();
    (open.verified, open.unverified, open.handshaking) = (1_204, 31, 2);
    let handshakes: Shards<Histogram> = Shards::default();
    (0..500).for_each(|n| handshakes.mine().add(Duration::from_micros(900 + n)));
    Snapshot {
        at: now,
        started: now - hours(14 * 24 + 3),
        open,
        opened: 71_022,
        closed: [("age", 48_110), ("peer", 22_409), ("revoked", 12), ("unverified", 104)].into(),
        handshakes: handshakes.distribution(|histogram| histogram),
        handshakes_failed: [("deadline", 31), ("handshake", 418)].into(),
        refusals: [("missing", 402), ("revoked", 57), ("unknown_key", 96), ("wrong", 1_018)].into(),
        refused_in_last_hour: std::array::from_fn(|n| {
            if (22..29).contains(&n) { [14, 39, 61, 58, 33, 12, 3][n - 22] } else { (n as u64 * 7 % 11) / 4 }
        }),
        sites: vec![
            site("api.example.com", [3, 12, 601_330, 1_022, 10_400, 1_206], 4, 61_234_567_890),
            site("billing.example.com", [0, 0, 18_102, 0, 338, 0], 11, 2_345_678_901),
        ],
        clients: busiest.map(|(name, requests)| (name.into(), requests)).into(),
        requests_of_other_clients: 3_915,
        certificates,
        registry,
        upstreams,
        tunnels: vec![TunnelState {
            site: "api.example.com".to_owned(),
            target: "db.internal:5432".to_owned(),
            open: 7,
            opened: 1_402,
            failed: 3,
            to_target: 88_123_456,
            from_target: 12_345_678_901,
        }],
        logs: vec![("stderr", Lost::default()), ("access", Lost { no_room: 0, not_written: 212 })],
        reloads: Reloads::default(),
        process: Process {
            resident_bytes: Some(48 << 20),
            virtual_bytes: None,
            open_files: Some(1_311),
            max_files: Some(65_536),
            cpu: None,
            threads: Some(5),
        },
        checks,
    }
}

/// Serves a sample's pages, to one connection after the other.
async fn serve(listener: TcpListener, client: &'static str) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(move |request| async move {
            Ok::<_, Infallible>(answer::answer(&request, async || sample(client), async || true).await)
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn chromium(profile: &Path, more: &[&str], url: &str) -> (String, String) {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]);
    command.args(["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", profile.display())).args(more).arg(url);
    let output = command.output().unwrap_or_else(|e| panic!("cannot run chromium ({e}): install the Debian package `chromium`"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_browser_shows_the_page_whole_in_light_and_dark_and_runs_nothing_that_a_name_holds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let picture = std::env::var_os("STATUS_PICTURE");
    let client = if picture.is_some() { "reporting" } else { HOSTILE };
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}/status", listener.local_addr().expect("its address"));
    // It ends with the process.
    std::thread::spawn(move || runtime.block_on(serve(listener, client)));
    let folder = tempfile::tempdir().expect("a folder");

    let (dom, log) = chromium(&folder.path().join("dom"), &["--dump-dom"], &url);
    assert!(!log.contains("Content Security Policy") && !log.contains("CONSOLE"), "{log}");
    assert!(
        dom.contains("<title>EKM-OTP server: status</title>")
            && !dom.contains("<script")
            && !dom.contains("<img")
            && !dom.contains("<style"),
        "{dom}"
    );
    let count = |text: &str| dom.matches(text).count();
    let bars = sample(client).refused_in_last_hour.iter().filter(|minute| **minute > 0).count();
    assert_eq!((count("<svg"), count("class=\"bar\""), count("<desc ")), (1, bars, 1), "{dom}");
    assert!(count("<table>") >= 9 && count("<caption") == count("<table>") && count("</section></main>") == 1, "{dom}");

    let shot = |name: &str, scheme: &str| {
        let file = folder.path().join(name);
        let arguments = [
            &format!("--screenshot={}", file.display()),
            "--window-size=1000,1345",
            &format!("--blink-settings=preferredColorScheme={scheme}"),
        ];
        chromium(&folder.path().join(format!("{name}.profile")), &arguments, &url);
        std::fs::read(&file).expect("a picture")
    };
    let (light, dark) = (shot("light.png", "1"), shot("dark.png", "0"));
    assert!(
        light.starts_with(b"\x89PNG") && light.len() > 50_000 && dark.len() > 50_000 && light != dark,
        "{} {}",
        light.len(),
        dark.len()
    );
    if let Some(file) = picture {
        std::fs::write(&file, light).expect("writing");
        std::fs::write(Path::new(&file).with_extension("dark.png"), dark).expect("writing");
    }
}
