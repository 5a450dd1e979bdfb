//! Flags and configuration file, resolved into one [`Config`] before anything is opened. Flags win. All that is wrong is told at once.

mod credentials;
mod faults;
mod flags;
mod general;
mod site;
mod table;
mod words;

use std::path::{Path, PathBuf};

use ekm_otp_files::settings::keys_of;

use crate::doors::{self, Address, Doors};
use crate::error::ServerError;
use crate::operations;
use crate::proxy::SiteSettings;
use crate::registry;
use crate::settings::{Mistakes, Settings};
use crate::tcp;

pub(crate) use self::faults::Faults;
pub(crate) use self::flags::RunArgs;
use self::general::{General, GeneralSettings};
pub(crate) use self::site::Site;
use self::site::{Lines, SiteKeys};
use self::table::{Table, Tables};

/// What the server runs with. Complete and checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// The file that it was read from.
    file: Option<PathBuf>,
    is_whole: bool,
    pub(crate) doors: Doors,
    pub(crate) registry: registry::Config,
    pub(crate) general: General,
    pub(crate) operations: operations::Config,
    pub(crate) tunnels: tcp::Config,
    /// At least one, where there is no fault.
    pub(crate) sites: Vec<Site>,
}

/// A configuration and what is wrong with it. With faults it is good for looking at, not for running.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) config: Config,
    pub(crate) faults: Faults,
    /// Whether the file is TOML. Else nothing that was read of it counts, nor is it to be shown: half of it may be something else.
    pub(crate) is_toml: bool,
}

/// Allows something for all sites: it is a flag only.
const UNSAFE_UPSTREAM: &str = "unsafe_upstream";
/// Keys that sites take from the top level where they have none of their own.
const SHARED: [&str; 12] = [
    "certificate",
    "private_key",
    "credentials",
    "upstream_ca",
    "upstream_certificate",
    "upstream_private_key",
    "identity_client",
    "identity_kid",
    "identity_claims",
    "connect_timeout",
    "response_timeout",
    "idle_timeout",
];

impl Config {
    /// # Errors
    /// All that is wrong, a line each.
    pub(crate) fn resolve(args: &RunArgs) -> Result<Self, ServerError> {
        let Reading { config, faults, .. } = Self::read(args)?;
        faults.into_result().map(|()| config)
    }

    /// The files that it names, its own among them. The registry looks after its own.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let sites = self.sites.iter().flat_map(|site| [&site.certificate, &site.private_key].into_iter().chain(site.proxy.files()));
        self.file.iter().chain(sites).cloned().collect()
    }

    /// The files that are written to, or made: logs, sockets, a database in a file.
    pub(crate) fn written(&self) -> Vec<PathBuf> {
        let sockets =
            self.doors.listen.iter().filter_map(|address| if let Address::Unix(path) = address { Some(path.clone()) } else { None });
        let database = self.registry.written().into_iter().flat_map(|file| {
            // SQLite spills what does not fit into memory.
            [file, std::env::temp_dir().join("spilled")]
        });
        sockets.chain(self.operations.written()).chain(database).collect()
    }

    /// Whether the file's last line has an end, as that of a file that was cut off seldom has.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Which settings differ from those `before`, and are looked at when the server starts only.
    pub(crate) fn only_at_start(&self, before: &Self) -> Vec<&'static str> {
        let (a, b) = (&self.general, &before.general);
        let doors = self.doors.only_at_start(&before.doors);
        let rest = [
            ("registry", format!("{:?}", self.registry) != format!("{:?}", before.registry)),
            ("tls12", a.tls.tls12 != b.tls.tls12),
            ("require_post_quantum", a.tls.require_post_quantum != b.tls.require_post_quantum),
            ("admin, access_log or audit_log", format!("{:?}", self.operations) != format!("{:?}", before.operations)),
            ("max_tunnels or max_tunnels_per_connection", self.tunnels != before.tunnels),
            ("log", a.log != b.log),
            ("log_format", a.log_format as u8 != b.log_format as u8),
        ];
        doors.into_iter().chain(rest).filter_map(|(key, is_different)| is_different.then_some(key)).collect()
    }

    /// # Errors
    /// Where the file cannot be read at all.
    pub(crate) fn read(args: &RunArgs) -> Result<Reading, ServerError> {
        let Some(path) = args.file() else { return Ok(of_text(args, None, "")) };
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|e| ServerError::io(&format!("cannot read {shown}"), &e))?;
        Ok(of_text(args, Some(&path), text.strip_prefix('\u{feff}').unwrap_or(&text)))
    }
}

/// Reads one part after the other out of a table, and keeps what is wrong with it.
struct Reader<'a, 't> {
    args: &'a RunArgs,
    folder: PathBuf,
    tables: Tables<'t>,
    faults: Faults,
}

