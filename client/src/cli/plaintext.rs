//! What leaves as plaintext: one set of flags for all commands that open a secret. Nothing touches a disk unasked, nothing half written stays,
//! nothing is added.

mod credential;
mod new_file;
mod program;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use self::new_file::NewFile;
use self::program::Program;
use super::error::CliError;
use super::output::note;
use super::shown::shown;

/// What fits a screen.
const MAX_TERMINAL: usize = 64 * 1024;
/// A service's credentials are not larger (systemd.exec(5)).
const MAX_CREDENTIAL: usize = 1024 * 1024;
/// What a program gets on its standard input is held in memory.
const MAX_STDIN: usize = 64 * 1024 * 1024;

/// Where the plaintext goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct PlaintextArgs {
    /// Write the plaintext to this new file, mode 0600, in memory: below /run, $XDG_RUNTIME_DIR or /dev/shm [default: standard output]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["systemd_credential", "exec"])]
    out: Option<PathBuf>,
    /// Take a disk for --out, too. Whoever gets hold of the disk can read the plaintext, even when the file is deleted
    #[arg(long, requires = "out")]
    allow_disk: bool,
    /// Keep the plaintext for services of systemd, in /run/credstore (root only): LoadCredential=NAME or ImportCredential=NAME hand it to one. What was there
    /// before is replaced
    #[arg(long, value_name = "NAME", conflicts_with = "exec", value_parser = credential::name)]
    systemd_credential: Option<String>,
    /// Become this program, with the plaintext in its environment. All that follows is the program's own, so this comes last
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,
    /// The variable that --exec puts it in [default: EKM_OTP_SECRET]
    #[arg(long, value_name = "NAME", requires = "exec", value_parser = program::variable_name)]
    env: Option<String>,
    /// Give it to the program of --exec on its standard input instead: what it starts in its turn does not inherit it, and any byte may be in it
    #[arg(long, requires = "exec", conflicts_with = "env")]
    exec_stdin: bool,
}

/// How a command ends.
#[must_use]
pub(crate) enum Ending {
    /// It has done its work.
    Done,
    /// This process becomes that program, once all that is ours has been flushed from the TPM.
    Become(Box<Program>),
}

impl Ending {
    /// That of a command that becomes no program.
    pub(crate) fn of((): ()) -> Self {
        Self::Done
    }
}

/// What takes the plaintext. Dropped before [`finish`](Self::finish), it leaves nothing, but for what went to standard output.
pub(crate) struct Outlet {
    way: Way,
    /// How much it still takes, where it does not take any length, and how much that was.
    bound: Option<(usize, usize)>,
}

enum Way {
    /// By a descriptor of its own: the standard library's buffer is not wiped.
    Stdout(File),
    Terminal(Zeroizing<Vec<u8>>),
    File(NewFile),
    Credential(NewFile, String),
    Variable(Zeroizing<Vec<u8>>, String, Program),
    Stdin(File, Program),
}

impl PlaintextArgs {
    /// Whether anything else than standard output is asked for.
    #[cfg(feature = "cloud")]
    pub(crate) fn is_given(&self) -> bool {
        self.out.is_some() || self.systemd_credential.is_some() || !self.exec.is_empty()
    }

    /// Makes ready what is to take the plaintext, and finds out whether it can, before there is any.
    pub(crate) fn open(&self) -> Result<Outlet, CliError> {
        let (way, bound) = if let Some(path) = self.out.as_deref().filter(|path| *path != Path::new("-")) {
            (Way::File(self.file(path)?), None)
        } else if let Some(name) = &self.systemd_credential {
            (Way::Credential(credential::create(name)?, name.clone()), Some(MAX_CREDENTIAL))
        } else if let Some(program) = Program::new(&self.exec)? {
            if self.exec_stdin {
                (Way::Stdin(program::memory().map_err(|e| in_memory(&e))?, program), Some(MAX_STDIN))
            } else {
                let name = self.env.as_deref().unwrap_or(program::DEFAULT_VARIABLE);
                let most = program::longest_value(name);
                (Way::Variable(held(most), name.to_owned(), program), Some(most))
            }
        } else if io::stdout().is_terminal() {
            (Way::Terminal(held(MAX_TERMINAL)), Some(MAX_TERMINAL))
        } else {
            (Way::Stdout(io::stdout().as_fd().try_clone_to_owned().map_err(CliError::output)?.into()), None)
        };
        Ok(Outlet { way, bound: bound.map(|most| (most, most)) })
    }

