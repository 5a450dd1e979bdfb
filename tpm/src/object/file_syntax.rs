//! The ASN.1 of key files ("ASN.1 Specification for TPM 2.0 Key Files", TPMKey).

use der::asn1::{ObjectIdentifier, OctetString};
use der::pem::PemLabel as _;
use der::{Decode as _, DecodeValue, EncodePem as _, EncodeValue, FixedTag, Header, Length, Reader, Sequence, Tag, Writer, pem};
use ekm_otp_files::pem::blocks;

use super::policy::{PathError, Paths, Raw, paths_from, paths_of};
use super::{KeyFileError, Policy};

/// id-loadablekey
pub(super) const LOADABLE_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");

/// id-sealedkey
pub(super) const SEALED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.5");

/// id-importablekey
pub(super) const IMPORTABLE_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.4");

/// TPM_RH_OWNER: the parent is the primary key that the format defines (template H-2 for ECC).
pub(super) const RH_OWNER: u32 = 0x4000_0001;
/// TPM_RH_ENDORSEMENT: the parent is the endorsement key.
pub(super) const RH_ENDORSEMENT: u32 = 0x4000_000b;

/// More than any policy has: each is a command to the TPM whenever the key is used.
const MAX_COMMANDS: usize = 64;

/// TPMKey
#[derive(Sequence)]
pub(crate) struct TpmKeyAsn1 {
    pub(crate) oid: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) empty_auth: Option<Boolean>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    policy: Option<Vec<PolicyAsn1>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) secret: Option<OctetString>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    auth_policy: Option<Vec<AuthPolicyAsn1>>,
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) description: Option<String>,
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    pub(super) rsa_parent: Option<Boolean>,
    pub(super) parent: Handle,
    pub(crate) public: OctetString,
    pub(crate) private: OctetString,
}

impl TpmKeyAsn1 {
    pub(crate) fn new(
        oid: ObjectIdentifier,
        parent: u32,
        public: Vec<u8>,
        private: Vec<u8>,
        policy: &Policy,
    ) -> Result<Self, KeyFileError> {
        let command = |(code, parameters)| octets(parameters).map(|parameters| PolicyAsn1 { code, parameters });
        let commands = |raw: Vec<Raw>| raw.into_iter().map(command).collect::<Result<Vec<_>, _>>();
        let paths = paths_of(policy).ok_or(KeyFileError::PolicySize)?;
        let other = |(name, raw)| Ok(AuthPolicyAsn1 { name, policy: commands(raw)? });
        let others = paths.others.into_iter().map(other).collect::<Result<Vec<_>, KeyFileError>>()?;
        Ok(Self {
            oid,
            empty_auth: None,
            policy: Some(commands(paths.policy)?).filter(|commands| !commands.is_empty()),
            secret: None,
            auth_policy: Some(others).filter(|others| !others.is_empty()),
            description: None,
            rsa_parent: None,
            parent: Handle(parent),
            public: octets(public)?,
            private: octets(private)?,
        })
    }

    pub(crate) fn read(text: &str) -> Result<Self, KeyFileError> {
        let blocks = blocks(text.as_bytes()).map_err(|e| KeyFileError::Syntax(e.to_string()))?;
        let mut keys = blocks.iter().filter(|block| block.label == Self::PEM_LABEL);
        match (keys.next(), keys.next()) {
            (Some(key), None) => Self::from_der(&key.bytes).map_err(|e| KeyFileError::Syntax(e.to_string())),
            (Some(_), Some(_)) => Err(KeyFileError::Syntax("it holds several keys, and one is wanted".into())),
            (None, _) => Err(KeyFileError::Syntax(format!("it holds {}", blocks.first().map_or("nothing", |block| &block.label)))),
        }
    }

    pub(crate) fn write(&self) -> Result<String, KeyFileError> {
        self.to_pem(pem::LineEnding::LF).map_err(|e| KeyFileError::Syntax(e.to_string()))
    }

