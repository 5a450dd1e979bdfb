//! TSS2 PEM key files ("ASN.1 Specification for TPM 2.0 Key Files", draft-bottomley-tpm2-keys).
//!
//! Such a file is no secret by itself: the private part is encrypted to its parent inside one TPM.

use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{DecodePem as _, DecodeValue, EncodePem as _, EncodeValue, FixedTag, Header, Length, Reader, Sequence, Tag, Writer, pem};
use tss_esapi::structures::{Private, Public};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use crate::Policy;
use crate::template::KeyDescription;

/// id-loadablekey
const LOADABLE_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.3");
/// id-importablekey
pub(crate) const IMPORTABLE_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.10.1.4");
/// TPM_RH_OWNER: the parent is the primary key that the format defines (template H-2 for ECC).
pub(crate) const RH_OWNER: u32 = 0x4000_0001;

/// A loadable key, as a TSS2 PEM file holds it.
#[derive(Clone, Debug)]
pub struct KeyFile {
    parent: Parent,
    public: Public,
    private: Private,
    /// As the file says it. Never trusted: tpm2-tools 5.4 writes FALSE whether there is a password or not.
    empty_auth: bool,
    policy: Policy,
    description: Option<String>,
}

/// Under which key of the TPM the private part is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The H-2 storage primary, made anew from the owner hierarchy's seed when needed.
    H2Primary,
    /// A persistent key of this TPM (0x81000000 to 0x81ffffff).
    Persistent(u32),
}

impl KeyFile {
    pub(crate) fn new(parent: Parent, public: Public, private: Private, empty_auth: bool, policy: Policy) -> Self {
        Self { parent, public, private, empty_auth, policy, description: None }
    }

    /// The same key with another private part, as TPM2_ObjectChangeAuth makes it.
    pub(crate) fn with_private(mut self, private: Private, empty_auth: bool) -> Self {
        (self.private, self.empty_auth) = (private, empty_auth);
        self
    }

    /// Adds a text for people, such as the key id.
    #[must_use]
    pub fn with_description(mut self, description: &str) -> Self {
        self.description = Some(description.to_owned());
        self
    }

    /// Reads a `-----BEGIN TSS2 PRIVATE KEY-----` file.
    ///
    /// # Errors
    /// When the text is no such file, or the key in it is of a kind that is not read here.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let key = TpmKeyAsn1::read(text)?;
        if key.oid == IMPORTABLE_KEY {
            return Err(KeyFileError::Importable);
        }
        if key.oid != LOADABLE_KEY {
            return Err(KeyFileError::NotLoadable(key.oid.to_string()));
        }
        let policy = key.policy()?;
        if key.rsa_parent.is_some_and(|is_rsa| is_rsa.0) {
            return Err(KeyFileError::RsaParent);
        }
        let parent = match key.parent {
            0x8100_0000..=0x81ff_ffff => Parent::Persistent(key.parent),
            // Some writers note the transient handle (0x80ffffff and below) that the primary had when the key was made.
            RH_OWNER | 0x8000_0000..=0x80ff_ffff => Parent::H2Primary,
            other => return Err(KeyFileError::Parent(other)),
        };
        let (public, private) = (public_from(key.public.as_bytes())?, private_from(key.private.as_bytes())?);
        let empty_auth = key.empty_auth.is_some_and(|empty| empty.0);
        Ok(Self { parent, public, private, empty_auth, policy, description: key.description })
    }

    /// Writes the file's text.
    ///
    /// # Errors
    /// When the key cannot be encoded.
    pub fn to_pem(&self) -> Result<String, KeyFileError> {
        let parent = match self.parent {
            Parent::H2Primary => RH_OWNER,
            Parent::Persistent(handle) => handle,
        };
        let mut key = TpmKeyAsn1::new(LOADABLE_KEY, parent, self.public_blob()?, self.private_blob(), &self.policy)?;
        key.empty_auth = Some(Boolean(self.empty_auth));
        key.description = self.description.clone();
        key.write()
    }

    /// A key that tpm2-tools keep in two files, `.pub` and `.priv` (TPM2B_PUBLIC and TPM2B_PRIVATE; TCG part 2, 12.2.5 and 12.3.7). They
    /// tell neither whether it has a password ([`with_empty_auth`](Self::with_empty_auth)) nor its policy's commands
    /// ([`with_policy`](Self::with_policy)).
    ///
    /// # Errors
    /// When a blob is damaged, or not of the length that it states.
    pub fn from_blobs(parent: Parent, public: &[u8], private: &[u8]) -> Result<Self, KeyFileError> {
        Ok(Self::new(parent, public_from(public)?, private_from(private)?, false, Policy::default()))
    }

    /// States whether the key is without a password, where its source does not tell.
    #[must_use]
    pub fn with_empty_auth(mut self, empty_auth: bool) -> Self {
        self.empty_auth = empty_auth;
        self
    }

    /// Where the private part can be decrypted.
    #[must_use]
    pub fn parent(&self) -> Parent {
        self.parent
    }

    /// The text for people, if there is one.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// What must be fulfilled to use it.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// States the policy of a file that lacks it: tpm2-tools write none.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether it is known to need a password. A file of tpm2-tools does not tell.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.policy.needs_password() || !self.empty_auth && self.policy.is_empty() && !self.public.object_attributes().no_da()
    }

    /// What the public area says. Needs no TPM.
    #[must_use]
    pub fn describe(&self) -> KeyDescription {
        KeyDescription::of(&self.public)
    }

    /// TPM2B_PUBLIC, as tpm2-tools keeps it in a `.pub` file.
    ///
    /// # Errors
    /// When the public area cannot be encoded.
    pub fn public_blob(&self) -> Result<Vec<u8>, KeyFileError> {
        public_blob(&self.public)
    }

    /// TPM2B_PRIVATE, as tpm2-tools keeps it in a `.priv` file. Encrypted to the parent.
    #[must_use]
    pub fn private_blob(&self) -> Vec<u8> {
        with_size(self.private.value())
    }

    pub(crate) fn empty_auth(&self) -> bool {
        self.empty_auth
    }

    pub(crate) fn public(&self) -> &Public {
        &self.public
    }

    pub(crate) fn private(&self) -> &Private {
        &self.private
    }
}

