//! Which cluster a client command talks to, and how what it prints stays fit for a terminal.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::{Client, v1};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use model::id::ConversationName;
pub use model::text::printable;
use proto::net::secure::{SecureDialer, Trust};
use proto::net::{Channel, Dialer, Tcp};

use crate::exit::Usage;
use crate::tls;

/// Who is asked where nobody is named.
const USUAL: &str = "127.0.0.1:7001";

/// The arguments that every client command has.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// Nodes to ask, comma-separated: one of each data center is best
    #[arg(
        long,
        env = "FIREBREAK_TARGET",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = USUAL
    )]
    pub target: Vec<String>,
    /// Who asks.
    #[command(flatten)]
    pub credentials: Credentials,
}

/// Who asks: where nodes let in nobody without a credential.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Credentials {
    /// File with the API key or token to call with; or FIREBREAK_API_KEY_FILE, or the key itself in
    /// FIREBREAK_API_KEY
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Ask the node on this machine over its local socket, whatever keys say: its data directory
    #[arg(long, value_name = "PATH")]
    pub local: Option<PathBuf>,
    /// Whom it trusts.
    #[command(flatten)]
    pub tls: Tls,
}

/// TLS of a client.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Tls {
    /// Speak TLS with nodes that an authority of this file certified (PEM)
    #[arg(long, env = "FIREBREAK_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show this certificate to them (PEM)
    #[arg(long, env = "FIREBREAK_CERT", value_name = "FILE", requires_all = ["ca", "cert_key"])]
    pub cert: Option<PathBuf>,
    /// The private key of the certificate (PEM)
    #[arg(
        long,
        env = "FIREBREAK_CERT_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    pub cert_key: Option<PathBuf>,
}

/// Where the text of a key may stand.
const KEY: &str = "FIREBREAK_API_KEY";
/// Where the name of a file with it may stand.
const KEY_FILE: &str = "FIREBREAK_API_KEY_FILE";
/// Bytes of a file with a key.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

impl Credentials {
    /// The key or token to call with, if there is one.
    ///
    /// # Errors
    /// Usage, when its file cannot be read.
    pub fn key(&self) -> anyhow::Result<Option<String>> {
        let key = std::env::var(KEY).ok();
        let key = key.filter(|key| !key.trim().is_empty());
        let named = std::env::var_os(KEY_FILE).filter(|named| !named.is_empty());
        let named = self.api_key_file.clone().or(named.map(PathBuf::from));
        let path = match (key, &named) {
            (Some(key), _) if self.api_key_file.is_none() => return Ok(Some(key)),
            (_, Some(path)) => path,
            (_, None) => return Ok(None),
        };
        let unread = |why: String| {
            let shown = path.display();
            anyhow!(crate::exit::Usage(format!("--api-key-file {shown}: {why}")))
        };
        let file = std::fs::File::open(path).map_err(|error| unread(error.to_string()))?;
        let mut text = String::new();
        io::Read::take(file, KEY_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| unread(error.to_string()))?;
        let text = text.trim();
        match text.is_empty() {
            true => Err(unread("it is empty".to_owned())),
            false => Ok(Some(text.to_owned())),
        }
    }

    /// The same for programs that this one starts in another folder, as the variables that it knows itself.
    ///
    /// # Errors
    /// Usage, when the key's file cannot be read.
    pub fn variables(&self) -> anyhow::Result<Vec<(&'static str, OsString)>> {
        let Tls { ca, cert, cert_key } = &self.tls;
        let files = [
            ("FIREBREAK_CA", ca),
            ("FIREBREAK_CERT", cert),
            ("FIREBREAK_CERT_KEY", cert_key),
        ];
        let mut variables = Vec::new();
        for (name, file) in files {
            if let Some(file) = file {
                let file = std::path::absolute(file).context("there is no current folder")?;
                variables.push((name, file.into_os_string()));
            }
        }
        let key = self.key()?.map(|key| (KEY, key.into()));
        Ok(variables.into_iter().chain(key).collect())
    }