    pub(crate) fn policy(&self) -> Result<Policy, KeyFileError> {
        let sequences = self.policy.iter().chain(self.auth_policy.iter().flatten().map(|other| &other.policy));
        if sequences.into_iter().any(|commands| commands.len() > MAX_COMMANDS) {
            return Err(KeyFileError::Syntax(format!("its policy has more than {MAX_COMMANDS} commands")));
        }
        let raw = |commands: &[PolicyAsn1]| commands.iter().map(|command| (command.code, command.parameters.as_bytes().to_vec())).collect();
        let paths = Paths {
            policy: raw(self.policy.as_deref().unwrap_or_default()),
            others: self.auth_policy.iter().flatten().map(|other| (other.name.clone(), raw(&other.policy))).collect(),
        };
        paths_from(&paths).map_err(|error| match error {
            PathError::Command(code) => KeyFileError::Policy(code),
            PathError::Contradiction => KeyFileError::PolicyDigest,
        })
    }
}

pub(crate) fn octets(bytes: Vec<u8>) -> Result<OctetString, KeyFileError> {
    OctetString::new(bytes).map_err(|e| KeyFileError::Syntax(e.to_string()))
}

/// TPMPolicy
#[derive(Sequence)]
struct PolicyAsn1 {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    code: u32,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    parameters: OctetString,
}

/// TPMAuthPolicy
#[derive(Sequence)]
struct AuthPolicyAsn1 {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    name: Option<String>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    policy: Vec<PolicyAsn1>,
}

impl pem::PemLabel for TpmKeyAsn1 {
    const PEM_LABEL: &'static str = "TSS2 PRIVATE KEY";
}

/// BOOLEAN as tpm2-tools writes it: TRUE is any non-zero byte, where DER wants 0xff. We write DER.
pub(crate) struct Boolean(pub(crate) bool);

impl FixedTag for Boolean {
    const TAG: Tag = Tag::Boolean;
}

impl<'a> DecodeValue<'a> for Boolean {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        if header.length() != Length::ONE {
            return Err(reader.error(der::ErrorKind::Length { tag: Tag::Boolean }));
        }
        reader.read_byte().map(|byte| Self(byte != 0))
    }
}

impl EncodeValue for Boolean {
    fn value_len(&self) -> der::Result<Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}

/// INTEGER, as a handle of 32 bits. Older 32-bit writers have those from 0x80000000 on as negative numbers.
pub(super) struct Handle(pub(super) u32);

impl FixedTag for Handle {
    const TAG: Tag = Tag::Integer;
}

impl<'a> DecodeValue<'a> for Handle {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        let is_of_its_size = (1..=5).contains(&u32::from(header.length()));
        let bytes = reader.read_vec(header.length())?;
        let number = bytes
            .iter()
            .skip(1)
            .fold(i64::from(bytes.first().map_or(0, |first| i8::from_be_bytes([*first]))), |n, byte| n.wrapping_shl(8) | i64::from(*byte));
        // Negative ones wrap as in two's complement of 32 bits.
        let handle = u32::try_from(number).or_else(|_| i32::try_from(number).map(i32::cast_unsigned));
        handle.ok().filter(|_| is_of_its_size).map(Self).ok_or_else(|| reader.error(der::ErrorKind::Overflow))
    }
}

impl EncodeValue for Handle {
    fn value_len(&self) -> der::Result<Length> {
        self.0.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_a_positive_and_as_a_negative_number() {
        for (der, handle) in [
            (&[2, 5, 0, 0x81, 0, 0, 1][..], Some(0x8100_0001)),
            (&[2, 4, 0x81, 0, 0, 1], Some(0x8100_0001)),
            (&[2, 4, 0x40, 0, 0, 1], Some(RH_OWNER)),
            (&[2, 1, 0], Some(0)),
            (&[2, 5, 1, 0, 0, 0, 0], None),
            (&[2, 6, 0, 0, 0x81, 0, 0, 1], None),
            (&[2, 0], None),
        ] {
            assert_eq!(Handle::from_der(der).ok().map(|handle| handle.0), handle, "{der:?}");
        }
    }
}
