//! One try: the request, the redirects that it is sent along, and the answer's way to where it is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ekm_otp_client::{Client, ConnectionInfo, ResponseBody};
use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response, StatusCode};
use indicatif::ProgressBar;
use tokio::time::timeout;

use super::arriving::Arriving;
use super::body::Body;
use super::connect::{Shown, tell_connection, tell_proof};
use super::facts::Facts;
use super::failure::Failure;
use super::plan::Plan;
use super::sink::Sink;
use super::target::{Place, place, redirected};
use super::{coding, head, retry};
use crate::cli::CliError;
use crate::cli::output::say;
use crate::cli::progress;

/// How much of a redirect's body is read so that its connection can be used again.
const DRAINED: usize = 64 * 1024;
/// A body that is shorter is sent before anybody could look at a bar.
const WORTH_A_BAR: u64 = 1 << 20;

/// How a try ended that got an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is dealt with.
    Done(StatusCode),
    /// Its status may be another one the next time; nothing of it was shown.
    Again { status: StatusCode, after: Option<Duration> },
}

/// Where the parts of an answer go.
pub(super) struct Outputs {
    pub(super) body: Sink,
    /// `-D`.
    pub(super) head: Option<Sink>,
    pub(super) has_bar: bool,
}

/// The next request on the way.
struct Step<'a> {
    target: PathAndQuery,
    method: Method,
    body: Option<&'a Body>,
}

/// One try of a plan.
pub(super) struct Exchange<'a> {
    pub(super) client: &'a Client,
    pub(super) plan: &'a Plan,
    pub(super) shown: &'a Shown,
    /// Whether a status that may pass is for another try.
    pub(super) may_try_again: bool,
}

