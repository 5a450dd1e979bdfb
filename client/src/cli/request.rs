//! `request URL`, also called `get`, `head`, `post`, `put`, `patch` and `delete`: an authenticated request, as people know it from curl.
//!
//! ```text
//! flags ─► Way (whom, by which key) ─┬─► Plan (method, fields, body) ─► tries ─► exchange (redirects) ─► sink, write_out
//!                                    └─► Client                     └─► repeat ─► summary, histogram
//! ```

mod address;
mod arriving;
mod body;
mod claims;
mod coding;
mod connect;
mod data;
mod exchange;
mod facts;
mod failure;
mod flags;
mod form;
mod form_field;
mod head;
mod header;
mod histogram;
mod input;
mod media;
mod plan;
mod repeat;
mod retry;
mod sink;
mod status;
mod summary;
mod target;
mod tries;
mod variable;
mod write_out;

use std::path::{Path, PathBuf};

use ekm_otp_client::Client;

use self::connect::{Shown, Way};
use self::exchange::Outputs;
use self::facts::Facts;
use self::flags::OutputArgs;
use self::plan::Plan;
use self::sink::{Destination, Sink};
use super::CliError;
use super::output::{self, Quiet, note, say};
use super::proxy;

pub(crate) use self::flags::RequestArgs;

/// What the command is called, too: by the method that goes with it.
pub(crate) const NAMES: [&str; 6] = ["get", "head", "post", "put", "patch", "delete"];

/// The flag that says by which name the command was called: clap does not tell.
pub(crate) fn called(name: &str) -> Option<String> {
    NAMES.contains(&name).then(|| format!("--called={}", name.to_ascii_uppercase()))
}

pub(crate) async fn run(args: RequestArgs) -> Result<(), CliError> {
    if args.output.silent {
        output::be(if args.output.show_error { Quiet::Notes } else { Quiet::All });
    }
    if let Some(variable) = proxy::ignored() {
        note!("ekm-otp-client: warning: ${variable} is ignored, this connects to the server itself");
    }
    let way = Way::of(&args)?;
    let plan = Plan::of(&args, way.how.origin.clone()).await?;
    let body = Sink::new(destination(&args)?);
    let (client, shown) = way.client(&args).await?;
    let has_bar = !args.output.silent && !args.output.no_progress_meter;
    if let Some(times) = args.load.repeat {
        return repeat::run(&client, &plan, &shown, has_bar, times, args.load.concurrency).await;
    }
    let head = args.output.dump_header.clone().map(|path| Destination { file: named(path), ..Destination::default() });
    let mut outputs = Outputs { body, head: head.map(Sink::new), has_bar };
    let done = transfer(&client, &plan, &shown, &mut outputs, args.url.to_string()).await;
    if let Some(credential) = retired(client, args.output.unsafe_show_otp).await {
        say!("* closed; its credential was: {credential}");
    }
    done
}

/// The transfer, and what `-w` tells of it, however it ends.
async fn transfer(client: &Client, plan: &Plan, shown: &Shown, outputs: &mut Outputs, url: String) -> Result<(), CliError> {
    let mut facts = Facts::new(url, shown.kid.to_string(), shown.credential.as_str().to_owned());
    facts.referer = plan.fields.get(http::header::REFERER).cloned();
    facts.file_name = outputs.body.path().map(|path| path.display().to_string());
    let done = tries::with_tries(client, plan, shown, &mut facts, outputs).await;
    if let Err(error) = &done {
        outputs.body.fail();
        (facts.exit_code, facts.error) = (error.exit_code(), Some(error.to_string()));
    }
    match (plan.write_out.show(&facts), done) {
        (_, Err(error)) => Err(error),
        (told, Ok(())) => told,
    }
}

async fn retired(client: Client, is_wanted: bool) -> Option<String> {
    if !is_wanted {
        return None;
    }
    client.retire().await.map(|credential| credential.reveal().to_owned())
}

/// `-` is standard output.
fn named(path: PathBuf) -> Option<PathBuf> {
    (path != Path::new("-")).then_some(path)
}

fn destination(args: &RequestArgs) -> Result<Destination, CliError> {
    let OutputArgs { output, remote_name, output_dir, create_dirs, remove_on_error, .. } = &args.output;
    let file = match output {
        _ if *remote_name => Some(sink::remote_name(args.url.path())?),
        Some(path) => named(path.clone()),
        None => None,
    };
    let file = match (file, output_dir) {
        (Some(file), Some(folder)) => Some(folder.join(file)),
        (None, Some(_)) => return Err(CliError::Usage("--output-dir is the folder of -o FILE or -O, and neither is there".into())),
        (file, None) => file,
    };
    Ok(Destination { any_to_terminal: output.is_some(), file, makes_folders: *create_dirs, removes_on_error: *remove_on_error })
}
