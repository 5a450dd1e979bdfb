//! Why a bundle was not read or written, split by what helps.

/// Why a bundle was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// There is none in the text.
    #[error("it holds no bundle: `ekm-otp-server key add --bundle-out FILE` writes one, which goes whole into its file")]
    None,
    /// Its end is missing, or a line of it.
    #[error("the bundle is not whole, or a line of it was changed on its way: have it sent once more, as an attachment")]
    Damaged,
    /// It is far too long.
    #[error("it has more than {0} bytes, which is too much for a bundle")]
    TooLong(usize),
    /// Made by a newer program.
    #[error("the bundle has the version {0}, and this program knows 1: use one that is as new as the server's")]
    Version(u64),
    /// What stands in it cannot be used.
    #[error("the bundle's {0}: have the server make another")]
    Field(&'static str),
    /// The secret stands in it unsealed.
    #[error(
        "the bundle's secret is neither sealed nor wrapped, and whoever saw it has it: revoke the key, and have the server make another"
    )]
    Unsealed,
    /// It does not open.
    #[error("the passphrase does not open the bundle: try again, letter for letter")]
    WrongPassphrase,
    /// Opening it takes too much memory and time.
    #[error(
        "to open the bundle takes 2^{required} units of work, and at most 2^{most} are done: `ekm-otp-server` makes none that takes so much"
    )]
    Work {
        /// What it asks for.
        required: u8,
        /// What is done at most.
        most: u8,
    },
    /// Short ones are guessed by whoever gets the file.
    #[error(
        "the passphrase has {0} characters: a bundle that somebody copies can be tried for ever, so 16 at least, or have one generated"
    )]
    WeakPassphrase(usize),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(String),
    /// What the library says.
    #[error("the bundle cannot be sealed: {0}")]
    Seal(String),
}
