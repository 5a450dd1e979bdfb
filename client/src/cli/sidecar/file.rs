//! The configuration file of several sockets and origins (docs/sidecar.md, "Several origins").

use std::fmt::Display;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use ekm_otp::Authority;
use ekm_otp::tunnel::Target;
use serde::de::{Deserialize, Deserializer, Error as _};

use super::super::connect::target;
use super::super::error::CliError;
use super::super::origin::origin_alone;
use super::super::profiles::table::{Faults, Table};
use super::super::shown::shown;
use super::address::Address;
use super::arguments::mode;
use super::asked::HostName;
use super::browser::WebOrigin;
use super::fields::Authorization;
use super::settings::{Listener, RouteSettings};
use super::users::Users;

/// More than any such file takes; what is longer is refused, not cut off.
const MAX_LEN: u64 = 1024 * 1024;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct FileListener {
    address: Option<Text<Address>>,
    mode: Option<Text<Mode>>,
    users: Option<Vec<User>>,
    hosts: Vec<Text<HostName>>,
    allow_origins: Vec<Text<WebOrigin>>,
    authorization: Option<Text<Authorization>>,
    to: Option<Text<To>>,
    profile: Option<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct FileRoute {
    host: Option<Text<HostName>>,
    to: Option<Text<To>>,
    profile: Option<String>,
    users: Option<Vec<User>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct FileTunnel {
    address: Option<Text<Address>>,
    target: Option<Text<ToTarget>>,
    mode: Option<Text<Mode>>,
    users: Option<Vec<User>>,
    to: Option<Text<To>>,
    profile: Option<String>,
}

/// # Errors
/// When it cannot be read; all that is wrong in it, with lines.
pub(super) fn read(path: &Path) -> Result<Vec<Listener>, CliError> {
    let file = std::fs::File::open(path).map_err(|e| CliError::io("open", path, &e))?;
    let mut text = String::new();
    let length = file.take(MAX_LEN + 1).read_to_string(&mut text).map_err(|e| CliError::io("read", path, &e))?;
    if length as u64 > MAX_LEN {
        return Err(CliError::Usage(format!("{} is longer than {MAX_LEN} bytes: is it a configuration file?", shown(path))));
    }
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Listener>, CliError> {
    let mut faults = Faults::default();
    let mut root = Table::parse(text, path)?;
    let mut listeners = Vec::new();
    for table in root.take_list("listen", &mut faults) {
        listeners.extend(listener(table, path, &mut faults));
    }
    for table in root.take_list("tcp", &mut faults) {
        listeners.extend(tunnel(table, path, &mut faults));
    }
    let line = root.line;
    root.left_over(|_| None, &mut faults);
    if listeners.is_empty() {
        faults.add(
            line,
            "there is nothing to listen on: write a line [[listen]], and address = \"127.0.0.1:8080\" and to = \"https://…\" below it",
        );
    }
    faults.into_result(path)?;
    Ok(listeners)
}

fn listener(mut table: Table<'_>, path: &Path, faults: &mut Faults) -> Option<Listener> {
    let line = table.line;
    let own: FileListener = table.take(faults);
    let mut routes = Vec::new();
    for mut table in table.take_list("route", faults) {
        let line = table.line;
        let route: FileRoute = table.take(faults);
        table.left_over(|_| None, faults);
        if route.host.is_none() {
            faults.add(line, "host is missing: the name that programs call this origin by (one without stands in [[listen]] itself)");
        }
        if route.to.is_none() && route.profile.is_none() {
            faults.add(line, "to is missing: write to = \"https://HOST\", or the name of a profile with one origin");
        }
        routes.push((line, route));
    }
    table.left_over(|_| None, faults);
    if own.to.is_some() || own.profile.is_some() {
        routes.push((line, FileRoute { host: None, to: own.to, profile: own.profile, users: None }));
    }
    if routes.is_empty() {
        faults.add(line, "to is missing: write to = \"https://HOST\", or [[listen.route]] with host and to");
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut users = |line: usize, users: &Option<Vec<User>>| {
        let names: Vec<String> = users.as_ref()?.iter().map(|user| user.0.clone()).collect();
        Users::named(&names).map_err(|error| faults.add(line, error.to_string())).ok()
    };
    let all = users(line, &own.users);
    let routes: Vec<RouteSettings> = routes
        .into_iter()
        .map(|(line, route)| RouteSettings {
            users: users(line, &route.users).or_else(|| all.clone()),
            host: route.host.map(|text| text.0),
            to: route.to.map(|text| text.0.0),
            profile: route.profile,
        })
        .collect();
    (!routes.is_empty()).then(|| Listener {
        address: own.address.map(|text| text.0.relative_to(folder)),
        tunnel: None,
        mode: own.mode.map(|text| text.0.0),
        hosts: own.hosts.into_iter().map(|text| text.0).collect(),
        allow_origins: own.allow_origins.into_iter().map(|text| text.0).collect(),
        authorization: own.authorization.map(|text| text.0).unwrap_or_default(),
        routes,
    })
}

fn tunnel(mut table: Table<'_>, path: &Path, faults: &mut Faults) -> Option<Listener> {
    let line = table.line;
    let own: FileTunnel = table.take(faults);
    table.left_over(|_| None, faults);
    if own.to.is_none() && own.profile.is_none() {
        faults.add(line, "to is missing: write to = \"https://HOST\", the server to go through, or the name of a profile with one origin");
    }
    let Some(Text(ToTarget(target))) = own.target else {
        faults.add(line, "target is missing: write target = \"HOST:PORT\", as the server's configuration calls it");
        return None;
    };
    let users = own.users.and_then(|users| {
        let names: Vec<String> = users.into_iter().map(|user| user.0).collect();
        Users::named(&names).map_err(|error| faults.add(line, error.to_string())).ok()
    });
    let folder = path.parent().unwrap_or(Path::new(""));
    Some(Listener {
        address: own.address.map(|text| text.0.relative_to(folder)),
        tunnel: Some(target),
        mode: own.mode.map(|text| text.0.0),
        hosts: Vec::new(),
        allow_origins: Vec::new(),
        authorization: Authorization::default(),
        routes: vec![RouteSettings { host: None, to: own.to.map(|text| text.0.0), profile: own.profile, users }],
    })
}

/// What is written as a text.
#[derive(Debug)]
struct Text<T>(T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::from_text(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

/// Read by the rules of the flag.
trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

fn told<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

impl FromText for Address {
    fn from_text(text: &str) -> Result<Self, String> {
        told(text)
    }
}

impl FromText for HostName {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "write NAME or NAME:PORT".to_owned())
    }
}

impl FromText for WebOrigin {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "write it as the browser does: http://HOST[:PORT]".to_owned())
    }
}

impl FromText for Authorization {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

#[derive(Debug)]
struct To(Authority);

impl FromText for To {
    fn from_text(text: &str) -> Result<Self, String> {
        origin_alone(text).map(Self)
    }
}

#[derive(Debug)]
struct ToTarget(Target);

impl FromText for ToTarget {
    fn from_text(text: &str) -> Result<Self, String> {
        target(text).map(Self)
    }
}

#[derive(Debug)]
struct Mode(u32);

impl FromText for Mode {
    fn from_text(text: &str) -> Result<Self, String> {
        mode(text).map(Self)
    }
}

/// A name or a number.
#[derive(Debug)]
struct User(String);

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u32),
            Name(String),
        }
        Ok(Self(match Written::deserialize(deserializer).map_err(|_| D::Error::custom("write users as [\"alice\", 1000]"))? {
            Written::Number(number) => number.to_string(),
            Written::Name(name) => name,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_sockets_with_several_origins_each() {
        let text = "[[listen]]\naddress = \"127.0.0.1:8080\"\nto = \"https://api.example.com\"\nhosts = [\"api.localhost\"]\n\n\
                    [[listen]]\naddress = \"unix:a.sock\"\nmode = \"0660\"\nusers = [0, \"root\"]\nauthorization = \"drop\"\n\
                    [[listen.route]]\nhost = \"a\"\nto = \"https://a.example.com\"\nprofile = \"a\"\n\
                    [[listen.route]]\nhost = \"b\"\nto = \"https://b.example.com\"\nusers = [65534]\n";
        let listeners = parse(Path::new("/etc/x/proxy.toml"), text).expect("settings");
        let [first, second] = &*listeners else { panic!("{listeners:?}") };
        assert_eq!(first.routes.len(), 1);
        assert!(first.routes[0].host.is_none() && first.routes[0].users.is_none());
        assert_eq!(second.address, Some(Address::Unix("/etc/x/a.sock".into())));
        assert_eq!((second.mode, &second.authorization, second.routes.len()), (Some(0o660), &Authorization::Drop, 2));
        assert!(second.routes[1].users.as_ref().is_some_and(|users| users.admit(65534)));
        assert!(second.routes[0].users.as_ref().is_some_and(|users| !users.admit(65534)));
        assert!(second.users().admit(65534), "who may use one of them may connect");
    }

    #[test]
    fn the_file_that_is_shipped_is_understood() {
        let listeners = parse(Path::new("/etc/ekm-otp/proxy.toml"), include_str!("../../../../examples/systemd/proxy.toml"));
        assert_eq!(listeners.expect("settings").len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, told) in [
            ("", "nothing to listen on"),
            ("[[listen]]\naddress = \"127.0.0.1:80\"\n", "line 1: to is missing"),
            ("[[listen]]\nto = \"http://a\"\n", "line 2: to:"),
            ("[[listen]]\nto = \"https://a\"\nadress = \"x\"\n", "line 3: unknown key `adress`: `address` is meant?"),
            ("[[listen]]\nto = \"https://a\"\n[[listen.route]]\nto = \"https://b\"\n", "line 3: host is missing"),
            ("[[listen]]\nto = \"https://a\"\nmode = \"rw\"\n", "line 3: mode:"),
            ("[[listen]]\nto = \"https://a\"\nauthorization = \"X-Forwarded-User\"\n", "line 3: authorization:"),
        ] {
            let error = parse(Path::new("proxy.toml"), text).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