    /// How connections are opened: with TLS where an authority is named.
    ///
    /// # Errors
    /// Usage: what is wrong with a file.
    pub fn dialer(&self) -> anyhow::Result<Dialer> {
        let Tls { ca, cert, cert_key } = &self.tls;
        let Some(ca) = ca else {
            return Ok(Arc::new(Tcp));
        };
        let usage = |error: &anyhow::Error| Usage(format!("--ca, --cert, --cert-key: {error:#}"));
        let trust = || -> anyhow::Result<Trust> {
            let own = match (cert, cert_key) {
                (Some(cert), Some(key)) => Some((tls::read(cert)?, tls::read(key)?)),
                _ => None,
            };
            let own = own.as_ref().map(|(cert, key)| (&**cert, &**key));
            Ok(Trust::read(&tls::read(ca)?, own)?)
        };
        let trust = trust().map_err(|error| usage(&error))?;
        Ok(Arc::new(SecureDialer::new(Tcp, trust)))
    }

    /// A channel to `host:port` that calls with this key.
    ///
    /// # Errors
    /// When the address is none, or a file cannot be read.
    pub fn channel(&self, address: &str) -> anyhow::Result<Channel> {
        let dialer = self.dialer()?;
        let dialer = match self.key()? {
            Some(key) => client::authorized(dialer, &key)?,
            None => dialer,
        };
        Ok(dialer.dial(address)?)
    }

    /// A client of a cluster that calls with this key.
    ///
    /// # Errors
    /// Usage, when a file cannot be read.
    pub fn with_key(&self, builder: client::Builder) -> anyhow::Result<client::Builder> {
        let builder = builder.dialer(self.dialer()?);
        Ok(match self.key()? {
            Some(key) => builder.api_key(key),
            None => builder,
        })
    }
}

/// What an operator may set, shown: how, and who is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct Show {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Who is asked.
    #[command(flatten)]
    pub target: Target,
}

impl Show {
    /// How long it is looked for a node that answers, or that has heard what was set.
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// A client that looks for so long.
    ///
    /// # Errors
    /// As [`Target::client`].
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.target.client(Show::DEADLINE).await
    }
}

/// The tenant of conversations that are named by their id alone.
#[derive(clap::Args, Clone, Debug)]
pub struct Tenant {
    /// Tenant of conversations given by id alone
    #[arg(long, env = "FIREBREAK_TENANT", default_value = "demo")]
    pub tenant: String,
}

impl Target {
    /// Who is asked where the command line names nobody.
    pub fn usual() -> Vec<String> {
        let set = std::env::var("FIREBREAK_TARGET")
            .ok()
            .filter(|set| !set.is_empty());
        let set = set.unwrap_or_else(|| USUAL.to_owned());
        set.split(',').map(str::to_owned).collect()
    }

    /// A client of the cluster. Hosts that there are not are told at once: a call would look for them
    /// until its deadline.
    ///
    /// # Errors
    /// Usage, when an address is none, or nobody knows any of the hosts.
    pub async fn client(&self, deadline: Duration) -> anyhow::Result<Client> {
        self.build(Client::builder().deadline(deadline)).await
    }

    /// A client that `builder` begins.
    ///
    /// # Errors
    /// As [`Target::client`].
    pub async fn build(&self, builder: client::Builder) -> anyhow::Result<Client> {
        if let Some(local) = &self.credentials.local {
            let socket = Arc::new(crate::local::socket(local));
            if !socket.exists() {
                let shown = socket.display();
                let why = format!("--local: there is no socket {shown}: no node runs there");
                return Err(anyhow!(crate::exit::Usage(why)));
            }
            let builder = builder.dialer(Arc::new(crate::local::Socket(socket)));
            let alone = builder.endpoints([crate::local::ADDRESS]).discover(false);
            return Ok(alone.build()?);
        }
        let builder = self.credentials.with_key(builder)?;
        let usage = |why: String| anyhow!(crate::exit::Usage(format!("--target: {why}")));
        let targets = self.target.iter().map(|target| target.trim());
        let targets: Vec<&str> = targets.filter(|target| !target.is_empty()).collect();
        let client = builder
            .endpoints(targets.iter().copied())
            .build()
            .map_err(|error| usage(error.to_string()))?;
        let looks = targets.iter().map(|target| unknown_host(target));
        let unknown = futures::future::join_all(looks).await;
        if unknown.iter().all(Option::is_some) {
            let whys: Vec<String> = unknown.into_iter().flatten().collect();
            return Err(usage(whys.join("; ")));
        }
        Ok(client)
    }

