//! Canaries in other languages, generated from the .proto, as their users would set them up.
//!
//! Their libraries are installed once into the cache folder. Each language runs as a child that ends when
//! its stdin does, so also when this process is killed.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use super::{CALL_LIMIT, Call, Calls, PAUSE};
use crate::demo::lock;

const PROTO: &str = include_str!("../../../proto/proto/firebreak/v1/messages.proto");
const SERVICE_CONFIG: &str = include_str!("../../../examples/service_config.json");
const CHANNEL_OPTIONS: &str = include_str!("../../../examples/channel_options.json");
const PYTHON: &str = include_str!("load.py");
const NODE: &str = include_str!("load.mjs");

/// What pip installs.
const PIP: [&str; 2] = ["grpcio==1.85.1", "grpcio-tools==1.85.1"];
/// What npm installs.
const NPM: [&str; 2] = ["@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.1"];
/// How long a client may take to end: its last call has its deadline.
const END_LIMIT: Duration = Duration::from_secs(15);

/// One sender: a client of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Sender {
    /// Its name among the canaries.
    pub name: String,
    /// host:port of its gateways, with commas.
    pub addresses: String,
    /// Its own conversations.
    pub conversations: Vec<String>,
}

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// grpcio.
    Python,
    /// @grpc/grpc-js.
    Node,
}

impl Language {
    /// All.
    pub const ALL: [Language; 2] = [Language::Python, Language::Node];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Language::Python => "python",
            Language::Node => "node",
        }
    }
}

/// A language whose libraries are there.
#[derive(Clone)]
pub struct Kit {
    language: Language,
    /// The interpreter.
    program: PathBuf,
    /// Where its libraries are.
    libraries: PathBuf,
    /// What its clients are let in by, as the command's own variables.
    credentials: Vec<(&'static str, OsString)>,
}

impl Kit {
    /// Finds what a language needs, installing it when it is allowed to.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn find(language: Language, install: bool) -> Result<Kit, String> {
        let cache = cache().ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
        let (program, libraries) = match language {
            Language::Python => (cache.join("python/bin/python"), cache.join("python")),
            Language::Node => (PathBuf::from("node"), cache.join("node")),
        };
        let kit = Kit {
            language,
            program,
            libraries,
            credentials: Vec::new(),
        };
        if kit.works() {
            return Ok(kit);
        }
        if install {
            kit.install()?;
        }
        match kit.works() {
            true => Ok(kit),
            false => Err(format!(
                "its gRPC libraries are not in {}",
                kit.libraries.display()
            )),
        }
    }

    /// Its clients are let in by these variables.
    #[must_use]
    pub fn let_in_by(self, credentials: Vec<(&'static str, OsString)>) -> Kit {
        Kit {
            credentials,
            ..self
        }
    }

    /// Its name.
    pub fn language(&self) -> &'static str {
        self.language.name()
    }

    fn works(&self) -> bool {
        let check = match self.language {
            Language::Python => ["-c", "import grpc, grpc_tools.protoc"],
            Language::Node => [
                "-e",
                "require('@grpc/grpc-js'); require('@grpc/proto-loader')",
            ],
        };
        let mut command = Command::new(&self.program);
        // Where it is not, the libraries are not either.
        command.args(check).current_dir(&self.libraries);
        run(&mut command).is_ok()
    }

    fn install(&self) -> Result<(), String> {
        fs::create_dir_all(&self.libraries).map_err(|error| error.to_string())?;
        eprintln!(
            "installing gRPC for {} in {}",
            self.language(),
            self.libraries.display()
        );
        match self.language {
            Language::Python => {
                run(Command::new("python3")
                    .args(["-m", "venv"])
                    .arg(&self.libraries))?;
                run(Command::new(&self.program)
                    .args(["-m", "pip", "install", "-q"])
                    .args(PIP))
            }
            Language::Node => {
                let options = ["install", "--silent", "--no-fund", "--no-audit", "--prefix"];
                run(Command::new("npm")
                    .args(options)
                    .arg(&self.libraries)
                    .args(NPM))
            }
        }
    }