fn of_text(args: &RunArgs, path: Option<&Path>, text: &str) -> Reading {
    let mut tables = Tables::parse(text);
    let mut faults = Faults::of(path);
    let mut no_toml = Faults::of(path);
    no_toml.extend(tables.faults.iter().cloned());
    faults.extend(std::mem::take(&mut tables.faults));
    let folder = path.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let mut root = std::mem::replace(&mut tables.root, Table::empty());
    let mut sites = std::mem::take(&mut tables.sites);
    let mut reader = Reader { args, folder, tables, faults };

    let doors = reader.resolved(&mut root, doors::Settings::resolve);
    let registry = reader.resolved(&mut root, registry::Settings::resolve);
    // An empty variable of the environment says nothing, and does not win over the file.
    let log = root.text("log");
    let general = reader.resolved(&mut root, |mut general: GeneralSettings, mistakes| {
        general.log = general.log.take().filter(|log| !log.trim().is_empty()).or(log);
        general.resolve(mistakes)
    });
    let operations = reader.resolved(&mut root, operations::Settings::resolve);
    let tunnels = reader.resolved(&mut root, tcp::Settings::resolve);
    let sites = if sites.is_empty() { reader.site(&mut root, true).into_iter().collect() } else { reader.sites(&mut root, &mut sites) };
    root.left_over(|_| None, &mut reader.faults);
    let is_toml = reader.tables.is_toml;
    let faults = if is_toml { reader.faults } else { no_toml };
    Reading {
        config: Config {
            file: path.map(Path::to_owned),
            is_whole: text.ends_with('\n'),
            doors,
            registry,
            general,
            operations,
            tunnels,
            sites,
        },
        faults,
        is_toml,
    }
}

impl Reader<'_, '_> {
    /// A part's settings: its keys of the table and, over them, its flags.
    fn part<T: Settings + clap::Args>(&mut self, table: &mut Table<'_>, with_flags: bool) -> T {
        let mut settings = table.take::<T>(&self.folder, &self.tables.lines, &mut self.faults);
        if with_flags && let Err(e) = self.args.over(&mut settings) {
            self.faults.add_flag(e.to_string());
        }
        settings
    }

    fn resolved<T: Settings + clap::Args, R>(&mut self, table: &mut Table<'_>, resolve: impl FnOnce(T, &mut Mistakes) -> R) -> R {
        let settings = self.part::<T>(table, true);
        self.place(table, true, |mistakes| resolve(settings, mistakes))
    }

    fn place<R>(&mut self, table: &Table<'_>, with_flags: bool, resolve: impl FnOnce(&mut Mistakes) -> R) -> R {
        let mut mistakes = Mistakes::default();
        let resolved = resolve(&mut mistakes);
        for mistake in mistakes.into_vec() {
            let flag = if with_flags { self.args.given(mistake.key) } else { None };
            self.faults.add(mistake, flag, table);
        }
        resolved
    }

    fn site(&mut self, table: &mut Table<'_>, with_flags: bool) -> Option<Site> {
        let keys = self.part::<SiteKeys>(table, with_flags);
        let mut proxy = self.part::<SiteSettings>(table, with_flags);
        proxy.unsafe_upstream = self.args.is_set(UNSAFE_UPSTREAM);
        let mut site = self.place(table, with_flags, |mistakes| keys.resolve(proxy, mistakes))?;
        let line = |key| if self.args.given(key).is_some() && with_flags { 0 } else { table.line_of(key, None) };
        site.lines =
            Lines { server_names: line("server_names"), certificate: line("certificate"), upstream: line("upstream"), tcp: line("tcp") };
        Some(site)
    }

    fn sites<'t>(&mut self, root: &mut Table<'t>, tables: &mut [Table<'t>]) -> Vec<Site> {
        let given = self.args.given_of::<SiteKeys>().into_iter().chain(self.args.given_of::<SiteSettings>());
        for flag in given.filter(|given| *given != flags::flag(UNSAFE_UPSTREAM)) {
            self.faults.add_flag(format!("{flag}: the configuration file has sites of its own ([[site]]): write it there"));
        }
        let mut sites: Vec<Site> = Vec::new();
        for table in tables {
            table.inherit(root, &SHARED);
            let site = self.site(table, false);
            table.left_over(
                |key| root.is_known(key).then(|| format!("`{key}` is not a site's: put it above the first [[site]]")),
                &mut self.faults,
            );
            let Some(site) = site else { continue };
            for (at, name) in site.server_names.iter().enumerate() {
                if sites.iter().any(|other| other.server_names.contains(name)) {
                    self.faults
                        .add_line(table.line_of("server_names", Some(at)), format!("server_names: {name} is another site's already"));
                }
            }
            sites.push(site);
        }
        root.remove(&SHARED);
        // Known here only to tell where it belongs.
        let keys = keys_of::<SiteKeys>().iter().chain(keys_of::<SiteSettings>());
        for key in keys.filter(|key| !SHARED.contains(key)) {
            if !root.has(key) {
                continue;
            }
            self.faults
                .add_line(root.line_of(key, None), format!("{key}: there are sites of their own ([[site]]): put it into one of them"));
            root.remove(&[key]);
        }
        sites
    }
}
