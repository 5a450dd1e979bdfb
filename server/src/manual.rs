//! Shell completions and man pages, made from the definitions of the commands themselves.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::ServerError;
use crate::output;

#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell's
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct ManArgs {
    /// Folder that they are written into; it is made where it is not there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::show(&String::from_utf8_lossy(&script), 0)
}

/// One page for each command, named as git's are: ekm-otp-server-run.1.
///
/// # Errors
/// When the folder cannot be made or a page not be written.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<(), ServerError> {
    let out = args.out.display();
    fs::create_dir_all(&args.out).map_err(|e| ServerError::io(&format!("cannot make the folder {out}"), &e))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    pages(&command, &args.out)
}

fn pages(command: &Command, out: &PathBuf) -> Result<(), ServerError> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages(command, out)?;
    }
    let page = Man::new(command.clone());
    let file = out.join(page.get_filename());
    let mut text = Vec::new();
    let written = page.render(&mut text).and_then(|()| fs::write(&file, text));
    written.map_err(|e| ServerError::io(&format!("cannot write {}", file.display()), &e))
}
