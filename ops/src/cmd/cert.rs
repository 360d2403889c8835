//! `firebreak cert`: an authority of the cluster's own, and the certificates it signs.
//!
//! ```text
//!  DIR/ca.pem             the authorities that are trusted, the one that signs first
//!  DIR/ca.key             its key: it signs, and belongs on no node
//!  DIR/node-NAME.pem .key
//!  DIR/client-NAME.pem .key, DIR/operator-NAME.pem .key
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use server::Config;

use super::target::new_table;
use crate::authority::{self, Authority, Kind, Signed};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak cert ca --dir pki                                   an authority, once for a cluster
  firebreak cert node --dir pki --config seoul-1.toml           a node's certificate, for its address
  firebreak cert node --dir pki --name seoul-1 --host seoul-1.example --host 10.0.0.7
  firebreak cert client --dir pki --name chat-backend
  firebreak cert client --dir pki --name ann --operator
  firebreak cert rotate --dir pki                               all that it signed, anew
  firebreak cert ca --dir pki --next                            another authority beside the old one
  firebreak cert ca --dir pki --drop-old                        the old one is trusted no more
  firebreak cert show pki/*.pem --json

Copy ca.pem and a node's own two files to the node, and name them in node.toml: tls.ca, tls.cert, tls.key.
ca.key signs; keep it off the nodes, but for those that sign as others join (tls.authority_key). A new authority takes three rounds, each copied to every node before
the next begins: --next, rotate, --drop-old. No call fails: nodes look at their files every 10 s.
Exit codes: 0 done, 1 a file cannot be read or written, 2 wrong arguments.";

/// Make an authority, and certificates of nodes, clients and operators.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = EXAMPLES)]
pub enum Cert {
    /// Make an authority; or the next one, beside it; or trust the old one no more.
    #[command(after_help = EXAMPLES)]
    Ca(Ca),
    /// Sign a node's certificate.
    #[command(after_help = EXAMPLES)]
    Node(NodeArgs),
    /// Sign a client's certificate, or an operator's.
    #[command(after_help = EXAMPLES)]
    Client(ClientArgs),
    /// Sign again what was signed: same names and hosts, new keys, a new end.
    #[command(after_help = EXAMPLES)]
    Rotate(Rotate),
    /// Show what certificates say.
    #[command(after_help = EXAMPLES)]
    Show(ShowArgs),
}

/// Where it all is.
#[derive(clap::Args, Debug)]
struct Place {
    /// Folder of the authority and of what it signs
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Of `firebreak cert ca`.
#[derive(clap::Args, Debug)]
pub struct Ca {
    #[command(flatten)]
    place: Place,
    /// How long it is to be trusted, days
    #[arg(long, value_name = "DAYS", default_value_t = 3_650, value_parser = days())]
    days: u32,
    /// Make another one beside the one there is: both are trusted, the new one signs
    #[arg(long, conflicts_with = "drop_old")]
    next: bool,
    /// Trust only the one that signs
    #[arg(long)]
    drop_old: bool,
}

/// Of `firebreak cert node`.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    #[command(flatten)]
    place: Place,
    /// Take the name and the host from a node's configuration
    #[arg(long, value_name = "FILE", required_unless_present = "name")]
    config: Option<PathBuf>,
    /// The node's name, as in its configuration
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    name: Option<String>,
    /// A name or IP address under which it is reached; may be repeated
    #[arg(long = "host", value_name = "HOST", required_unless_present = "config")]
    hosts: Vec<String>,
    /// How long it is valid, days
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = days())]
    days: u32,
}

/// Of `firebreak cert client`.
#[derive(clap::Args, Debug)]
pub struct ClientArgs {
    #[command(flatten)]
    place: Place,
    /// Who it is
    #[arg(long, value_name = "NAME")]
    name: String,
    /// It is an operator's
    #[arg(long)]
    operator: bool,
    /// How long it is valid, days
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = days())]
    days: u32,
}

/// Of `firebreak cert rotate`.
#[derive(clap::Args, Debug)]
pub struct Rotate {
    #[command(flatten)]
    place: Place,
    /// Only these, as node-seoul-1 [default: all in the folder]
    #[arg(value_name = "CERT")]
    only: Vec<String>,
    /// How long they are valid, days
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = days())]
    days: u32,
}

/// Of `firebreak cert show`.
#[derive(clap::Args, Debug)]
pub struct ShowArgs {
    /// Files in PEM
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=36_500)
}

impl Cert {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// As exit codes tell.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Cert::Ca(args) => args.run(),
            Cert::Node(args) => args.run(),
            Cert::Client(args) => args.run(),
            Cert::Rotate(args) => args.run(),
            Cert::Show(args) => {
                let read = args.files.iter().map(|file| authority::facts(file));
                let all: Vec<Vec<Signed>> = read.collect::<anyhow::Result<_>>()?;
                print(&all.concat(), args.json)
            }
        }
    }
}

impl Ca {
    fn run(self) -> anyhow::Result<ExitCode> {
        let dir = &self.place.dir;
        let made = match (self.next, self.drop_old) {
            (true, _) => Authority::open(dir)?.next(self.days)?,
            (_, true) => Authority::open(dir)?.drop_old()?,
            (false, false) => Authority::found(dir, self.days)?,
        };
        print(&authority::facts(&made)?, self.place.json)
    }
}

impl NodeArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (name, mut hosts) = match (&self.config, &self.name) {
            (Some(file), _) => {
                let mut config = named(file)?;
                let host = config
                    .advertise
                    .rsplit_once(':')
                    .map_or("", |(host, _)| host);
                let host = host.trim_matches(['[', ']']).to_owned();
                (std::mem::take(&mut config.name), vec![host])
            }
            (None, Some(name)) => (name.clone(), Vec::new()),
            // The arguments' rules.
            (None, None) => return Err(Usage("give --config or --name".to_owned()).into()),
        };
        hosts.extend(self.hosts);
        sign(&self.place, Kind::Node, &name, &hosts, self.days)
    }
}

/// A configuration, whose files of TLS there need not be yet.
fn named(file: &Path) -> anyhow::Result<Config> {
    Config::load(file).map_err(|errors| Usage(errors.to_string()).into())
}

impl ClientArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let kind = match self.operator {
            true => Kind::Operator,
            false => Kind::Client,
        };
        sign(&self.place, kind, &self.name, &[], self.days)
    }
}

fn sign(
    place: &Place,
    kind: Kind,
    name: &str,
    hosts: &[String],
    days: u32,
) -> anyhow::Result<ExitCode> {
    model::id::segment("name", name).map_err(|error| Usage(format!("--name: {error}")))?;
    let made = Authority::open(&place.dir)?.sign(kind, name, hosts, days)?;
    print(&authority::facts(&made)?, place.json)
}

impl Rotate {
    fn run(self) -> anyhow::Result<ExitCode> {
        let authority = Authority::open(&self.place.dir)?;
        let signed = authority.signed()?;
        let known = |stem: &str| signed.iter().any(|(known, _)| known == stem);
        if let Some(unknown) = self.only.iter().find(|stem| !known(stem)) {
            let dir = self.place.dir.display();
            return Err(Usage(format!("{dir} has no {unknown}.pem")).into());
        }
        let mut made = Vec::new();
        for (stem, before) in signed {
            if self.only.is_empty() || self.only.contains(&stem) {
                made.extend(authority::facts(&authority.again(&before, self.days)?)?);
            }
        }
        print(&made, self.place.json)
    }
}

fn print(certificates: &[Signed], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let values: Vec<_> = certificates.iter().map(Signed::json).collect();
        println!("{}", serde_json::to_string_pretty(&values)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = new_table(&["File", "Whose", "Hosts", "Until", "Fingerprint (SHA-256)"]);
    for signed in certificates {
        table.add_row(signed.row());
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
