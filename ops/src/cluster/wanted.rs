//! Nodes that somebody else wants started: a drill's controller, which is told to ask by a file of the
//! node's name, as it would ask a service manager elsewhere.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::Cluster;
use super::process::Process;

impl Cluster {
    /// The command by which a controller asks; `{node}` in it stands for the node's name.
    pub fn start_with(folder: &Path) -> String {
        format!("touch '{}/{{node}}'", folder.display())
    }

    /// Starts the nodes of whose names there is a file in a folder, and takes the files away.
    ///
    /// # Errors
    /// When the folder cannot be read, or a node cannot be started.
    pub fn start_wanted(&mut self, folder: &Path) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be read", folder.display());
        for entry in fs::read_dir(folder).with_context(cannot)? {
            let file = entry.with_context(cannot)?;
            fs::remove_file(file.path()).with_context(cannot)?;
            self.start_again(&file.file_name().to_string_lossy())?;
        }
        Ok(())
    }

    /// Starts a node that somebody else has ended. One that runs is left alone.
    fn start_again(&mut self, name: &str) -> anyhow::Result<()> {
        let at = self.nodes.iter().position(|node| node.name == name);
        let at = at.with_context(|| format!("there is no node {name}"))?;
        let process = &mut self.nodes[at].process;
        if process.as_mut().and_then(Process::ended).is_some() {
            *process = None;
        }
        self.start_node(at)
    }
}
