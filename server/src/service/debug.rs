//! What a node and its process know of themselves, as files for `firebreak debug bundle`.
//!
//! Files are read one after the other, when the caller has taken what was before, so that a call keeps
//! one file in memory. Nothing leaves without [`secrets::clean`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use proto::v1;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::Status;

use crate::config::Config;
use crate::error::Failure;
use crate::secrets;
use crate::sight::api::jobs::{self, Setting};
use crate::world::{Background, Debug, Machine, Metrics, Piece, Process, ProcessFigures};

/// What a caller is sent.
pub type Parts = BoxStream<'static, Result<v1::GetDebugPart, Status>>;

/// Bytes of all files together.
const CALL_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of one file.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of one piece.
const PIECE_BYTES: usize = 256 * 1024;
/// Calls that are answered at once; others wait.
const CALLS_MAX: usize = 2;
/// Shards whose series are told.
const SHARDS_TOLD: usize = 200;

/// What is in memory, and never waits for a disk.
const OWN: [&str; 4] = [CONFIG, PROCESS, METRICS, SHARDS];
const CONFIG: &str = "config.json";
const PROCESS: &str = "process.json";
const METRICS: &str = "metrics.txt";
const SHARDS: &str = "shards.txt";

/// Where the files come from.
pub struct Files {
    /// How the node is set.
    pub config: Config,
    /// Its metrics.
    pub metrics: Metrics,
    /// What its process takes.
    pub process: Arc<dyn Process>,
    /// What its process knows.
    pub debug: Arc<dyn Debug>,
    /// Where disks are waited for.
    pub background: Arc<dyn Background>,
    /// Of the process.
    pub pid: u32,
    /// What the machine gives to it.
    pub machine: Machine,
    /// Calls under way.
    pub calls: Arc<Semaphore>,
}

impl Files {
    /// As many calls as are answered at once.
    pub fn calls() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(CALLS_MAX))
    }

    fn names(&self) -> Vec<&'static str> {
        let others = self.debug.files().iter().copied();
        OWN.into_iter().chain(others).collect()
    }
}

/// How a node is set.
#[derive(Serialize)]
struct Settings<'a> {
    node: &'a str,
    version: &'static str,
    file: Option<&'a str>,
    values: Vec<Setting>,
}

/// What its process is and takes.
#[derive(Serialize)]
struct ProcessFacts {
    version: &'static str,
    pid: u32,
    memory_bytes_max: u64,
    descriptors_max: u64,
    figures: Option<ProcessFigures>,
}

/// A call under way.
struct Call {
    files: Arc<Files>,
    wanted: VecDeque<&'static str>,
    pieces: VecDeque<v1::GetDebugPart>,
    left_bytes: u64,
    permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// Answers a call.
///
/// # Errors
/// When a file is asked for that there is not.
pub fn parts(files: Arc<Files>, request: v1::GetDebugRequest) -> Result<Parts, Failure> {
    let names = files.names();
    let known = |file: &&String| names.iter().any(|name| name == *file);
    if let Some(unknown) = request.files.iter().find(|file| !known(file)) {
        let all = names.join(", ");
        return Err(Failure::field(
            "files",
            format!("{unknown:?} is none of {all}"),
        ));
    }
    // Each once, however often it is named.
    let asked =
        |name: &&str| request.files.is_empty() || request.files.iter().any(|one| one == name);
    let wanted = names.into_iter().filter(asked).collect();
    let call = Call {
        files,
        wanted,
        pieces: VecDeque::new(),
        left_bytes: CALL_BYTES,
        permit: None,
    };
    Ok(stream::unfold(call, next).boxed())
}

async fn next(mut call: Call) -> Option<(Result<v1::GetDebugPart, Status>, Call)> {
    if call.pieces.is_empty() {
        let file = call.wanted.pop_front()?;
        call.read(file).await;
    }
    let piece = call.pieces.pop_front()?;
    Some((Ok(piece), call))
}

impl Call {
    async fn read(&mut self, file: &'static str) {
        let bytes_max = self.left_bytes.min(FILE_BYTES);
        let read = match (bytes_max, self.begin().await) {
            (0, _) => Err("what one call may give is used up; ask for this file alone".to_owned()),
            (_, None) => Err("the node stops".to_owned()),
            (_, Some(permit)) => read(&self.files, file, bytes_max, permit).await,
        };
        match read {
            Ok(piece) => {
                self.left_bytes = self.left_bytes.saturating_sub(piece.data.len() as u64);
                self.pieces = split(file, piece);
            }
            Err(missing) => self.pieces.push_back(v1::GetDebugPart {
                file: file.to_owned(),
                last: true,
                missing,
                ..v1::GetDebugPart::default()
            }),
        }
    }

