//! What leaves as plaintext: where to, and nowhere else. All secrets are test data.

#![cfg(feature = "cloud")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::cloud::{Peer, control, failed};
use common::kms::{PLAINTEXT, SECRET, encrypt, kms, output, user};
use common::{Bench, CLIENT, mode_of, succeeds, text};

/// A ciphertext of this in `secret.kms`, and the KMS that opens it.
fn sealed(plaintext: &[u8]) -> (Bench, Peer) {
    let bench = Bench::new();
    let kms = kms(&bench, &[]);
    encrypt(&bench, &kms, plaintext);
    fs::remove_file(bench.path("plain")).expect("removing");
    (bench, kms)
}

/// `kms decrypt` as somebody who may.
fn decrypt(bench: &Bench, kms: &Peer) -> Command {
    let mut client = user(bench, kms);
    client.args(common::kms::DECRYPT);
    client
}

/// What `command` comes to where this user is root, in mounts of its own that `script` makes before.
fn with_mounts(command: &Command, script: &str) -> Output {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-euc", &format!("{script}\nexec \"$@\""), "sh"]).arg(command.get_program());
    unshare.args(command.get_args()).current_dir(command.get_current_dir().expect("a folder")).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare.output().expect("unshare (util-linux)")
}

/// A new folder on a disk, and one in memory.
fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
    let folder = |of: &Path| tempfile::tempdir_in(of).expect("a folder");
    (folder(Path::new(env!("CARGO_TARGET_TMPDIR"))), folder(Path::new("/dev/shm")))
}

fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_file_is_written_in_memory_and_to_a_disk_only_where_that_is_asked_for() {
    let (bench, kms) = sealed(PLAINTEXT.as_bytes());
    let (disk, memory) = folders();
    let (on_disk, in_memory) = (disk.path().join("secret"), memory.path().join("secret"));
    let (code, told) = failed(&output(decrypt(&bench, &kms).arg("--out").arg(&on_disk)));
    assert!(code == Some(64) && told.contains("--allow-disk") && told.contains("/dev/shm"), "{told}");
    assert!(kms.told().iter().all(|call| !call.starts_with("Decrypt")), "found out before there was a plaintext");
    assert!(names(disk.path()).is_empty());
    for (path, flags) in [(&in_memory, &[][..]), (&on_disk, &["--allow-disk"])] {
        let made = output(decrypt(&bench, &kms).arg("--out").arg(path).args(flags));
        assert_eq!((succeeds(&made), text(&made.stderr)), (String::new(), String::new()));
        assert_eq!((fs::read_to_string(path).expect("the file"), mode_of(path)), (PLAINTEXT.to_owned(), 0o600));
        let (code, told) = failed(&output(decrypt(&bench, &kms).arg("--out").arg(path).args(flags)));
        assert!(code == Some(64) && told.contains("exists already"), "{told}");
        assert_eq!(names(path.parent().expect("a folder")), std::slice::from_ref(path));
    }
    assert_eq!(succeeds(&output(decrypt(&bench, &kms).args(["--out", "-"]))), PLAINTEXT);
    let (code, _) = failed(&output(decrypt(&bench, &kms).args(["--out", "/dev/shm/none/secret"])));
    assert_eq!(code, Some(69));
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let (bench, kms) = sealed(PLAINTEXT.as_bytes());
    // Four pages, which are used up.
    let full = "mkdir full; mount -t tmpfs -o size=16k tmpfs full; head -c 16384 /dev/zero > full/other; trap 'ls -A full' EXIT";
    let mut decrypt = decrypt(&bench, &kms);
    decrypt.args(["--out", "full/secret"]);
    let mut shell = Command::new("sh");
    shell
        .current_dir(bench.swtpm.dir())
        .args(["-c", "\"$@\"; echo $?; ls -A full", "sh"])
        .arg(decrypt.get_program())
        .args(decrypt.get_args());
    shell.envs(decrypt.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("XDG_RUNTIME_DIR");
    let made = with_mounts(&shell, full.split("; trap").next().expect("a script"));
    assert_eq!(text(&made.stdout), "1\nother\n", "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("cannot write full/secret: No space left"), "{}", text(&made.stderr));
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let (bench, kms) = sealed(PLAINTEXT.as_bytes());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let made = output(decrypt(&bench, &kms).stdout(full));
    assert_eq!(made.status.code(), Some(1));
    assert!(text(&made.stderr).contains("cannot write to standard output: No space left"), "{}", text(&made.stderr));
}

#[test]
fn a_signal_in_the_middle_leaves_no_file() {
    let (bench, kms) = sealed(PLAINTEXT.as_bytes());
    let (_, memory) = folders();
    control(&kms, r#"{"delay": 2}"#);
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let mut running = decrypt(&bench, &kms).arg("--out").arg(memory.path().join("secret")).spawn().expect("the client");
        std::thread::sleep(Duration::from_millis(500));
        assert!(Command::new("kill").args([&format!("-{signal}"), &running.id().to_string()]).status().expect("kill").success());
        assert_eq!(running.wait().expect("its end").code(), code, "{signal}");
        assert!(names(memory.path()).is_empty(), "{signal}");
    }
}

#[test]
fn a_program_gets_it_in_its_environment_and_its_exit_code_is_ours() {
    let (bench, kms) = sealed("two words\n$HOME'\"".as_bytes());
    let shell =
        |script: &str, flags: &[&str]| output(decrypt(&bench, &kms).args(flags).args(["--exec", "sh", "-c", script, "sh", "--help", "-x"]));
    // Flags after the program are its own.
    let made = shell("printf '%s|%s|%s' \"$EKM_OTP_SECRET\" \"$1\" \"$2\"; exit 7", &[]);
    assert_eq!((made.status.code(), text(&made.stdout).as_str()), (Some(7), "two words\n$HOME'\"|--help|-x"), "{}", text(&made.stderr));
    let made = shell("printf %s \"$DB_PASSWORD\"; env | grep -c EKM_OTP_SECRET", &["--env", "DB_PASSWORD"]);
    assert_eq!(text(&made.stdout), "two words\n$HOME'\"0\n");
    // It is that process, standard error is as it was, nothing of ours is open, and signals and pipes do what they do by default.
    let made = output(decrypt(&bench, &kms).args(["--exec", "ls", "/proc/self/fd"]));
    let of_this_test = output(Command::new("ls").arg("/proc/self/fd").stdin(Stdio::null()));
    assert_eq!(text(&made.stdout), text(&of_this_test.stdout));
    let made = output(decrypt(&bench, &kms).args(["--exec", "grep", "Sig", "/proc/self/status"]));
    let told = text(&made.stdout);
    // SIGPIPE (bit 12) is not ignored, nothing is blocked.
    assert!(told.contains("SigBlk:\t0000000000000000"), "{told}");
    let ignored = told.split("SigIgn:\t").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a mask");
    assert_eq!(u64::from_str_radix(ignored, 16).expect("a mask") & (1 << 12), 0, "{told}");
    let made = shell("echo here >&2; kill -TERM $$", &[]);
    assert_eq!((text(&made.stderr).as_str(), std::os::unix::process::ExitStatusExt::signal(&made.status)), ("here\n", Some(15)));
    // A first `--` is none of it.
    assert_eq!(text(&output(decrypt(&bench, &kms).args(["--exec", "--", "echo", "--", "a"])).stdout), "-- a\n");
    // What is no program.
    kms.told();
    for (command, code) in [("/none/such", 69), ("no-such-program", 69), ("./secret.kms", 77), ("/tmp", 77)] {
        let (told_code, told) = failed(&output(decrypt(&bench, &kms).args(["--exec", command])));
        assert_eq!(told_code, Some(code), "{told}");
        assert!(told.contains("cannot run ") && !told.contains("two words"), "{told}");
    }
    assert!(kms.told().is_empty(), "nothing is asked for that cannot be handed over");
    for flags in [&["--env", "A=B", "--exec", "true"][..], &["--env", "A"], &["--exec-stdin"], &["--exec", ""], &["--allow-disk"]] {
        assert_eq!(output(decrypt(&bench, &kms).args(flags)).status.code(), Some(64), "{flags:?}");
    }
}

#[test]
fn what_an_environment_cannot_hold_goes_to_standard_input_as_it_is() {
    let (bench, kms) = sealed(b"a\0b\xff\n");
    let (code, told) = failed(&output(decrypt(&bench, &kms).args(["--exec", "true"])));
    assert!(code == Some(64) && told.contains("NUL") && told.contains("--exec-stdin"), "{told}");
    let made = output(decrypt(&bench, &kms).args(["--exec-stdin", "--exec", "sh", "-c", "cat; env | grep -c EKM_OTP_SECRET; wc -c"]));
    assert_eq!(made.stdout, b"a\0b\xff\n0\n0\n", "from its start to its end, and nowhere else: {}", text(&made.stderr));
}

#[test]
fn a_terminal_is_shown_text_and_nothing_that_steers_it() {
    for (plaintext, is_shown) in [("öffne dich\n\tdu", true), ("\u{1b}[2J", false), ("a\0b", false), ("\u{9b}2J", false)] {
        let (bench, kms) = sealed(plaintext.as_bytes());
        let mut python = Command::new("python3");
        let code = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let decrypt = decrypt(&bench, &kms);
        python.args(["-c", code]).arg(decrypt.get_program()).args(decrypt.get_args()).current_dir(bench.swtpm.dir()).stdin(Stdio::null());
        python.envs(decrypt.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let made = output(&mut python);
        let told = text(&made.stdout).replace("\r\n", "\n");
        if is_shown {
            assert_eq!(told, plaintext);
        } else {
            assert_eq!(made.status.code(), Some(64));
            assert!(told.contains("would steer this terminal") && !told.contains(plaintext), "{told:?}");
        }
    }
}

#[test]
fn a_credential_for_systemd_is_root_s_alone_in_memory_and_takes_the_old_one_s_place() {
    let (bench, kms) = sealed(PLAINTEXT.as_bytes());
    let mut decrypt = decrypt(&bench, &kms);
    decrypt.args(["--systemd-credential", "app.password"]);
    let twice = format!(
        "mount -t tmpfs tmpfs /run; umask 022; for n in 1 2; do {CLIENT} {}; stat -c '%a %n' /run/credstore /run/credstore/*; done; ls -A /run/credstore | wc -l; cat \
         /run/credstore/app.password; exit 0",
        decrypt.get_args().map(|word| word.to_str().expect("UTF-8")).collect::<Vec<_>>().join(" ")
    );
    let made = with_mounts(&decrypt, &twice);
    let once = "700 /run/credstore\n600 /run/credstore/app.password\n";
    assert_eq!(text(&made.stdout), format!("{once}{once}1\n{PLAINTEXT}"), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("LoadCredential=app.password"), "{}", text(&made.stderr));
    // A folder that others can write to, or on a disk.
    for (script, why) in [
        ("mount -t tmpfs tmpfs /run; mkdir -m 777 /run/credstore", "only root can write"),
        ("mount -t tmpfs tmpfs /run; ln -s /tmp /run/credstore", "only root can write"),
        ("mkdir run; mount --bind run /run", "not in memory"),
    ] {
        let made = with_mounts(&decrypt, script);
        assert_eq!(made.status.code(), Some(77), "{script}: {}", text(&made.stderr));
        assert!(text(&made.stderr).contains(why), "{script}: {}", text(&made.stderr));
    }
    assert!(bench.path("run").is_dir() && !bench.path("run/credstore").exists(), "nothing is left where nothing is kept");
    // Somebody who may not.
    let may_not = "mount -t tmpfs -o mode=555 tmpfs /run; set -- setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let (code, told) = failed(&with_mounts(&decrypt, may_not));
    assert!(code == Some(77) && told.contains("only root may write to /run/credstore"), "{told}");
    for name in ["../x", "a/b", ".x", "a:b", ""] {
        assert_eq!(output(self::decrypt(&bench, &kms).args(["--systemd-credential", name])).status.code(), Some(64), "{name}");
    }
}

#[test]
fn nothing_of_it_is_logged_or_written_into_a_core_file() {
    let (bench, kms) = sealed(PLAINTEXT.as_bytes());
    let made = output(decrypt(&bench, &kms).env("RUST_LOG", "trace").env("TSS2_LOG", "all+trace"));
    assert_eq!((succeeds(&made).as_str(), text(&made.stderr).as_str()), (PLAINTEXT, ""));
    // Aborted while it holds a secret access key and waits for a plaintext.
    control(&kms, r#"{"delay": 30}"#);
    let decrypt = decrypt(&bench, &kms);
    let mut dumping = Command::new("sh");
    dumping.args(["-c", "ulimit -c unlimited; \"$@\" & sleep 1; kill -ABRT $!; wait $!; echo $?; ls core* 2>/dev/null", "sh"]);
    dumping.arg(decrypt.get_program()).args(decrypt.get_args()).current_dir(bench.swtpm.dir());
    dumping.envs(decrypt.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(text(&output(&mut dumping).stdout).trim(), "134", "aborted, and no core file");
    // Nothing of either lies where it worked.
    let mut files = vec![bench.swtpm.dir().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(names(&path));
        } else if path.is_file() {
            let found = text(&fs::read(&path).expect("a file"));
            assert!(!found.contains(PLAINTEXT) && !found.contains(SECRET), "{}", path.display());
        }
    }
}
