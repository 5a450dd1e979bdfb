//! What is known of a transfer when it has ended: what `-w` tells.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ekm_otp_client::ConnectionInfo;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, Version};

/// When something was reached, since the start of the transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) name_lookup: Duration,
    pub(super) connect: Duration,
    /// The TLS handshake is over.
    pub(super) app_connect: Duration,
    /// The request could go: the connection has its credential, and the server has proved itself where it must.
    pub(super) pre_transfer: Duration,
    pub(super) start_transfer: Duration,
    pub(super) redirect: Duration,
    pub(super) total: Duration,
}

/// The connection that served the last request.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) version: Version,
    pub(super) remote: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls_version: String,
    pub(super) cipher: String,
    pub(super) group: String,
    pub(super) mac_time: Duration,
    pub(super) is_proven: bool,
}

/// A transfer, with its redirects and its last try.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) started: Instant,
    pub(super) url: String,
    pub(super) url_effective: String,
    pub(super) method: Method,
    pub(super) kid: String,
    pub(super) credential: String,
    pub(super) referer: Option<HeaderValue>,
    pub(super) file_name: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) fields: HeaderMap,
    pub(super) size_header: u64,
    pub(super) size_download: u64,
    pub(super) size_upload: u64,
    pub(super) connections: HashSet<u64>,
    pub(super) redirects: u64,
    pub(super) retries: u64,
    pub(super) redirect_url: Option<String>,
    pub(super) times: Times,
    pub(super) served: Option<Served>,
    pub(super) exit_code: u8,
    pub(super) error: Option<String>,
}

impl Facts {
    pub(super) fn new(url: String, kid: String, credential: String) -> Self {
        Self {
            started: Instant::now(),
            url_effective: url.clone(),
            url,
            method: Method::GET,
            kid,
            credential,
            referer: None,
            file_name: None,
            status: None,
            fields: HeaderMap::new(),
            size_header: 0,
            size_download: 0,
            size_upload: 0,
            connections: HashSet::new(),
            redirects: 0,
            retries: 0,
            redirect_url: None,
            times: Times::default(),
            served: None,
            exit_code: 0,
            error: None,
        }
    }

    /// For another try: what is of the last one is forgotten.
    pub(super) fn again(&mut self) {
        let next = Self::new(self.url.clone(), self.kid.clone(), self.credential.clone());
        let last = std::mem::replace(self, next);
        (self.referer, self.file_name, self.retries, self.connections) = (last.referer, last.file_name, last.retries + 1, last.connections);
    }

    pub(super) fn note_head<B>(&mut self, response: &Response<B>, length: u64) {
        self.status = Some(response.status().as_u16());
        self.fields = response.headers().clone();
        self.size_header += length;
    }

    /// `before` is when the connection was asked for.
    /// Tells whether it is another one than those before.
    pub(super) fn note_connection(&mut self, connection: &ConnectionInfo, before: Duration) -> bool {
        // Whether it was made for this: one that was asked to stand before has had its first use then.
        let is_new = self.connections.insert(connection.id());
        if is_new {
            let timings = connection.timings();
            self.times.name_lookup = before + timings.lookup;
            self.times.connect = self.times.name_lookup + timings.tcp;
            self.times.app_connect = self.times.connect + timings.tls;
        }
        let tls = connection.tls();
        self.kid = connection.kid().to_string();
        self.served = Some(Served {
            version: connection.http_version(),
            remote: connection.remote_address(),
            local: connection.local_address(),
            tls_version: tls.version_name(),
            cipher: tls.cipher_suite_name(),
            group: tls.group_name(),
            mac_time: connection.mac_time(),
            is_proven: connection.is_proven(),
        });
        is_new
    }

    pub(super) fn content_type(&self) -> Option<&HeaderValue> {
        self.fields.get(CONTENT_TYPE)
    }
}
