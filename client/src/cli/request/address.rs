//! `--resolve` and `--connect-to`: what is dialled instead of the URL's host. Neither changes whom the certificate and the credential are for.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ekm_otp::Authority;

/// `HOST:PORT:ADDRESS[,ADDRESS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolve {
    /// `*` is any.
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// `HOST1:PORT1:HOST2:PORT2`, each of which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectTo {
    from: (String, Option<u16>),
    to: (String, Option<u16>),
}

/// A host, which may be an IPv6 address in brackets, and what follows its colon.
fn host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    }
}

impl FromStr for Resolve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write it as HOST:PORT:ADDRESS, such as api.example.com:443:127.0.0.1 (several addresses with a comma between them)".to_owned()
        };
        // curl's mark for entries that time out: none lives that long here.
        let text = text.strip_prefix('+').unwrap_or(text);
        let (name, rest) = host(text).filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        let (port, addresses) = rest.split_once(':').ok_or_else(wrong)?;
        let address = |text: &str| text.trim().trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| wrong());
        Ok(Self {
            host: name.to_ascii_lowercase(),
            port: port.parse().map_err(|_| wrong())?,
            addresses: addresses.split(',').map(address).collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for ConnectTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write it as HOST1:PORT1:HOST2:PORT2, such as ::127.0.0.1:8443".to_owned();
        let port = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| wrong()) };
        let (from, rest) = host(text).ok_or_else(wrong)?;
        let (from_port, rest) = rest.split_once(':').ok_or_else(wrong)?;
        let (to, to_port) = host(rest).ok_or_else(wrong)?;
        Ok(Self { from: (from.to_ascii_lowercase(), port(from_port)?), to: (to.to_ascii_lowercase(), port(to_port)?) })
    }
}

/// Where a server is dialled whose URL names this place: the first `--connect-to` that fits, then the last `--resolve`, as curl has it.
pub(super) fn dialled(named: &Authority, connect_to: &[ConnectTo], resolve: &[Resolve]) -> Result<(Authority, Vec<SocketAddr>), String> {
    let host = named.host();
    let fits = |one: &&ConnectTo| (one.from.0.is_empty() || one.from.0 == host) && one.from.1.is_none_or(|port| port == named.port());
    let place = match connect_to.iter().find(fits) {
        None => named.clone(),
        Some(ConnectTo { to: (other, port), .. }) => {
            let host = if other.is_empty() { &host } else { other };
            let port = port.unwrap_or_else(|| named.port());
            let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            Authority::parse(&text).map_err(|e| format!("--connect-to {text}: {e}"))?
        }
    };
    let host = place.host();
    let resolves = |one: &&Resolve| one.port == place.port() && (one.host == "*" || one.host == host);
    let addresses = resolve.iter().rev().find(|one| resolves(one) && one.host != "*").or_else(|| resolve.iter().rev().find(resolves));
    let addresses = addresses.map(|one| one.addresses.iter().map(|address| SocketAddr::new(*address, one.port)).collect());
    Ok((place, addresses.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dialled_is_told_as_to_curl() {
        let named = Authority::parse("api.example.test").expect("a name");
        let shown = |connect_to: &[&str], resolve: &[&str]| {
            let connect_to: Vec<ConnectTo> = connect_to.iter().map(|text| text.parse().expect("right")).collect();
            let resolve: Vec<Resolve> = resolve.iter().map(|text| text.parse().expect("right")).collect();
            let (place, addresses) = dialled(&named, &connect_to, &resolve).expect("a place");
            (format!("{}:{}", place.host(), place.port()), addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let none = Vec::<String>::new;
        assert_eq!(shown(&[], &[]), ("api.example.test:443".into(), none()));
        assert_eq!(shown(&["::b.test:8443"], &[]), ("b.test:8443".into(), none()));
        assert_eq!(shown(&["other.test:443:b.test:1", "API.example.test:443:[::1]:"], &[]).0, "::1:443");
        assert_eq!(shown(&["::a.test:", "::b.test:"], &["a.test:443:127.0.0.1"]), ("a.test:443".into(), vec!["127.0.0.1:443".into()]));
        assert_eq!(shown(&[], &["api.example.test:443:127.0.0.1,[::1]"]).1, ["127.0.0.1:443", "[::1]:443"]);
        assert_eq!(
            shown(&[], &["*:443:127.0.0.2", "api.example.test:443:127.0.0.3", "api.example.test:80:127.0.0.4"]).1,
            ["127.0.0.3:443"]
        );
        for wrong in ["", "a.test", "a.test:443", "a.test:443:name", "a.test:x:127.0.0.1", ":443:127.0.0.1"] {
            assert!(wrong.parse::<Resolve>().is_err(), "{wrong}");
        }
        for wrong in ["", "a.test:1", "a.test:1:b.test", "a.test:x:b.test:1"] {
            assert!(wrong.parse::<ConnectTo>().is_err(), "{wrong}");
        }
    }
}
