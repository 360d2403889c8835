//! Where an export stands: noted while it goes on, so that a killed one goes on where it was.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use model::hash;
use model::id::ConversationKey;
use serde::{Deserialize, Serialize};

use super::manifest::Part;
use super::{Counts, FORMAT};
use crate::exit::Usage;

/// Its file; there is none any more once the export is whole.
pub const FILE: &str = "export.position.json";

/// What of a tenant is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// All of it.
    Tenant,
    /// One conversation, by its id.
    Conversation(String),
    /// The messages that one user sent.
    User(String),
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::Tenant => f.write_str("all conversations"),
            Selection::Conversation(id) => write!(f, "the conversation {id:?}"),
            Selection::User(user) => write!(f, "what {user:?} sent"),
        }
    }
}

/// How far an export is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose conversations.
    pub tenant: String,
    /// Which of them.
    pub selection: Selection,
    /// What is written.
    pub counts: Counts,
    /// The parts that are whole.
    pub parts: Vec<Part>,
    /// Bytes of the part that is being written.
    pub part_bytes: u64,
    /// The page of the list of conversations that is being gone through.
    pub page_token: String,
    /// The conversation that was written last, perhaps not to its end.
    pub last: Option<Last>,
}

/// A conversation that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Its id.
    pub conversation: String,
    /// Which life of it.
    pub incarnation: u64,
    /// Where to go on.
    pub next_seq: u64,
    /// Where it ends.
    pub last_seq: u64,
    /// Its first line, while that is not written.
    pub begin: Option<String>,
}

impl Last {
    /// Whether there is nothing left of it to write.
    pub fn is_whole(&self) -> bool {
        self.next_seq > self.last_seq
    }

    /// Its place in the tenant's list.
    pub fn key(&self, tenant: &str) -> ConversationKey {
        hash::conversation_key(tenant, &self.conversation)
    }
}

impl Position {
    /// Nothing is written.
    pub fn new(tenant: String, selection: Selection) -> Position {
        Position {
            format: FORMAT,
            tenant,
            selection,
            counts: Counts::default(),
            parts: Vec::new(),
            part_bytes: 0,
            page_token: String::new(),
            last: None,
        }
    }

    /// What an export of the same noted in this directory; `None` when none was begun.
    ///
    /// # Errors
    /// Usage, when it was one of something else; or the note cannot be read.
    pub fn load(
        dir: &Path,
        tenant: &str,
        selection: &Selection,
    ) -> anyhow::Result<Option<Position>> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| path.display().to_string())?,
        };
        let damaged = || {
            format!(
                "{} cannot be read; remove it and the parts beside it to begin anew",
                path.display()
            )
        };
        let found: Position = serde_json::from_slice(&bytes).with_context(damaged)?;
        if found.format != FORMAT {
            let told = format!(
                "{} has format {}, this version goes on with format {FORMAT}",
                path.display(),
                found.format
            );
            return Err(anyhow!(Usage(told)));
        }
        if found.tenant != tenant || found.selection != *selection {
            let told = format!(
                "{} holds an unfinished export of {} of tenant {:?}; name another directory for {selection} of \
                 tenant {tenant:?}",
                dir.display(),
                found.selection,
                found.tenant,
            );
            return Err(anyhow!(Usage(told)));
        }
        Ok(Some(found))
    }

    /// Notes it, durably. What it speaks of must be synced.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        replace(dir, FILE, &text)
    }
}

/// Puts a file in the place of another, durably: it is the old one or the new one at any time.
///
/// # Errors
/// When the disk refuses.
pub fn replace(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let put = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    put().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_file_and_belongs_to_one_selection() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let user = Selection::User("ann".into());
        assert_eq!(Position::load(dir, "acme", &user).unwrap(), None);
        let mut position = Position::new("acme".into(), user.clone());
        position.last = Some(Last {
            conversation: "room".into(),
            incarnation: 1,
            next_seq: 1_001,
            last_seq: 1_000,
            begin: Some("{}".into()),
        });
        assert!(position.last.as_ref().unwrap().is_whole());
        position.save(dir).unwrap();
        let found = Position::load(dir, "acme", &user).unwrap();
        assert_eq!(found, Some(position));
        for (tenant, selection) in [("other", user), ("acme", Selection::Tenant)] {
            let error = Position::load(dir, tenant, &selection).unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
        }
        fs::write(dir.join(FILE), "{").unwrap();
        assert!(Position::load(dir, "acme", &Selection::Tenant).is_err());
    }
}
