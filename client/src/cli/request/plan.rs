//! From flags to a request that can be sent: everything that can be wrong is found here, before anybody is dialled.

use std::path::Path;
use std::time::Duration;

use ekm_otp::Authority;
use ekm_otp::jose::ExtraClaims;
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body as _;

use super::body::{Body, Part, Stream};
use super::claims::extra_claims;
use super::flags::RequestArgs;
use super::header::Fields;
use super::input::Input;
use super::retry::Patience;
use super::target::{self, Kept};
use super::write_out::WriteOut;
use crate::cli::CliError;

/// A request, and how its answer is dealt with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) origin: Authority,
    pub(super) target: PathAndQuery,
    pub(super) method: Method,
    pub(super) fields: HeaderMap,
    pub(super) body: Body,
    pub(super) claims: ExtraClaims,
    /// How many redirects are followed; `None` where none is looked at.
    pub(super) follows: Option<u32>,
    pub(super) kept: Kept,
    pub(super) patience: Patience,
    pub(super) is_decoded: bool,
    pub(super) is_failed_body_hidden: bool,
    pub(super) is_status_ignored: bool,
    pub(super) shows_head: bool,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) max_time: Option<Duration>,
    pub(super) verbose: bool,
    pub(super) write_out: WriteOut,
}

impl Plan {
    pub(super) async fn of(args: &RequestArgs, origin: Authority) -> Result<Self, CliError> {
        let (what, time) = (&args.what, &args.time);
        let who = &args.how.who;
        let readers = [who.secret_file.as_deref(), who.use_key.password_file.as_deref()];
        let mut input = if readers.contains(&Some(Path::new("-"))) { Input::taken() } else { Input::default() };
        let method = method(args)?;
        let query = if what.get { Some(args.data.query(&mut input).await?) } else { None };
        let file_name = args.upload_file.as_deref().filter(|path| !is_input(path)).and_then(Path::file_name);
        let target = target::target(&args.url, query.as_deref(), file_name.map(std::os::unix::ffi::OsStrExt::as_bytes))?;
        let (body, content_type) = body(args, &mut input).await?;
        let fields = Fields {
            wanted: &what.headers,
            user_agent: what.user_agent.as_ref(),
            referer: what.referer.as_ref(),
            cookies: &what.cookies,
            range: what.range.as_ref(),
            content_type,
            accepts_json: args.data.is_json(),
            accepts_codings: what.compressed,
        };
        let write_out = match &args.output.write_out {
            Some(format) => WriteOut::read(format, &mut input).await?,
            None => WriteOut::default(),
        };
        if !body.can_be_sent_again() && (time.retry > 0 || args.load.repeat.is_some()) {
            return Err(CliError::Usage(
                "standard input can be sent once, and not again: put it into a file for --retry and --repeat".into(),
            ));
        }
        Ok(Self {
            origin,
            target,
            method,
            fields: fields.map(&mut input).await?,
            body,
            claims: extra_claims(&what.claims)?,
            follows: args.redirects.location.then_some(args.redirects.max_redirs),
            kept: Kept { after_301: args.redirects.post301, after_302: args.redirects.post302, after_303: args.redirects.post303 },
            patience: Patience {
                tries: time.retry,
                delay: time.retry_delay,
                max_time: time.retry_max_time,
                all_errors: time.retry_all_errors,
                refused_connections: time.retry_connrefused,
            },
            is_decoded: what.compressed,
            is_failed_body_hidden: args.output.fail,
            is_status_ignored: args.output.no_fail,
            shows_head: args.output.include || is_head(args),
            timeout: time.timeout,
            connect_timeout: time.connect_timeout,
            max_time: time.max_time,
            verbose: args.output.verbose > 0,
            write_out,
        })
    }

    /// The request with these, as it is handed to the client.
    pub(super) fn request(&self, method: &Method, target: PathAndQuery, fields: HeaderMap, body: Stream) -> Request<Stream> {
        let is_empty = body.is_end_stream();
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.into();
        *request.headers_mut() = fields;
        // A method whose body means something has its length told even where that is 0 (RFC 9110 §8.6).
        if is_empty && [Method::POST, Method::PUT, Method::PATCH].contains(method) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request.extensions_mut().insert(self.claims.clone());
        request
    }

    /// `-f`.
    pub(super) fn hides_body(&self, status: StatusCode) -> bool {
        self.is_failed_body_hidden && status.as_u16() >= 400
    }

    /// As it is written: for people.
    pub(super) fn url(&self) -> String {
        format!("https://{}{}", self.origin, self.target)
    }
}

fn is_input(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new(".")
}

fn is_head(args: &RequestArgs) -> bool {
    args.what.head || args.called == Some(Method::HEAD)
}

fn has_data(args: &RequestArgs) -> bool {
    !args.data.pieces.is_empty()
}

/// `-X`, or the name that the command was called by, or what the body asks for.
fn method(args: &RequestArgs) -> Result<Method, CliError> {
    let has_body = has_data(args) && !args.what.get || !args.form.fields.is_empty() || args.upload_file.is_some();
    let wrong = |text: String| Err(CliError::Usage(text));
    if args.what.get && !has_data(args) {
        return wrong("-G puts into the URL what -d and its like say, and none of them is there".into());
    }
    if args.what.head && has_body {
        return wrong(
            "-I asks for the header section alone, by HEAD, which has no body: leave -I or the body out, or put -d into the URL by -G"
                .into(),
        );
    }
    match (&args.what.method, &args.called) {
        (Some(_), Some(called)) => wrong(format!("-X: the method is {called} by the command's name. Write `ekm-otp-client request -X …`")),
        (None, Some(called)) if args.what.head && *called != Method::GET && *called != Method::HEAD => {
            wrong(format!("-I is a HEAD, and the method is {called} by the command's name. Write `ekm-otp-client head`"))
        }
        (None, Some(called)) if (*called == Method::GET || *called == Method::HEAD) && has_body => wrong(format!(
            "`{}` has no body: `ekm-otp-client post` (or put, patch, request) sends one, and -G puts -d into the URL",
            called.as_str().to_ascii_lowercase()
        )),
        (Some(method), None) => Ok(method.clone()),
        _ if is_head(args) => Ok(Method::HEAD),
        (None, Some(called)) => Ok(called.clone()),
        (None, None) if args.what.get => Ok(Method::GET),
        (None, None) if args.upload_file.is_some() => Ok(Method::PUT),
        (None, None) if has_body => Ok(Method::POST),
        (None, None) => Ok(Method::GET),
    }
}

async fn body(args: &RequestArgs, input: &mut Input) -> Result<(Body, Option<HeaderValue>), CliError> {
    match &args.upload_file {
        Some(path) if is_input(path) => {
            input.take()?;
            Ok((Body::new(vec![Part::Input]), None))
        }
        Some(path) => Ok((Body::new(vec![input.file(path).await?]), None)),
        None if !args.form.fields.is_empty() => {
            let (body, content_type) = args.form.body(input).await?;
            Ok((body, Some(content_type)))
        }
        None if has_data(args) && !args.what.get => {
            let media_type = if args.data.is_json() { "application/json" } else { "application/x-www-form-urlencoded" };
            Ok((args.data.body(input).await?, Some(HeaderValue::from_static(media_type))))
        }
        None => Ok((Body::default(), None)),
    }
}