    /// Starts a process for these senders, which notes its calls in `calls`; its files go to `dir`.
    ///
    /// # Errors
    /// When the code cannot be generated or the process not be started.
    pub fn start(&self, senders: &[Sender], calls: Calls, dir: &Path) -> anyhow::Result<Foreign> {
        let protos = dir.join("protos");
        fs::create_dir_all(protos.join("firebreak/v1"))?;
        fs::write(protos.join("firebreak/v1/messages.proto"), PROTO)?;
        let plan = dir.join(format!("{}.json", self.language()));
        let options: serde_json::Value = serde_json::from_str(CHANNEL_OPTIONS)?;
        let content = json!({
            "senders": senders, "pause_ms": PAUSE.as_millis(), "deadline_ms": CALL_LIMIT.as_millis(),
            "options": options, "service_config": SERVICE_CONFIG, "protos": protos,
        });
        fs::write(&plan, content.to_string())?;
        let mut command = tokio::process::Command::new(&self.program);
        let script = match self.language {
            Language::Python => {
                self.generate(&protos)?;
                command.env("PYTHONPATH", &protos);
                ("load.py", PYTHON)
            }
            Language::Node => ("load.mjs", NODE),
        };
        let file = dir.join(script.0);
        fs::write(&file, script.1)?;
        let log = dir.join(format!("{}.log", self.language()));
        let mut child = command
            .arg(&file)
            .arg(&plan)
            .envs(self.credentials.iter().cloned())
            .current_dir(&self.libraries)
            // Ctrl-C is for the controller: these go on until it tells them to end.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let lines = child.stdout.take().context("a child without stdout")?;
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(lines).lines();
            while let Some(line) = lines.next_line().await? {
                let call = parse(&line).with_context(|| format!("not understood: {line:?}"))?;
                lock(&calls).push(call);
            }
            Ok(())
        });
        Ok(Foreign {
            language: self.language(),
            child,
            reader,
            log,
        })
    }

    fn generate(&self, protos: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args([
            "-m",
            "grpc_tools.protoc",
            "-I.",
            "--python_out=.",
            "--grpc_python_out=.",
        ]);
        command
            .arg("firebreak/v1/messages.proto")
            .current_dir(protos);
        run(&mut command).map_err(anyhow::Error::msg)
    }
}

/// The process of a language's clients.
pub struct Foreign {
    language: &'static str,
    child: Child,
    reader: JoinHandle<anyhow::Result<()>>,
    log: PathBuf,
}

impl Foreign {
    /// That it still runs.
    ///
    /// # Errors
    /// With what it said at last.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "the clients in {} ended ({status}): {}",
                self.language,
                self.said()
            ),
        }
    }

    fn said(&self) -> String {
        firebreak::cluster::process::tail_of(&self.log)
    }

    /// Tells it to end, and waits until all it did is noted.
    ///
    /// # Errors
    /// When it ends otherwise than well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
        let (language, said) = (self.language, self.said());
        let status = ended.with_context(|| format!("the clients in {language} do not end"))??;
        if !status.success() {
            bail!("the clients in {language} ended with {status}: {said}");
        }
        self.reader.await?
    }
}

/// Reads a line: sender, conversation, id, sent, ended, seq, gateway or error.
fn parse(line: &str) -> Option<Call> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [sender, room, id, sent, ended, seq, what] = fields[..] else {
        return None;
    };
    let seq: u64 = seq.parse().ok()?;
    Some(Call {
        sender: sender.to_owned(),
        room: room.to_owned(),
        id: id.to_owned(),
        sent_us: sent.parse().ok()?,
        ended_us: ended.parse().ok()?,
        outcome: if seq > 0 {
            Ok(seq)
        } else {
            Err(what.to_owned())
        },
    })
}

fn cache() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    Some(cache?.join("firebreak/clients"))
}

/// Runs a command to its end; what it said is the error.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call_that_was_answered_or_failed() {
        let call = parse("node-any-1\troom\tid-1\t10\t25\t3\tseoul-1 (seoul)").unwrap();
        assert_eq!((call.sent_us, call.ended_us, call.outcome), (10, 25, Ok(3)));
        let failed = parse("s\troom\tid\t10\t25\t0\tUNAVAILABLE: x").unwrap();
        assert_eq!(failed.outcome, Err("UNAVAILABLE: x".to_owned()));
        assert!(parse("s\troom\tid\t10\t25").is_none());
    }

    #[test]
    fn what_is_published_is_json_that_grpc_takes() {
        let config: serde_json::Value = serde_json::from_str(SERVICE_CONFIG).unwrap();
        let policy = &config["methodConfig"][0]["retryPolicy"];
        assert!((2..=5).contains(&policy["maxAttempts"].as_u64().unwrap()));
        let named = config["methodConfig"][0]["name"].as_array().unwrap();
        for method in named {
            let method = method["method"].as_str().unwrap();
            assert!(PROTO.contains(&format!("rpc {method}(")), "{method}");
        }
        let options: serde_json::Value = serde_json::from_str(CHANNEL_OPTIONS).unwrap();
        assert!(
            options
                .as_object()
                .unwrap()
                .values()
                .all(|value| value.is_u64() || value.is_string())
        );
    }
}
