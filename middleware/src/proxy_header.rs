//! The PROXY protocol's header (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>), by which a load balancer tells whom it connects.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

/// The longest header of version 1, its end included.
const V1_MAX: usize = 107;
/// How many bytes a header of version 2 may have, its fields (TLVs) included. The specification allows 65,551.
const V2_MAX: usize = 4096;
/// Of version 2: signature, command, family and length.
const V2_START: usize = 16;

const PARSING: ParseConfig = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// How many bytes it has.
    pub(crate) length: usize,
    /// Whom the connection comes from; `None` where the balancer speaks for itself (`LOCAL`) or does not know (`UNKNOWN`): then its own address
    /// counts (§2.1, §2.2).
    pub(crate) source: Option<SocketAddr>,
}

/// The header that `received` begins with; `None` while it is not complete.
pub(crate) fn read(received: &[u8]) -> Result<Option<Header>, &'static str> {
    match received.first() {
        // A TLS record (RFC 8446 §5.1).
        Some(0x16) => return Err("there is none: switch the PROXY protocol on at the balancer, or trust its address no longer"),
        None | Some(b'P' | b'\r') => {}
        Some(_) => return Err("there is none"),
    }
    let is_v1 = received.starts_with(b"P");
    // Of which length version 2 says it is.
    let length = received.get(V2_START - 2..V2_START).map(|length| V2_START + usize::from(u16::from_be_bytes([length[0], length[1]])));
    if !is_v1 && length.is_some_and(|length| length > V2_MAX) {
        return Err("it is longer than 4096 bytes");
    }
    let received = if is_v1 { &received[..received.len().min(V1_MAX)] } else { received };
    if received.len() > 5 && received.starts_with(b"PROXY") && received[5] != b' ' {
        return Err("it is malformed");
    }
    match ProxyHeader::parse(received, PARSING) {
        Ok((header, length)) => match header.proxied_address() {
            None => Ok(Some(Header { length, source: None })),
            Some(address) if address.protocol == Protocol::Stream => Ok(Some(Header { length, source: Some(address.source) })),
            Some(_) => Err("it tells of datagrams"),
        },
        Err(Error::BufferTooShort) => {
            // What has ended and says too little waits for nothing.
            let has_ended = if is_v1 { received.contains(&b'\n') } else { length.is_some_and(|length| received.len() >= length) };
            if has_ended { Err("it is malformed") } else { Ok(None) }
        }
        Err(_) => Err("it is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).expect("a short header").to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn each_prefix_of_a_header_is_incomplete_and_what_follows_is_not_touched() {
        let v4 = v2(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
        let mut v6 = vec![0; 36 + 7];
        v6[..16].copy_from_slice(&"2001:db8::1".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        v6[32..34].copy_from_slice(&4711_u16.to_be_bytes());
        v6[36..].copy_from_slice(&[0xe0, 0, 4, 1, 2, 3, 4]);
        let headers = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), Some("[2001:db8::1]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), None),
            (v4, Some("192.0.2.1:4660")),
            (v2(1, 0x21, &v6), Some("[2001:db8::1]:4711")),
            (v2(0, 0, &[]), None),
            (v2(1, 0x31, &[0; 216]), None),
        ];
        for (header, source) in headers {
            for end in 0..header.len() {
                let is_empty = end == 0;
                assert!(matches!(read(&header[..end]), Ok(None)) || is_empty, "{end} of {header:?}");
            }
            let glued = [header.as_slice(), b"\x16\x03\x01"].concat();
            let source = source.map(|source| source.parse().expect("an address"));
            assert_eq!(read(&glued), Ok(Some(Header { length: header.len(), source })), "{header:?}");
        }
    }

    #[test]
    fn a_balancer_that_sends_tls_alone_is_told_from_one_whose_header_is_wrong() {
        // Bytes 15 and 16 of a ClientHello are no length.
        let told = read(&[&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &[0xff; 32][..]].concat()).expect_err("no header");
        assert!(told.starts_with("there is none: switch the PROXY protocol on"), "{told}");
    }

    #[test]
    fn what_is_no_header_or_too_long_a_one_is_refused_at_once() {
        let mut endless = b"PROXY UNKNOWN ".to_vec();
        endless.resize(V1_MAX, b'x');
        assert!(read(&endless).is_err());
        endless.extend_from_slice(b"xxxx\r\n");
        assert!(read(&endless).is_err(), "a longer one that has an end");
        let mut long = v2(1, 0x11, &[0; V2_MAX]);
        long.truncate(V2_START);
        assert!(read(&long).is_err());
        for wrong in [
            b"\x16\x03\x01\x02\x00".as_slice(),
            b"GET / HTTP/1.1\r\n",
            b"PROXYxTCP4 192.0.2.1 10.0.0.1 4660 443\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 4660 443\r\n",
            b"PROXY TCP4 nobody\r\n",
            b"PROXY TCP4 2001:db8::1 10.0.0.1 4660 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 65536\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\rx",
            &v2(1, 0x11, &[0; 11]),
            &v2(1, 0x12, &[0; 12]),
            &v2(2, 0x11, &[0; 12]),
            b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\0",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
