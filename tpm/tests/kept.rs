//! Primaries that are kept from one process to the next: what it saves, and that whoever can write into the folder gains nothing. All secrets are
//! test data.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ekm_otp_swtpm::{Recording, Swtpm, Tap};
use ekm_otp_tpm::{KeyFile, KeyKind, NewKey, Parent, Password, PrimaryAlgorithm, Settings, TpmHandle};
use tempfile::TempDir;
use zeroize::Zeroizing;

const SECRET: &[u8; 32] = b"a secret of the tests of what is";

/// TPM_CC (TCG part 2, 6.5.2)
const CREATE_PRIMARY: u32 = 0x131;
const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const START_AUTH_SESSION: u32 = 0x176;

struct Scene {
    swtpm: Swtpm,
    tap: Tap,
    runtime: TempDir,
    key: KeyFile,
    mac: [u8; 32],
}

fn private_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("a mode");
    folder
}

async fn key_under(swtpm: &Swtpm, parent: Parent) -> KeyFile {
    let tpm = TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread");
    let new = NewKey { parent, ..NewKey::new(KeyKind::HmacSha256) };
    tpm.create_hmac_key(new, Zeroizing::new(SECRET.to_vec())).await.expect("a key")
}

impl Scene {
    async fn new(parent: Parent) -> Self {
        let swtpm = Swtpm::start();
        let key = key_under(&swtpm, parent).await;
        let tpm = TpmHandle::open(swtpm.tcti().parse().expect("a TCTI string")).expect("a thread");
        let mac = *tpm.load(key.clone()).hmac(b"message").await.expect("a MAC");
        drop(tpm);
        let tap = Tap::on(&swtpm);
        Self { swtpm, tap, runtime: private_folder(), key, mac }
    }

    fn folder(&self) -> PathBuf {
        self.runtime.path().join("ekm-otp")
    }

    /// The only file there.
    fn file(&self) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(self.folder()).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn open(&self, settings: Settings) -> TpmHandle {
        let settings = Settings { kept_primaries: Some(self.folder()), ..settings };
        TpmHandle::open_with(self.tap.tcti().parse().expect("a TCTI string"), settings).expect("a thread")
    }

    /// What a process sends that makes one MAC. It is the right one, and nothing is left in the TPM.
    async fn run(&self) -> Vec<u32> {
        self.run_with(Settings::default()).await.commands
    }

    async fn run_with(&self, settings: Settings) -> Recording {
        let _ = self.tap.take();
        let tpm = self.open(settings);
        assert_eq!(*tpm.load(self.key.clone()).hmac(b"message").await.expect("a MAC"), self.mac);
        drop(tpm);
        let recording = self.tap.take();
        assert_eq!(self.swtpm.loaded_handles(), Vec::<String>::new());
        recording
    }
}

fn takes_the_kept_one(commands: &[u32]) -> bool {
    assert!(commands.contains(&CONTEXT_LOAD) || commands.contains(&CREATE_PRIMARY), "{commands:x?}");
    !commands.contains(&CREATE_PRIMARY)
}

#[tokio::test]
async fn a_primary_is_made_once_and_then_taken_as_it_was_kept() {
    for parent in [
        Parent::H2Primary,
        Parent::ToolsPrimary(PrimaryAlgorithm::Ecc),
        Parent::ToolsPrimary(PrimaryAlgorithm::Rsa),
        Parent::EndorsementKey(PrimaryAlgorithm::Ecc),
        Parent::EndorsementKey(PrimaryAlgorithm::Rsa),
    ] {
        let scene = Scene::new(parent).await;
        let first = scene.run().await;
        assert!(!takes_the_kept_one(&first) && first.contains(&CONTEXT_SAVE), "{parent:?}: {first:x?}");
        for (path, mode) in [(scene.folder(), 0o700), (scene.file(), 0o600)] {
            assert_eq!(fs::metadata(path).expect("it").permissions().mode() & 0o7777, mode);
        }
        for _ in 0..2 {
            let later = scene.run().await;
            assert!(takes_the_kept_one(&later) && !later.contains(&CONTEXT_SAVE), "{parent:?}: {later:x?}");
        }
    }
}

#[tokio::test]
async fn one_of_another_tpm_or_of_before_a_reset_is_made_anew() {
    let mut scene = Scene::new(Parent::H2Primary).await;
    scene.run().await;
    scene.swtpm.restart();
    assert!(!takes_the_kept_one(&scene.run().await));
    assert!(takes_the_kept_one(&scene.run().await));

    let other = Scene::new(Parent::H2Primary).await;
    other.run().await;
    fs::copy(other.file(), scene.file()).expect("copied");
    assert!(!takes_the_kept_one(&scene.run().await));
    assert!(takes_the_kept_one(&scene.run().await));
}

#[tokio::test]
async fn a_file_that_is_cut_or_changed_is_as_if_there_were_none() {
    let scene = Scene::new(Parent::H2Primary).await;
    scene.run().await;
    let whole = fs::read(scene.file()).expect("the file");
    let changed = |i: usize| [&whole[..i], &[whole[i] ^ 1], &whole[i + 1..]].concat();
    // Nothing, a part, sequence, hierarchy, the TPM's part, the public area; and no end of zeros.
    let others = [Vec::new(), whole[..100].to_vec(), changed(7), changed(15), changed(200), changed(whole.len() - 1), vec![0; 100_000]];
    for (i, bytes) in others.into_iter().enumerate() {
        fs::write(scene.file(), bytes).expect("written");
        assert!(!takes_the_kept_one(&scene.run().await), "{i}");
        assert!(takes_the_kept_one(&scene.run().await), "{i}: it is not mended");
    }
}

