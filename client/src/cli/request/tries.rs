//! One try after the other, with the waits between them.

use std::time::Duration;

use ekm_otp_client::Client;
use tokio::time::timeout;

use super::connect::Shown;
use super::exchange::{Answer, Exchange, Outputs};
use super::facts::Facts;
use super::failure::Failure;
use super::plan::Plan;
use super::sink::Sink;
use super::status;
use crate::cli::CliError;
use crate::cli::output::note;

/// All tries and the waits between them, one after the other.
pub(super) async fn with_tries(
    client: &Client,
    plan: &Plan,
    shown: &Shown,
    facts: &mut Facts,
    outputs: &mut Outputs,
) -> Result<(), CliError> {
    let mut left = plan.patience.start();
    loop {
        let exchange = Exchange { client, plan, shown, may_try_again: left.tries > 0 };
        let done = exchange.run(facts, outputs);
        let done = match plan.max_time {
            None => done.await,
            Some(most) => {
                timeout(most, done).await.unwrap_or_else(|_| Err(Failure::late(format!("it took longer than {most:?} (--max-time)"))))
            }
        };
        facts.times.total = facts.started.elapsed();
        let (failed, why, after) = match done {
            Ok(Answer::Done(status)) => {
                if !plan.hides_body(status) {
                    outputs.body.finish().await?;
                }
                if let Some(head) = &mut outputs.head {
                    head.finish().await?;
                }
                return match status::outcome(status, facts.redirect_url.as_deref(), shown) {
                    Err(_) if plan.is_status_ignored => Ok(()),
                    outcome => outcome,
                };
            }
            Ok(Answer::Again { status, after }) => {
                (status::outcome(status, None, shown).err().unwrap_or(CliError::ClosedPipe), format!("the server answered {status}"), after)
            }
            Err(failure) if !failure.may_pass(plan.patience) => return Err(failure.error),
            Err(failure) => {
                let why = failure.error.to_string();
                (failure.error, why, failure.after)
            }
        };
        let Some(wait) = left.next(after) else { return Err(failed) };
        // What is out cannot be taken back, and would stand there twice.
        if !outputs.body.take_back() || !outputs.head.as_mut().is_none_or(Sink::take_back) {
            return Err(failed);
        }
        note!("ekm-otp-client: {why}: tried again in {} s, {} tries left", seconds(wait), left.tries);
        tokio::time::sleep(wait).await;
        facts.again();
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64()).trim_end_matches('0').trim_end_matches('.').to_owned()
}