    /// The right to be answered, once there is one.
    async fn begin(&mut self) -> Option<Arc<OwnedSemaphorePermit>> {
        if self.permit.is_none() {
            let permit = self.files.calls.clone().acquire_owned().await.ok()?;
            self.permit = Some(Arc::new(permit));
        }
        self.permit.clone()
    }
}

/// A file; or why there is nothing of it.
async fn read(
    files: &Files,
    file: &'static str,
    bytes_max: u64,
    permit: Arc<OwnedSemaphorePermit>,
) -> Result<Piece, String> {
    let text = match file {
        CONFIG => Some(json(&Settings {
            node: &files.config.name,
            version: env!("CARGO_PKG_VERSION"),
            file: files.config.given.file.as_deref(),
            values: jobs::settings(&files.config),
        })?),
        PROCESS => Some(json(&ProcessFacts {
            version: env!("CARGO_PKG_VERSION"),
            pid: files.pid,
            memory_bytes_max: files.machine.memory_bytes,
            descriptors_max: files.machine.descriptors,
            figures: files.process.figures(),
        })?),
        METRICS => Some(files.metrics.text().ok_or("the node ends")?),
        SHARDS => Some(files.metrics.shards(SHARDS_TOLD).ok_or("the node ends")?),
        _ => None,
    };
    let piece = match text {
        Some(text) => ended(text.into_bytes(), bytes_max),
        None => {
            let debug = files.debug.clone();
            let (done, result) = oneshot::channel();
            files.background.run(Box::new(move || {
                let read = debug.read(file, bytes_max);
                // A disk that hangs keeps the right to be answered, so that few threads hang on it.
                drop(permit);
                // Nobody waits when the caller is gone.
                let _ = done.send(read);
            }));
            let read = result.await.map_err(|_| "no thread to read it on")?;
            read.map_err(|error: io::Error| error.to_string())?
        }
    };
    Ok(Piece {
        data: secrets::clean(piece.data),
        ..piece
    })
}

fn json(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}

/// The end of a text, from the begin of a line on.
fn ended(mut text: Vec<u8>, bytes_max: u64) -> Piece {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut from = text.len().saturating_sub(bytes_max);
    if from > 0 {
        let line = text[from..].iter().position(|byte| *byte == b'\n');
        from += line.map_or(0, |end| end + 1);
    }
    Piece {
        data: text.split_off(from),
        left_out_bytes: from as u64,
    }
}

fn split(file: &str, piece: Piece) -> VecDeque<v1::GetDebugPart> {
    let mut data = Bytes::from(piece.data);
    let mut pieces = VecDeque::new();
    loop {
        let chunk = data.split_to(data.len().min(PIECE_BYTES));
        pieces.push_back(v1::GetDebugPart {
            file: file.to_owned(),
            data: chunk,
            last: data.is_empty(),
            left_out_bytes: piece.left_out_bytes,
            missing: String::new(),
        });
        if data.is_empty() {
            return pieces;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_in_pieces_and_only_the_last_one_says_so() {
        let data: Vec<u8> = (0..=255_u8).cycle().take(PIECE_BYTES * 2 + 5).collect();
        let piece = Piece {
            data: data.clone(),
            left_out_bytes: 9,
        };
        let pieces = split("log.txt", piece);
        let last: Vec<bool> = pieces.iter().map(|one| one.last).collect();
        assert_eq!(last, [false, false, true]);
        let joined: Vec<u8> = pieces.iter().flat_map(|one| one.data.to_vec()).collect();
        assert_eq!(joined, data);
        assert!(pieces.iter().all(|one| one.left_out_bytes == 9));
        let empty = split("log.txt", Piece::default());
        assert_eq!((empty.len(), empty[0].last), (1, true));
    }

    #[test]
    fn a_long_text_keeps_its_end_from_a_whole_line_on() {
        let check = |bytes_max: u64, data: &str, left_out: u64| {
            let piece = ended(b"one\ntwo\nthree\n".to_vec(), bytes_max);
            let told = String::from_utf8(piece.data).unwrap();
            assert_eq!((told.as_str(), piece.left_out_bytes), (data, left_out));
        };
        check(99, "one\ntwo\nthree\n", 0);
        check(14, "one\ntwo\nthree\n", 0);
        check(11, "two\nthree\n", 4);
        check(3, "", 14);
    }

    struct Inline;

    impl Background for Inline {
        fn run(&self, job: Box<dyn FnOnce() + Send>) {
            job();
        }
    }

    struct NoFigures;

    impl Process for NoFigures {
        fn figures(&self) -> Option<ProcessFigures> {
            None
        }
    }

    /// Files that are as large as they may be, but for one that tells a secret and one that fails.
    struct Large;

    impl Debug for Large {
        fn files(&self) -> &'static [&'static str] {
            &["log.txt", "gone", "a", "b", "c", "d", "e"]
        }

        fn read(&self, file: &str, bytes_max: u64) -> io::Result<Piece> {
            match file {
                "log.txt" => Ok(Piece {
                    data: format!("joins with fb-{}", "1".repeat(40)).into_bytes(),
                    left_out_bytes: 0,
                }),
                "gone" => Err(io::Error::other("the disk is gone")),
                _ => Ok(Piece {
                    data: vec![b'x'; usize::try_from(bytes_max).unwrap()],
                    left_out_bytes: 1,
                }),
            }
        }
    }

    fn files() -> Arc<Files> {
        let text = "name = \"n\"\nlisten = \"127.0.0.1:1\"\ndata_dir = \"d\"\n[locality]\n\
                    region = \"r\"\ndc = \"d\"\n";
        Arc::new(Files {
            config: Config::parse(text, "node.toml").unwrap(),
            metrics: Metrics::default(),
            process: Arc::new(NoFigures),
            debug: Arc::new(Large),
            background: Arc::new(Inline),
            pid: 7,
            machine: Machine {
                memory_bytes: 1,
                descriptors: 1,
            },
            calls: Files::calls(),
        })
    }

    async fn asked(files: &[&str]) -> Vec<v1::GetDebugPart> {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let parts = parts(self::files(), v1::GetDebugRequest { files });
        let parts: Vec<_> = parts.unwrap_or_else(|_| panic!("refused")).collect().await;
        parts.into_iter().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn a_call_is_bounded_and_says_of_each_file_what_it_does_not_give() {
        let parts = asked(&[]).await;
        let bytes: u64 = parts.iter().map(|part| part.data.len() as u64).sum();
        assert!(
            bytes <= CALL_BYTES && bytes > CALL_BYTES - FILE_BYTES,
            "{bytes}"
        );
        let missing = |file: &str| {
            let part = parts.iter().find(|part| part.file == file).unwrap();
            part.missing.clone()
        };
        assert_eq!(missing(METRICS), "the node ends");
        assert_eq!(missing("gone"), "the disk is gone");
        assert_eq!(missing("a"), "");
        assert!(missing("e").contains("ask for this file alone"));
        let last = parts.iter().filter(|part| part.last).count();
        assert_eq!(last, OWN.len() + Large.files().len());
    }

    #[tokio::test]
    async fn a_file_is_given_once_without_secrets_and_an_unknown_one_is_refused() {
        let parts = asked(&["log.txt", "config.json", "log.txt"]).await;
        let names: Vec<&str> = parts.iter().map(|part| part.file.as_str()).collect();
        assert_eq!(names, ["config.json", "log.txt"]);
        assert_eq!(&parts[1].data[..], b"joins with (removed)");
        let request = v1::GetDebugRequest {
            files: vec!["../identity".to_owned()],
        };
        let refused = super::parts(files(), request).err();
        assert!(matches!(refused, Some(Failure::Invalid(_))));
    }
}
