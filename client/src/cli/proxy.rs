//! Proxies that the environment names (as curl reads it). None is used: a connection goes straight to its server.

/// The first variable that names a proxy for https.
pub(super) fn ignored() -> Option<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].into_iter().find(is_set)
}