    /// What to add to an error of a call, so that the reader knows where it was sent.
    pub fn asked(&self) -> String {
        if let Some(local) = &self.credentials.local {
            return format!("asked the node of {}", local.display());
        }
        format!("asked {}", self.target.join(", "))
    }
}

/// How long a host's address may be looked for.
const LOOKUP: Duration = Duration::from_secs(2);

/// Why there is no host of this address; none when there is, or that is not known in time.
async fn unknown_host(address: &str) -> Option<String> {
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(address));
    match found.await {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(_) => None,
            None => Some(format!("{address}: its host has no address")),
        },
        Ok(Err(error)) => Some(format!("{address}: {error}")),
        Err(_) => None,
    }
}

impl Tenant {
    /// The whole name of a conversation that is given as such or by its id.
    ///
    /// # Errors
    /// Usage, when it is not a valid name.
    pub fn conversation(&self, text: &str) -> anyhow::Result<ConversationName> {
        let name = if text.contains('/') {
            ConversationName::parse(text)
        } else {
            ConversationName::new(&self.tenant, text)
        };
        name.map_err(|error| anyhow!(crate::exit::Usage(error.to_string())))
    }
}

/// Says that a conversation does not exist, or that the cluster could not be asked.
pub fn explain(error: client::Error, name: &ConversationName, target: &Target) -> anyhow::Error {
    // What no node can make sense of was given here.
    if matches!(error.reason(), Some("INVALID_FIELDS" | "AHEAD_OF_HEAD")) {
        return anyhow!(crate::exit::Usage(error.to_string()));
    }
    if error.is_not_found() && error.reason() != Some("TENANT_UNKNOWN") {
        return anyhow!(
            "there is no conversation {:?} in tenant {:?}; the first message to it creates it",
            name.conversation(),
            name.tenant()
        );
    }
    anyhow::Error::new(error).context(target.asked())
}

/// Why an operator's verb did not succeed: `refused` says what cannot be done. When nobody knows
/// whether it was done, what to do about that: `look` is the command that shows it.
pub fn verb_failed(error: client::Error, refused: String, look: &str) -> anyhow::Error {
    let unknown = error.outcome_unknown();
    anyhow::Error::new(error).context(match unknown {
        false => refused,
        true => format!(
            "it may have been done, or not: look with `{look}`, and give the command again, which \
             does no harm when it was"
        ),
    })
}

/// How long a verb may wait, seconds: a day at most.
pub fn wait_seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=86_400)
}

/// Where the words of a verb go that takes a while: with `--json` standard output is the document's.
#[derive(Clone, Copy)]
pub struct ProgressOutput {
    json: bool,
}

impl ProgressOutput {
    /// As JSON or in words.
    pub fn new(json: bool) -> ProgressOutput {
        ProgressOutput { json }
    }

    /// Says something on the way.
    pub fn say(self, line: &str) {
        match self.json {
            true => eprintln!("{line}"),
            false => println!("{line}"),
        }
    }

    /// Says what became of it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn end(
        self,
        words: &str,
        document: &serde_json::Value,
        code: ExitCode,
    ) -> anyhow::Result<ExitCode> {
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(document)?),
            false => println!("{words}"),
        }
        Ok(code)
    }

    /// Says that it was not done, or not yet.
    ///
    /// # Errors
    /// Always: what to tell.
    pub fn fail(self, why: String, document: &serde_json::Value) -> anyhow::Result<ExitCode> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(document)?);
        }
        Err(anyhow!(why))
    }
}

/// Tells what is being waited for, each time when it changes.
#[derive(Default)]
pub struct Waits {
    told: Vec<String>,
}

/// Reasons that are shown at once.
const WAITS_SHOWN: usize = 8;

