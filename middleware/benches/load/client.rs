//! One connection to a server, as a client that checks what it gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ekm_otp_tower::protocol::field::{AuthenticationInfo, Credential};
use ekm_otp_tower::protocol::jose::{ExtraClaims, SignedRequest, TokenSigner};
use ekm_otp_tower::protocol::{Channel, Derivation, Handshake, KeyId, Secret, ServerName, ServerProof};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST as HOST_FIELD, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::AnyError;
use crate::mode::{self, HOST, Mode, PATH, Server, Shown};
use crate::options::KeyExchange;
use crate::pki::{POLICY, Pki};

/// What it takes to connect to the server of one mode.
pub struct Target {
    mode: Mode,
    addr: SocketAddr,
    tls: Arc<ClientConfig>,
    group: NamedGroup,
    kid: KeyId,
    secret: Secret,
    bearer: HeaderValue,
}

impl Target {
    pub fn new(mode: Mode, addr: SocketAddr, key_exchange: KeyExchange, pki: &Pki) -> Result<Self, AnyError> {
        Ok(Self {
            mode,
            addr,
            tls: Arc::new(pki.client_config(mode, key_exchange)?),
            group: key_exchange.group(),
            kid: mode::kid()?,
            secret: mode::secret()?,
            bearer: mode::bearer_credential().try_into()?,
        })
    }

    pub async fn connect(&self) -> Result<Client, AnyError> {
        let tcp = TcpStream::connect(self.addr).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(HOST.try_into()?, tcp).await?;
        let connection = stream.get_ref().1;
        let group = connection.negotiated_key_exchange_group().map(|group| group.name());
        // Debian's nginx knows no post-quantum group: its table has a row of its own for that.
        let is_expected = group == Some(self.group) || matches!(self.mode.server, Server::Nginx { .. } | Server::NginxProxy { .. });
        if connection.handshake_kind() != Some(HandshakeKind::Full) || !is_expected {
            return Err(format!("{}: a handshake of another kind ({group:?})", self.mode.name).into());
        }
        let (credential, proof) = self.credential(connection)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Client { mode: self.mode, sender, connection: tokio::spawn(connection), credential, proof })
    }

    /// What goes with each request, and the proof that the first answer must carry.
    fn credential(&self, connection: &ClientConnection) -> Result<(Field, Option<ServerProof>), AnyError> {
        match self.mode.shown {
            Shown::Nothing => Ok((Field::None, None)),
            Shown::Bearer => Ok((Field::Same(self.bearer.clone()), None)),
            shown => {
                let handshake = Handshake::of_client(connection, ServerName::from_host(HOST)?, &POLICY)?;
                let derivation = Derivation::new(&handshake.ekm, &self.kid, handshake.facts.server_name());
                let tag = self.secret.mac(derivation.mac_input());
                let keys = derivation.finish(tag);
                let (kid, channel) = (self.kid.clone(), handshake.ekm.channel());
                let field = match shown {
                    Shown::Jws => Field::Token { signer: Box::new(keys.jws_signer(&kid)), kid, channel, n: 0 },
                    Shown::Jwe => Field::Token { signer: Box::new(keys.jwe_signer(&kid)), kid, channel, n: 0 },
                    _ => Field::Same(HeaderValue::from_str(&Credential::write(&kid, &channel, &keys.otp()))?),
                };
                if matches!(&field, Field::Same(credential) if credential.len() != self.bearer.len()) {
                    return Err("the bearer token is not as long as the EKM-OTP credential".into());
                }
                Ok((field, self.mode.is_ours().then(|| keys.server_proof())))
            }
        }
    }
}

/// The `Authorization` field of a connection's requests.
enum Field {
    None,
    Same(HeaderValue),
    Token { signer: Box<TokenSigner>, kid: KeyId, channel: Channel, n: u64 },
}

impl Field {
    fn next(&mut self) -> Result<Option<HeaderValue>, AnyError> {
        match self {
            Self::None => Ok(None),
            Self::Same(credential) => Ok(Some(credential.clone())),
            Self::Token { signer, kid, channel, n } => {
                *n += 1;
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
                let request = SignedRequest { audience: "https://localhost", method: "GET", target: PATH };
                let token = signer.sign(&request, *n, now, &ExtraClaims::default())?;
                Ok(Some(HeaderValue::from_str(&Credential::write_token(kid, channel, &token)?)?))
            }
        }
    }
}

/// An open HTTP/1.1 connection.
pub struct Client {
    mode: Mode,
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
    credential: Field,
    /// Until the server has shown it.
    proof: Option<ServerProof>,
}

impl Client {
    /// One GET, which must be answered 200 and, the first time, with the server's proof where the mode has one.
    pub async fn get(&mut self) -> Result<(), AnyError> {
        let mut request = Request::get(PATH).header(HOST_FIELD, HOST).body(Empty::new())?;
        if let Some(credential) = self.credential.next()? {
            request.headers_mut().insert(AUTHORIZATION, credential);
        }
        self.sender.ready().await?;
        let (answer, body) = self.sender.send_request(request).await?.into_parts();
        body.collect().await?;
        if answer.status != StatusCode::OK {
            return Err(format!("{}: answered {}", self.mode.name, answer.status).into());
        }
        match self.proof.take() {
            Some(proof) if !is_shown(&proof, &answer.headers) => Err("the first answer proves nothing".into()),
            _ => Ok(()),
        }
    }

    /// Closes the connection and waits until that is done.
    pub async fn close(self) -> Result<(), AnyError> {
        drop(self.sender);
        Ok(self.connection.await??)
    }
}

fn is_shown(proof: &ServerProof, headers: &HeaderMap) -> bool {
    let fields = headers.get_all("authentication-info").iter().map(HeaderValue::as_bytes);
    matches!(AuthenticationInfo::read(fields), AuthenticationInfo::Proof(presented) if proof.verify(&presented))
}