#[tokio::test]
async fn a_folder_or_file_that_others_can_get_at_is_not_used() {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    let scene = Scene::new(Parent::H2Primary).await;
    mode(scene.runtime.path(), 0o770);
    assert!(!takes_the_kept_one(&scene.run().await) && !scene.folder().exists());
    mode(scene.runtime.path(), 0o700);
    scene.run().await;
    for (path, open, private) in
        [(scene.runtime.path().to_owned(), 0o701, 0o700), (scene.folder(), 0o750, 0o700), (scene.file(), 0o640, 0o600)]
    {
        mode(&path, open);
        assert!(!takes_the_kept_one(&scene.run().await), "{}", path.display());
        mode(&path, private);
        assert!(takes_the_kept_one(&scene.run().await), "{}", path.display());
    }
    // Neither a link to one's own file, nor to one's own folder.
    let (file, elsewhere) = (scene.file(), scene.runtime.path().join("elsewhere"));
    fs::rename(&file, &elsewhere).expect("moved");
    symlink(&elsewhere, &file).expect("a link");
    assert!(!takes_the_kept_one(&scene.run().await));
    let elsewhere = scene.runtime.path().join("a folder elsewhere");
    fs::rename(scene.folder(), &elsewhere).expect("moved");
    symlink(&elsewhere, scene.folder()).expect("a link");
    assert!(!takes_the_kept_one(&scene.run().await));
}

#[tokio::test]
async fn the_owner_s_password_is_not_passed_by() {
    let scene = Scene::new(Parent::H2Primary).await;
    scene.run().await;
    scene.swtpm.tool("tpm2_changeauth", &["-c", "owner", "test password"]);
    let owner_password = Some(Password::new(b"test password".to_vec()).expect("a password"));
    for _ in 0..2 {
        let commands = scene.run_with(Settings { owner_password: owner_password.clone(), ..Settings::default() }).await.commands;
        assert!(!takes_the_kept_one(&commands) && !commands.contains(&CONTEXT_SAVE), "{commands:x?}");
    }
}

/// A P-256 point that somebody knows the private part of: the last 68 bytes of a primary's public area.
fn point_of_somebody(swtpm: &Swtpm) -> Vec<u8> {
    swtpm.tool("openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "theirs.pem"]);
    swtpm.tool("openssl", &["pkey", "-in", "theirs.pem", "-pubout", "-outform", "DER", "-out", "theirs.der"]);
    let der = fs::read(swtpm.dir().join("theirs.der")).expect("a key");
    let (x, y) = der[der.len() - 64..].split_at(32);
    [&[0, 32], x, &[0, 32], y].concat()
}

/// The file with another public area, and the name that goes with it.
fn with_public(file: &[u8], area: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    // Behind the area's size, the type and the name's digest.
    let name = file.len() - area.len() - 2 - 4 - 32;
    [&file[..name], &sha2::Sha256::digest(area), &file[name + 32..file.len() - area.len()], area].concat()
}

#[tokio::test]
async fn no_session_is_salted_to_a_key_that_stands_in_the_file_only() {
    let scene = Scene::new(Parent::H2Primary).await;
    scene.run().await;
    let whole = fs::read(scene.file()).expect("the file");
    let area = &whole[whole.len() - 0x5a..];
    assert_eq!(with_public(&whole, area), whole, "the file is not what this test takes it for");
    let theirs = [&area[..area.len() - 68], &point_of_somebody(&scene.swtpm)].concat();
    fs::write(scene.file(), with_public(&whole, &theirs)).expect("written");
    let commands = scene.run().await;
    let at = |code| commands.iter().position(|command| *command == code).expect("it is sent");
    assert!(at(CONTEXT_LOAD) < at(CREATE_PRIMARY) && at(CREATE_PRIMARY) < at(START_AUTH_SESSION), "{commands:x?}");
}

/// The TPM loads any public area without a private part, one that says that it is fixed to the TPM, too.
#[tokio::test]
async fn a_foreign_public_key_that_the_tpm_has_loaded_and_saved_is_of_no_use() {
    let scene = Scene::new(Parent::H2Primary).await;
    let right = scene.open(Settings::default()).parent_public(Parent::H2Primary).await.expect("a public area");
    scene.run().await;
    let whole = fs::read(scene.file()).expect("the file");
    let area = &whole[whole.len() - 0x5a..];
    let theirs = [&[0, 0x5a], &area[..area.len() - 68], &point_of_somebody(&scene.swtpm)[..]].concat();
    fs::write(scene.swtpm.dir().join("theirs.pub"), &theirs).expect("written");
    scene.swtpm.tool("tpm2_loadexternal", &["-Q", "-C", "o", "-u", "theirs.pub", "-c", "theirs.ctx"]);
    scene.swtpm.tool("tpm2_flushcontext", &["-t"]);
    // tpm2-tools: magic, version, hierarchy, savedHandle, sequence, then the blob behind its size.
    let saved = fs::read(scene.swtpm.dir().join("theirs.ctx")).expect("a context");
    let planted = [&saved[16..24], &saved[12..16], &saved[8..12], &saved[26..]].concat();
    assert!(planted.ends_with(&theirs), "the context is not what this test takes it for");

    fs::write(scene.file(), &planted).expect("written");
    let commands = scene.run().await;
    assert!(commands.contains(&CONTEXT_LOAD) && commands.contains(&CREATE_PRIMARY), "{commands:x?}");
    assert!(takes_the_kept_one(&scene.run().await), "it is not mended");

    // Where a parent is shown, others encrypt secrets to it.
    fs::write(scene.file(), &planted).expect("written");
    assert_eq!(scene.open(Settings::default()).parent_public(Parent::H2Primary).await.expect("a public area"), right);
}