impl Waits {
    /// The lines to print now: what is left to do and why, or nothing when that was told before.
    pub fn news(&mut self, left: String, reasons: Vec<String>) -> Vec<String> {
        let mut lines = vec![left];
        let more = reasons.len().saturating_sub(WAITS_SHOWN);
        let shown = reasons.into_iter().take(WAITS_SHOWN);
        lines.extend(shown.map(|reason| format!("  {reason}")));
        if more > 0 {
            lines.push(format!(
                "  and {more} more; `firebreak shard list` shows all"
            ));
        }
        if lines == self.told {
            return Vec::new();
        }
        self.told.clone_from(&lines);
        lines
    }
}

/// Whether to colour what goes to standard output.
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Turns a reader that went away (`| head`) into a quiet end.
///
/// # Errors
/// All other errors.
pub fn quiet(outcome: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match outcome {
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(ExitCode::SUCCESS)
        }
        outcome => outcome,
    }
}

/// Prints messages one a line: seq, time, sender, text.
pub struct Printer<W> {
    out: W,
    conversation: String,
    seq_width: usize,
    json: bool,
    colour: bool,
}

/// Characters of a sender that are shown.
const SENDER_SHOWN: usize = 12;

impl<W: Write> Printer<W> {
    /// Of a conversation, aligned for seqs up to `last_seq`.
    pub fn new(out: W, conversation: &str, last_seq: u64, json: bool, colour: bool) -> Printer<W> {
        Printer {
            out,
            conversation: conversation.to_owned(),
            seq_width: last_seq.max(99).to_string().len(),
            json,
            colour,
        }
    }

    /// One message.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&mut self, message: &v1::Message) -> anyhow::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.out, &as_json(&self.conversation, message))
                .map_err(io::Error::from)?;
            writeln!(self.out)?;
            return Ok(());
        }
        let (dim, plain) = if self.colour {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        let sender = printable(&message.sender);
        let sender = if sender.chars().count() > SENDER_SHOWN {
            sender.chars().take(SENDER_SHOWN - 1).chain(['…']).collect()
        } else {
            sender
        };
        writeln!(
            self.out,
            "{dim}{:>seq$}  {:<19}{plain}  {:<SENDER_SHOWN$}  {}",
            message.seq,
            message
                .original_time
                .or(message.create_time)
                .map(shown_time)
                .unwrap_or_default(),
            sender,
            content(message),
            seq = self.seq_width,
        )?;
        Ok(())
    }

    /// Makes what was printed visible.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `2018-05-02 19:38:15`, UTC.
fn shown_time(time: prost_types::Timestamp) -> String {
    let whole = prost_types::Timestamp {
        seconds: time.seconds,
        nanos: 0,
    };
    whole
        .to_string()
        .trim_end_matches('Z')
        .replacen('T', " ", 1)
}

fn content(message: &v1::Message) -> String {
    match std::str::from_utf8(&message.body) {
        Ok(text) if message.r#type == "text" || message.r#type.is_empty() => {
            if text.trim().is_empty() {
                "(blank)".to_owned()
            } else {
                printable(text)
            }
        }
        _ => format!(
            "[{}, {} bytes]",
            printable(&message.r#type),
            message.body.len()
        ),
    }
}

/// `12.3 GiB`.
#[allow(clippy::cast_precision_loss, reason = "a size for people")]
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1_024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1_024.0;
    }
    format!("{value:.1} TiB")
}

/// A table as all commands print them.
pub fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header.iter().copied());
    table
}

