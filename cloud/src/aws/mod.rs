//! AWS: session credentials from a long-lived secret, or from a certificate, whose key somebody else holds.

mod access_key;
mod ambient;
mod canonical;
mod credentials;
mod endpoint;
mod hints;
mod kms;
mod metadata;
mod request;
mod roles_anywhere;
mod sigv4;
mod sts;

pub use access_key::AccessKey;
pub use ambient::{container_credentials, instance_credentials};
pub use canonical::{AmzDate, Canonical, EMPTY_SHA256, PathRules, Signable, UNSIGNED_PAYLOAD, sha256_hex};
pub use credentials::SessionCredentials;
pub use endpoint::StsEndpoint;
pub use kms::{
    Decrypt, Decrypted, Encrypt, Encrypted, EncryptionContext, ForRecipient, Kms, KmsEndpoint, MAX_CIPHERTEXT, MAX_DOCUMENT, MAX_PLAINTEXT,
};
pub use metadata::{CONTAINER_PATH, CredentialSource, Metadata};
pub use request::{presign_url, sign_request};
pub use roles_anywhere::{CreateSession, RolesAnywhere, RolesAnywhereEndpoint, UnsignedCreateSession};
pub use sigv4::{MAX_PRESIGNED, SECRET_PREFIX, Scope, Signatory, UnsignedRequest, UnsignedUrl};
pub use sts::{AssumeRole, CallerIdentity, GetSessionToken, Mfa, Sts};