/// The contents of a TPM2B: a 16-bit size, then exactly that many bytes.
pub(crate) fn sized(blob: &[u8]) -> Option<&[u8]> {
    let (size, bytes) = blob.split_first_chunk::<2>()?;
    (usize::from(u16::from_be_bytes(*size)) == bytes.len()).then_some(bytes)
}

/// TPM2B_PUBLIC
pub(crate) fn public_from(blob: &[u8]) -> Result<Public, KeyFileError> {
    let public = sized(blob).and_then(|bytes| {
        let public = Public::unmarshall(bytes).ok()?;
        // The reader passes over what stands behind the area: then the file is not what it seems.
        public.marshall().is_ok_and(|again| again == bytes).then_some(public)
    });
    public.ok_or(KeyFileError::Public)
}

/// TPM2B_PRIVATE
pub(crate) fn private_from(blob: &[u8]) -> Result<Private, KeyFileError> {
    sized(blob).and_then(|bytes| Private::try_from(bytes.to_vec()).ok()).ok_or(KeyFileError::Private)
}

/// TPM2B_PUBLIC
pub(crate) fn public_blob(public: &Public) -> Result<Vec<u8>, KeyFileError> {
    public.marshall().map(|bytes| with_size(&bytes)).map_err(|_| KeyFileError::Public)
}

pub(crate) fn with_size(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap_or_else(|_| unreachable!("TPM structures are far smaller than 64 KiB"));
    [&size.to_be_bytes(), bytes].concat()
}

/// Why a key file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Not PEM, another label, or not the ASN.1 structure.
    #[error("not a TSS2 PRIVATE KEY file: {0}")]
    Syntax(String),
    /// A key on its way to a TPM.
    #[error("the file holds a key on its way to another TPM (importable, 2.23.133.10.1.4): import it into that one first")]
    Importable,
    /// Not a key on its way to a TPM.
    #[error("the file holds an object of type {0}, not a key on its way to another TPM (importable, 2.23.133.10.1.4)")]
    NotImportable(String),
    /// A key on its way to a TPM, without what it is encrypted with.
    #[error("the seed that the moving key is encrypted with is missing, empty or damaged: only keys encrypted to a storage key are taken")]
    Secret,
    /// A sealed object, say.
    #[error("the key file holds an object of type {0}, not a loadable key (2.23.133.10.1.3)")]
    NotLoadable(String),
    /// The policy has a command that is not known here, or one whose parameters are damaged.
    #[error(
        "the key's policy has the command 0x{0:x}, which cannot be replayed here (only PolicyPCR, PolicyAuthValue and PolicyPassword can)"
    )]
    Policy(u32),
    /// Somebody else signs what must be fulfilled.
    #[error("the key has a signed policy (authPolicy), which cannot be replayed here")]
    AuthPolicy,
    /// The parent is the RSA primary.
    #[error(
        "the key's parent is the RSA primary (rsaParent), only the ECC one is made here: import the key again, or name a persistent parent"
    )]
    RsaParent,
    /// A parent that is neither the owner's primary nor a persistent handle.
    #[error("the parent 0x{0:08x} is neither the owner hierarchy (0x40000001) nor a persistent handle (0x81xxxxxx)")]
    Parent(u32),
    /// The public area cannot be read.
    #[error("the key file's public area is damaged or of an unknown kind")]
    Public,
    /// The private area cannot be read.
    #[error("the key file's private area is damaged")]
    Private,
    /// Not an HMAC-SHA256 key.
    #[error("the key is of kind {0}, an HMAC-SHA256 key is needed")]
    NotHmac(String),
}

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
    auth_policy: Option<Any>,
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) description: Option<String>,
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    rsa_parent: Option<Boolean>,
    parent: u32,
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
        let commands = policy.to_commands().into_iter().map(command).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            oid,
            empty_auth: None,
            policy: (!policy.is_empty()).then_some(commands),
            secret: None,
            auth_policy: None,
            description: None,
            rsa_parent: None,
            parent,
            public: octets(public)?,
            private: octets(private)?,
        })
    }

    pub(crate) fn read(text: &str) -> Result<Self, KeyFileError> {
        let text = text.trim();
        if !text.starts_with("-----BEGIN TSS2 PRIVATE KEY-----") || !text.ends_with("-----END TSS2 PRIVATE KEY-----") {
            return Err(KeyFileError::Syntax("it holds no whole -----BEGIN TSS2 PRIVATE KEY----- block".into()));
        }
        Self::from_pem(text.as_bytes()).map_err(|e| KeyFileError::Syntax(e.to_string()))
    }

    pub(crate) fn write(&self) -> Result<String, KeyFileError> {
        self.to_pem(pem::LineEnding::LF).map_err(|e| KeyFileError::Syntax(e.to_string()))
    }

    pub(crate) fn policy(&self) -> Result<Policy, KeyFileError> {
        if self.auth_policy.is_some() {
            return Err(KeyFileError::AuthPolicy);
        }
        let commands = self.policy.iter().flatten().map(|command| (command.code, command.parameters.as_bytes()));
        Policy::from_commands(commands).map_err(KeyFileError::Policy)
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
