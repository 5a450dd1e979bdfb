//! Why a key file cannot be used.

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
    /// Another type.
    #[error("the key file holds an object of type {0}: neither a loadable key (2.23.133.10.1.3) nor sealed data (2.23.133.10.1.5)")]
    NotLoadable(String),
    /// The type and what is in it contradict each other.
    #[error("the key file says that it holds sealed data, and holds a key: it is damaged")]
    NotSealed,
    /// The policy has a command that is not known here, or one whose parameters are damaged.
    #[error("the key's policy has the command 0x{0:x}, which cannot be fulfilled here, or whose parameters are damaged")]
    Policy(u32),
    /// There are more ways through its policy than are written.
    #[error("the policy has more than 64 ways through it: make it smaller")]
    PolicySize,
    /// The parent is the RSA primary.
    #[error(
        "the key's parent is the RSA primary (rsaParent), only the ECC one is made here: import the key again, or name a persistent parent"
    )]
    RsaParent,
    /// A parent that is neither the owner's primary nor a persistent handle.
    #[error(
        "the parent 0x{0:08x} is neither the owner hierarchy (0x40000001), nor the endorsement hierarchy (0x4000000b), nor a persistent handle (0x81xxxxxx)"
    )]
    Parent(u32),
    /// The public area cannot be read.
    #[error("the key file's public area is damaged or of an unknown kind")]
    Public,
    /// The private area cannot be read.
    #[error("the key file's private area is damaged")]
    Private,
    /// There is none: the file points at a key that is in the TPM.
    #[error("the key file has no private part: its key is at a persistent handle of the TPM, so use --key handle:0x81…")]
    NoPrivate,
    /// The policy's commands come to another digest than the key's authPolicy.
    #[error("the key file's policy does not come to what the key itself asks for (authPolicy): it is damaged, or of another key")]
    PolicyDigest,
}
