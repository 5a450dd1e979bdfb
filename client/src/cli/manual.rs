//! Shell completions and manual pages, made from the definitions of the commands themselves.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::error::CliError;
use super::output;

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Which shell's
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Folder that they are written into; it is made where it is not there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), CliError> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::result(&script)
}

/// One page for each command, named as git's are: ekm-otp-client-doctor.1.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<(), CliError> {
    fs::create_dir_all(&args.out).map_err(|e| CliError::io("make the folder", &args.out, &e))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    pages(&command, &args.out)
}

fn pages(command: &Command, out: &Path) -> Result<(), CliError> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages(command, out)?;
    }
    let page = Man::new(command.clone());
    let file = out.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text).and_then(|()| fs::write(&file, text)).map_err(|e| CliError::io("write", &file, &e))
}
