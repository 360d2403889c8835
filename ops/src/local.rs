//! The node's local socket, `admin.sock` in its data directory: operators of the machine get in there, whatever
//! became of keys and certificates. Who may open it is said by the file's mode, 0600, and by the directory's.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt as _;
use proto::net::{Channel, Dial, endpoint};
use server::world::LocalConnections;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;

/// The socket's name in a data directory.
const NAME: &str = "admin.sock";
/// What the node is called on its socket; nobody looks it up.
pub const ADDRESS: &str = "local.socket:1";
/// Longest path of a socket on Linux, bytes.
const PATH_BYTES_MAX: usize = 107;

/// Opens the socket of the node whose data is in `directory`; none where its path is too long for one, which
/// is told. One that an earlier process left is replaced: the directory is locked, so nobody listens there.
///
/// # Errors
/// As the file system has.
pub fn listen(directory: &Path) -> anyhow::Result<Option<LocalConnections>> {
    let path = directory.join(NAME);
    let shown = path.display();
    if path.as_os_str().len() > PATH_BYTES_MAX {
        tracing::warn!(%shown, "there is no local socket: a socket's path has at most {PATH_BYTES_MAX} bytes");
        return Ok(None);
    }
    match std::fs::symlink_metadata(&path) {
        Ok(old) if old.file_type().is_socket() => std::fs::remove_file(&path)
            .with_context(|| format!("cannot replace the socket {shown}"))?,
        Ok(_) => anyhow::bail!("{shown} is no socket: remove it"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    }
    // It is made under another name, so that nobody comes in before its mode is set.
    let made = directory.join("admin.new");
    let _ = std::fs::remove_file(&made);
    let listener =
        UnixListener::bind(&made).with_context(|| format!("cannot listen on {shown}"))?;
    let owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&made, owner)
        .and_then(|()| std::fs::rename(&made, &path))
        .with_context(|| format!("cannot make {shown}"))?;
    Ok(Some(UnixListenerStream::new(listener).boxed()))
}

/// Where the socket is that somebody names: itself, or the data directory.
pub fn socket(named: &Path) -> PathBuf {
    match named.is_dir() {
        true => named.join(NAME),
        false => named.to_owned(),
    }
}

/// Dials the socket, whatever it is asked for.
#[derive(Debug)]
pub struct Socket(pub Arc<PathBuf>);

impl Dial for Socket {
    fn dial(&self, _: &str) -> io::Result<Channel> {
        let path = self.0.clone();
        let connect = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move {
                let stream = UnixStream::connect(&*path).await?;
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        Ok(endpoint(ADDRESS)?
            .connect_with_connector_lazy(connect)
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_replaces_what_was_left() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let connections = listen(directory.path()).unwrap();
            assert!(connections.is_some());
            let path = socket(directory.path());
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(socket(&path), path);
        }
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(NAME), "x").unwrap();
        assert!(listen(directory.path()).is_err());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_told_and_does_not_stop_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        assert!(listen(&deep).unwrap().is_none());
    }
}