    fn file(&self, path: &Path) -> Result<NewFile, CliError> {
        let file = NewFile::create(path)?;
        if self.allow_disk || file.is_in_memory()? {
            return Ok(file);
        }
        Err(CliError::Usage(format!(
            "{}: this is not in memory (tmpfs), and on a disk a plaintext can be read even when it is deleted: name a file below $XDG_RUNTIME_DIR, /run or \
             /dev/shm, or say --allow-disk",
            shown(path)
        )))
    }
}

/// With its final capacity at once: a Vec that grows leaves pieces of the plaintext behind.
fn held(most: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(most))
}

impl Outlet {
    /// Takes a piece. It is to be authenticated: what has been written to a pipe is not taken back.
    pub(crate) async fn write(&mut self, piece: Zeroizing<Vec<u8>>) -> Result<(), CliError> {
        if let Some((left, most)) = &mut self.bound {
            let most = *most;
            *left = left.checked_sub(piece.len()).ok_or_else(|| self.way.too_long(most))?;
        }
        match &mut self.way {
            Way::Stdout(stdout) => {
                let mut stdout = stdout.try_clone().map_err(CliError::output)?;
                // Who reads it may stall: a signal must still be heard.
                let writing = tokio::task::spawn_blocking(move || stdout.write_all(&piece));
                writing.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(CliError::output)
            }
            Way::Terminal(held) | Way::Variable(held, ..) => {
                held.extend_from_slice(&piece);
                Ok(())
            }
            Way::File(file) | Way::Credential(file, _) => file.write(&piece),
            Way::Stdin(memory, _) => memory.write_all(&piece).map_err(|e| in_memory(&e)),
        }
    }

    /// All has been written: the file gets its name, the program is made ready.
    pub(crate) async fn finish(self) -> Result<Ending, CliError> {
        match self.way {
            Way::Stdout(_) => {}
            Way::Terminal(held) => {
                let text = std::str::from_utf8(&held).ok().filter(|text| text.chars().all(|c| !c.is_control() || "\n\t".contains(c)));
                let text = text.ok_or_else(|| {
                    CliError::Usage(
                        "the plaintext is no text, and would steer this terminal: send standard output elsewhere, or use --out or --exec"
                            .into(),
                    )
                })?;
                io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).map_err(CliError::output)?;
            }
            Way::File(file) => file.keep()?,
            Way::Credential(file, name) => {
                file.replace()?;
                note!("wrote the credential {name}; a service takes it with LoadCredential={name}");
            }
            Way::Variable(held, name, program) => return Ok(Ending::Become(Box::new(program.with_variable(&name, &held)?))),
            Way::Stdin(memory, program) => {
                return Ok(Ending::Become(Box::new(program.with_stdin(memory).map_err(|e| in_memory(&e))?)));
            }
        }
        Ok(Ending::Done)
    }

    /// Takes a plaintext that is there as a whole.
    pub(crate) async fn whole(mut self, plaintext: Zeroizing<Vec<u8>>) -> Result<Ending, CliError> {
        self.write(plaintext).await?;
        self.finish().await
    }
}

impl Way {
    fn too_long(&self, most: usize) -> CliError {
        let (what, instead) = match self {
            Self::Variable(..) => ("an environment variable", "--exec-stdin takes more"),
            Self::Credential(..) => ("a credential of systemd", "--out takes any length"),
            Self::Terminal(_) => ("a terminal", "send standard output elsewhere, or use --out"),
            _ => ("a program's standard input as it is held in memory", "standard output and --out take any length"),
        };
        CliError::Usage(format!("the plaintext has more than {most} bytes, which is too much for {what}: {instead}"))
    }
}

fn in_memory(error: &io::Error) -> CliError {
    CliError::Other(format!("cannot hold the plaintext in memory for --exec-stdin: {error}"))
}