impl Exchange<'_> {
    pub(super) async fn run(&self, facts: &mut Facts, outputs: &mut Outputs) -> Result<Answer, Failure> {
        let plan = self.plan;
        let mut step = Step { target: plan.target.clone(), method: plan.method.clone(), body: Some(&plan.body) };
        loop {
            let response = self.ask(&step, facts, outputs).await?;
            let status = response.status();
            let section = head::section(&response);
            facts.note_head(&response, section.len() as u64);
            let there = redirected(status, &step.method, plan.kept);
            let location = there.as_ref().and_then(|_| response.headers().get(LOCATION));
            let place = location.and_then(|location| place(&plan.origin, &step.target, location.as_bytes()));
            facts.redirect_url = place.as_ref().map(|place| place.shown(&plan.origin));
            if self.may_try_again && self.is_for_another_try(status) {
                return Ok(Answer::Again { status, after: retry::retry_after(response.headers(), SystemTime::now()) });
            }
            self.show_head(section, outputs).await?;
            if let (Some((method, keeps_body)), Some(place), Some(most)) = (there, place, plan.follows) {
                let Place::Here(target) = place else {
                    return Err(CliError::NotPermitted(format!(
                        "the server redirects to {}, another origin than https://{}: the credential is for this one alone, and is not taken there. \
                         Ask that one by itself if you trust it",
                        facts.redirect_url.take().unwrap_or_default(),
                        plan.origin
                    ))
                    .into());
                };
                if facts.redirects >= u64::from(most) {
                    return Err(CliError::Other(format!("more than {most} redirects: is it a circle? --max-redirs allows more")).into());
                }
                if step.body.is_some_and(|body| keeps_body && !body.can_be_sent_again()) {
                    return Err(CliError::Usage(format!(
                        "the server redirects ({status}) and wants the body again: standard input can be sent once. Put it into a file"
                    ))
                    .into());
                }
                facts.redirects += 1;
                facts.times.redirect = facts.started.elapsed();
                facts.redirect_url = None;
                self.drain(response.into_body()).await;
                step = Step { target, method, body: step.body.filter(|_| keeps_body) };
                continue;
            }
            if !plan.hides_body(status) {
                self.show_body(response, &step.method, facts, outputs).await?;
            }
            facts.times.total = facts.started.elapsed();
            return Ok(Answer::Done(status));
        }
    }

    fn is_for_another_try(&self, status: StatusCode) -> bool {
        retry::is_transient(status) || self.plan.patience.all_errors && self.plan.is_failed_body_hidden && status.as_u16() >= 400
    }

    /// Sends one request and waits for the answer's header section.
    async fn ask(&self, step: &Step<'_>, facts: &mut Facts, outputs: &Outputs) -> Result<Response<ResponseBody>, Failure> {
        let plan = self.plan;
        let failed = |error: ekm_otp_client::Error| Failure::of(&error, self.shown);
        let before = facts.started.elapsed();
        let connected = self.client.connected();
        match plan.connect_timeout {
            None => connected.await.map_err(failed)?,
            Some(most) => timeout(most, connected)
                .await
                .map_err(|_| {
                    Failure::late(format!("no connection within {most:?} (--connect-timeout): --connect-timeout with more waits longer"))
                })?
                .map_err(failed)?,
        }
        facts.times.pre_transfer = facts.started.elapsed();
        (facts.method, facts.url_effective) = (step.method.clone(), format!("https://{}{}", plan.origin, step.target));

        let length = step.body.map_or(Some(0), Body::length);
        let has_bar = outputs.has_bar && length.is_none_or(|length| length >= WORTH_A_BAR);
        let bar = if has_bar { progress::bytes(length) } else { ProgressBar::hidden() };
        let sent = Arc::new(AtomicU64::new(0));
        let body = step.body.cloned().unwrap_or_default().stream(Arc::clone(&sent), bar.clone());
        let request = plan.request(&step.method, step.target.clone(), self.fields(step), body);
        let response = self.client.send(request).await;
        bar.finish_and_clear();
        facts.size_upload = sent.load(Ordering::Relaxed);
        facts.times.start_transfer = facts.started.elapsed();
        let response = response.map_err(failed)?;
        if let Some(connection) = response.extensions().get::<ConnectionInfo>() {
            let is_new = facts.note_connection(connection, before);
            if plan.verbose {
                if is_new {
                    tell_connection(connection, self.shown);
                }
                head::tell_request(&step.method, step.target.as_str(), &plan.origin.to_string(), &self.fields(step), response.version());
                tell_proof(connection, self.shown);
            }
        }
        if plan.verbose {
            head::tell_response(&response);
            say!("* answer: {}", response.status());
        }
        Ok(response)
    }

    /// Without those of the body where it does not go along (RFC 9110 §15.4).
    fn fields(&self, step: &Step<'_>) -> HeaderMap {
        let mut fields = self.plan.fields.clone();
        if step.body.is_none() {
            for of_body in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION] {
                fields.remove(of_body);
            }
        }
        fields
    }

    async fn show_head(&self, section: Vec<u8>, outputs: &mut Outputs) -> Result<(), Failure> {
        let section = Bytes::from(section);
        if let Some(head) = &mut outputs.head {
            head.write(section.clone()).await?;
        }
        if self.plan.shows_head {
            outputs.body.write(section).await?;
        }
        Ok(())
    }

    async fn show_body(
        &self,
        response: Response<ResponseBody>,
        method: &Method,
        facts: &mut Facts,
        outputs: &mut Outputs,
    ) -> Result<(), Failure> {
        let (parts, body) = response.into_parts();
        let total = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let has_bar = outputs.has_bar && !outputs.body.is_terminal() && *method != Method::HEAD;
        let bar = if has_bar { progress::bytes(total) } else { ProgressBar::hidden() };
        let arrived = Arc::new(AtomicU64::new(0));
        let arriving = Arriving::new(body, self.plan.timeout, Arc::clone(&arrived), bar.clone());
        let written = self.write_body(&parts.headers, arriving, method, &mut outputs.body).await;
        bar.finish_and_clear();
        facts.size_download = arrived.load(Ordering::Relaxed);
        written
    }

    async fn write_body(&self, fields: &HeaderMap, mut arriving: Arriving, method: &Method, sink: &mut Sink) -> Result<(), Failure> {
        if self.plan.is_decoded && *method != Method::HEAD {
            match coding::decoded(fields, arriving)? {
                Ok(mut decoded) => {
                    while let Some(piece) = decoded.next().await.map_err(|e| incomplete(&e))? {
                        sink.write(piece).await?;
                    }
                    return Ok(());
                }
                Err(plain) => arriving = plain,
            }
        }
        while let Some(piece) = arriving.next().await.map_err(|e| incomplete(&e))? {
            sink.write(piece).await?;
        }
        Ok(())
    }

    /// Reads a little of a body that nobody wants. A longer one costs its connection.
    async fn drain(&self, body: ResponseBody) {
        let arrived = Arc::new(AtomicU64::new(0));
        let mut arriving = Arriving::new(body, self.plan.timeout, Arc::clone(&arrived), ProgressBar::hidden());
        while let Ok(Some(_)) = arriving.next().await {
            if arrived.load(Ordering::Relaxed) > DRAINED as u64 {
                break;
            }
        }
    }
}

fn incomplete(error: &io::Error) -> Failure {
    let text = format!("the answer's body is incomplete: {error}");
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::late(text),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            CliError::Other(format!("{text}. Its compression is broken or cut: --compressed left out shows it as it comes")).into()
        }
        _ => CliError::Other(text).into(),
    }
}
