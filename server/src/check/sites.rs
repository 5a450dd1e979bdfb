//! The sites' certificates, as clients will look at them.

use std::net::ToSocketAddrs as _;
use std::time::SystemTime;

use ekm_otp::ServerName;

use super::report::{Finding, Report, SiteReport};
use crate::certificates::facts::{SOON, dates, first_gap, is_a_cas, is_for, shown};
use crate::certificates::{certified_key, is_for_everyone};
use crate::config::{Config, Site};
use crate::proxy;

pub(super) fn look(config: &Config, report: &mut Report) {
    for site in &config.sites {
        let expires = certificate(config, site, report);
        let label = site.server_names.first().map_or("", ServerName::as_str);
        if let Err(e) = proxy::Site::open(label, &site.proxy) {
            report.add_error(site.lines.upstream, e);
        }
        for (host, port) in site.proxy.hosts_on_this_machine() {
            let what = match (host, port).to_socket_addrs() {
                Ok(mut found) => match found.find(|found| !found.ip().to_canonical().is_loopback()) {
                    Some(elsewhere) => {
                        format!("is {}, which is not this machine's loopback: requests would be answered 502", elsewhere.ip())
                    }
                    None => continue,
                },
                Err(e) => format!("has no address now ({e}): requests would be answered 502"),
            };
            report.add(Finding::warning(site.lines.upstream, format!("upstream: {host} {what}")));
        }
        for (host, port) in site.proxy.tcp_hosts() {
            if let Err(e) = (host, port).to_socket_addrs() {
                let what = format!("tcp: {host} has no address now ({e}): tunnels would be answered 502");
                report.add(Finding::warning(site.lines.tcp, what));
            }
        }
        report.sites.push(SiteReport { server_names: site.hosts.clone(), certificate: site.certificate.display().to_string(), expires });
    }
}

/// When it expires, where it can be read.
fn certificate(config: &Config, site: &Site, report: &mut Report) -> Option<String> {
    let provider = config.general.tls.provider(rustls::crypto::aws_lc_rs::default_provider());
    let line = site.lines.certificate;
    let file = site.certificate.display();
    let certified = match certified_key(&site.certificate, &site.private_key, &provider) {
        Ok(certified) => certified,
        Err(e) => {
            report.add_error(line, e);
            return None;
        }
    };
    if is_for_everyone(&site.private_key) {
        let key = site.private_key.display();
        report.add(Finding::warning(line, format!("private_key: everyone on this machine can use {key}: chmod o= {key}")));
    }
    let chain = &certified.cert;
    let own = chain.first()?;
    for host in site.hosts.iter().filter(|host| !is_for(own, host.trim_end_matches('.'))) {
        let what = format!("server_names: the certificate in {file} is not for {host}: get one whose subjectAltName has it");
        report.add(Finding::error(site.lines.server_names, what));
    }
    if let Some(at) = first_gap(chain) {
        let what = format!(
            "certificate: {file}: certificate {at} was not issued by the one behind it: put the server's own first, then its issuer's, and so on"
        );
        report.add(Finding::error(line, what));
    }
    if is_a_cas(own) {
        let what = format!(
            "certificate: {file} begins with a CA's certificate (basicConstraints CA:TRUE), which most clients refuse as a server's"
        );
        report.add(Finding::warning(line, what));
    }
    let Some(dates) = dates(own) else {
        report.add(Finding::warning(line, format!("certificate: {file}: its dates cannot be read")));
        return None;
    };
    let (now, expires) = (SystemTime::now(), shown(dates.not_after));
    if dates.not_after <= now {
        report.add(Finding::error(line, format!("certificate: {file} expired at {expires}: renew it")));
    } else if dates.not_before > now {
        let from = shown(dates.not_before);
        report.add(Finding::error(line, format!("certificate: {file} is good from {from} on only: is this machine's clock right?")));
    } else if dates.not_after.duration_since(now).is_ok_and(|left| left < SOON) {
        report.add(Finding::warning(line, format!("certificate: {file} expires soon, at {expires}: renew it")));
    }
    Some(expires)
}