/// A message as a line, which `firebreak import` takes.
pub fn as_json(conversation: &str, message: &v1::Message) -> serde_json::Value {
    let mut object = serde_json::json!({
        "conversation": conversation,
        "seq": message.seq,
        "sender": message.sender,
        "client_message_id": message.client_message_id,
        "type": message.r#type,
        "create_time": message.create_time.map(|time| time.to_string()),
    });
    match std::str::from_utf8(&message.body) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => {
            use base64::Engine as _;
            let body = base64::engine::general_purpose::STANDARD.encode(&message.body);
            object["body_base64"] = body.into();
        }
    }
    if let Some(time) = message.original_time {
        object["original_time"] = time.to_string().into();
    }
    if !message.attributes.is_empty() {
        object["attributes"] = serde_json::json!(message.attributes);
    }
    if message.reply_to_seq > 0 {
        object["reply_to_seq"] = message.reply_to_seq.into();
    }
    if message.silent {
        object["silent"] = true.into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, sender: &str, kind: &str, body: &str) -> v1::Message {
        v1::Message {
            seq,
            sender: sender.to_owned(),
            r#type: kind.to_owned(),
            body: body.to_owned().into(),
            original_time: Some(prost_types::Timestamp {
                seconds: 1_525_289_895,
                nanos: 5,
            }),
            ..v1::Message::default()
        }
    }

    #[track_caller]
    fn check(message: &v1::Message, expect: &str) {
        let mut out = Vec::new();
        Printer::new(&mut out, "room", 100, false, false)
            .print(message)
            .unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect.to_owned() + "\n");
    }

    #[test]
    fn messages_are_aligned_and_cannot_steer_the_terminal() {
        check(
            &message(7, "ann", "text", "hi"),
            "  7  2018-05-02 19:38:15  ann           hi",
        );
        check(
            &message(100, "720840be-e522-47ba", "text", "a\nb\x1b[31m"),
            "100  2018-05-02 19:38:15  720840be-e5…  a⏎b\u{fffd}[31m",
        );
        check(
            &message(1, "ann", "text", " "),
            "  1  2018-05-02 19:38:15  ann           (blank)",
        );
        check(
            &message(1, "ann", "image", "1234"),
            "  1  2018-05-02 19:38:15  ann           [image, 4 bytes]",
        );
    }

    #[test]
    fn a_message_as_json_is_one_line_with_its_text() {
        let mut out = Vec::new();
        Printer::new(&mut out, "room", 1, true, false)
            .print(&message(3, "a", "text", "x\ny"))
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (value["seq"].as_u64(), value["text"].as_str()),
            (Some(3), Some("x\ny"))
        );
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_verb_whose_outcome_is_unknown_says_what_to_do_and_speaks_of_no_id() {
        let check = |outcome_unknown: bool, says: &[&str]| {
            let error = client::Error::Deadline {
                outcome_unknown,
                attempts: 3,
                last: None,
            };
            let refused = "busan-2 cannot be removed".to_owned();
            let error = verb_failed(error, refused, "firebreak node list");
            let text = format!("{error:#}");
            assert!(says.iter().all(|part| text.contains(part)), "{text}");
            assert_eq!(
                text.contains("cannot be removed"),
                !outcome_unknown,
                "{text}"
            );
            assert!(!text.contains(" id "), "{text}");
        };
        check(false, &["busan-2 cannot be removed: the deadline passed"]);
        check(true, &["`firebreak node list`", "give the command again"]);
    }

    #[test]
    fn what_is_waited_for_is_told_once_and_not_without_bound() {
        let mut waits = Waits::default();
        let reasons = |count: usize| (0..count).map(|n| format!("reason {n}")).collect();
        let first = waits.news("2 left".into(), reasons(2));
        assert_eq!(first, ["2 left", "  reason 0", "  reason 1"]);
        assert!(waits.news("2 left".into(), reasons(2)).is_empty());
        assert_eq!(waits.news("2 left".into(), reasons(1)).len(), 2);
        let many = waits.news("99 left".into(), reasons(99));
        assert_eq!(many.len(), 2 + WAITS_SHOWN);
        assert!(
            many.last().unwrap().starts_with("  and 91 more"),
            "{many:?}"
        );
    }

    #[test]
    fn a_conversation_is_named_whole_or_by_its_id() {
        let tenant = Tenant {
            tenant: "demo".to_owned(),
        };
        let name = |text: &str| tenant.conversation(text).map(|name| name.to_string());
        assert_eq!(name("room").unwrap(), "tenants/demo/conversations/room");
        assert_eq!(
            name("tenants/x/conversations/room").unwrap(),
            "tenants/x/conversations/room"
        );
        assert!(name("a b").unwrap_err().is::<crate::exit::Usage>());
    }
}
