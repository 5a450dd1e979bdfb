//! A line of the access log: one for each request that was let in.

use std::time::Duration;

use super::exchange::Exchange;
use crate::log_lines::Fields;

pub(crate) fn write(fields: &mut Fields<'_>, exchange: &Exchange, took: Duration) {
    fields.text("message", "request");
    if let Some(peer) = exchange.peer {
        fields.shown("peer", peer);
    }
    if let Some(client) = &exchange.client {
        fields.text("kid", client.kid().as_str());
        fields.text("client", client.client());
    }
    fields.text("method", exchange.method.as_str());
    // The path only: a query may hold what is nobody's business.
    fields.text("path", exchange.uri.path());
    if let Some(head) = &exchange.head {
        fields.number("status", head.status.as_u16().into());
        fields.number("head_us", microseconds(head.after));
    }
    fields.number("duration_us", microseconds(took));
    fields.number("bytes_in", exchange.received());
    fields.number("bytes_out", exchange.bytes_out);
    fields.text("end", exchange.end.as_str());
    fields.shown("request", exchange.request_id);
    fields.number("connection", exchange.request_id.connection());
    if let Some(head) = &exchange.head {
        if let Some(site) = &head.site {
            fields.text("site", site.as_str());
        }
        if let Some(answered) = &head.answered {
            fields.text("upstream", &answered.upstream);
            fields.number("upstream_us", microseconds(answered.head));
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
