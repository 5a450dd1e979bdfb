//! What goes with each request of a connection: the same password, or a token of its own.

#[cfg(feature = "jose")]
mod tokens;

use ekm_otp::field::Credential;
use ekm_otp::{Channel, KeyId, Prk};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use crate::RequestError;
use crate::connection::{Body, Sign};
#[cfg(feature = "jose")]
pub(crate) use tokens::Tokens;

/// The connection's one-time password.
pub(crate) struct Password(HeaderValue);

impl Password {
    pub(crate) fn new(kid: &KeyId, channel: &Channel, prk: &Prk) -> Self {
        Self(sensitive(&Credential::write(kid, channel, &prk.otp())))
    }
}

impl Sign for Password {
    fn sign(&mut self, request: &mut Request<Body>) -> Result<HeaderValue, RequestError> {
        #[cfg(feature = "jose")]
        refuse_claims(request)?;
        request.headers_mut().insert(AUTHORIZATION, self.0.clone());
        Ok(self.0.clone())
    }
}

/// Claims that would be lost are no small matter: whoever set them counts on their arrival.
#[cfg(feature = "jose")]
pub(crate) fn refuse_claims(request: &Request<Body>) -> Result<(), RequestError> {
    let claims = request.extensions().get::<ekm_otp::jose::ExtraClaims>();
    if claims.is_some_and(|claims| !claims.is_empty()) { Err(RequestError::NoToken) } else { Ok(()) }
}

/// A field's value that neither logs nor HPACK's table are to keep.
pub(crate) fn sensitive(credential: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(credential).unwrap_or_else(|_| unreachable!("a credential is visible ASCII"));
    value.set_sensitive(true);
    value
}

#[cfg(all(test, feature = "jose"))]
mod tests {
    use bytes::Bytes;
    use ekm_otp::{Derivation, Ekm, Secret, ServerName};
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    #[test]
    fn every_credential_is_marked_as_sensitive() {
        let (kid, ekm) = (KeyId::new("client1").expect("a key id"), Ekm::from_bytes([7; 48]));
        let derivation = Derivation::new(&ekm, &kid, &ServerName::from_host("localhost").expect("a name"));
        let tag = Secret::new(vec![0x5a; 32]).expect("a secret").mac(derivation.mac_input());
        let prk = derivation.finish(tag);
        let origin = ekm_otp::Authority::parse("localhost").expect("an authority");
        let tokens = |signer| Tokens::new(&kid, &origin, ekm.channel(), signer);
        let signers: [Box<dyn Sign>; 3] = [
            Box::new(Password::new(&kid, &ekm.channel(), &prk)),
            Box::new(tokens(prk.jws_signer(&kid))),
            Box::new(tokens(prk.jwe_signer(&kid))),
        ];
        for mut signer in signers {
            let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
            let mut request = Request::get("/").body(body).expect("a request");
            assert!(signer.sign(&mut request).expect("a credential").is_sensitive());
            assert!(request.headers()[AUTHORIZATION].is_sensitive());
        }
    }
}
