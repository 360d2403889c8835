//! The processes of the nodes: started, signalled, killed, and still there.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Cluster;
use super::process::{self, Process};

impl Cluster {
    /// Starts the process of node `i`, if it has none. Does not wait for it to answer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_node(&mut self, i: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[i];
        if node.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.plan.binary);
        command.arg("serve").arg("--config").arg(&node.config);
        let process = Process::start(command, &node.log, self.plan.outlive)
            .with_context(|| format!("cannot start {}", node.name))?;
        node.process = Some(process);
        Ok(())
    }

    /// SIGKILLs nodes: all are hit before the first is waited for.
    ///
    /// # Errors
    /// When one of them had died before.
    pub fn kill(&mut self, which: &[usize]) -> anyhow::Result<()> {
        self.check()?;
        for &i in which {
            if let Some(process) = &self.nodes[i].process {
                process.signal(libc::SIGKILL)?;
            }
        }
        for &i in which {
            drop(self.nodes[i].process.take());
        }
        Ok(())
    }

    /// Sends a signal that ends nothing, such as SIGSTOP, to nodes.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn signal(&mut self, which: &[usize], signal: libc::c_int) -> anyhow::Result<()> {
        for &i in which {
            let node = &self.nodes[i];
            let process = node.process.as_ref();
            let process = process.with_context(|| format!("{} is down", node.name))?;
            process.signal(signal)?;
        }
        Ok(())
    }

    /// SIGTERMs node `i` and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or does not end within `limit` (it is killed then).
    pub fn terminate(&mut self, i: usize, limit: Duration) -> anyhow::Result<ExitStatus> {
        let node = &mut self.nodes[i];
        let mut process = node
            .process
            .take()
            .with_context(|| format!("{} is down", node.name))?;
        process.signal(libc::SIGTERM)?;
        process
            .wait(limit)
            .with_context(|| format!("{}\n{}", node.name, process::tail_of(&node.log)))
    }

    /// Waits for node `i` to end by itself, as one does that refuses to start.
    ///
    /// # Errors
    /// When it does not run, or goes on running for `limit`.
    pub fn wait_end(&mut self, i: usize, limit: Duration) -> anyhow::Result<ExitStatus> {
        let node = &mut self.nodes[i];
        let process = node
            .process
            .as_mut()
            .with_context(|| format!("{} is down", node.name))?;
        let status = process
            .wait(limit)
            .with_context(|| format!("{}\n{}", node.name, process::tail_of(&node.log)))?;
        node.process = None;
        Ok(status)
    }

    /// That every node still runs that was started and not stopped.
    ///
    /// # Errors
    /// Names the first that does not, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if let Some(status) = node.process.as_mut().and_then(Process::ended) {
                node.process = None;
                bail!(
                    "{} died unexpectedly ({status}); the end of {}:\n{}",
                    node.name,
                    node.log.display(),
                    process::tail_of(&node.log)
                );
            }
        }
        Ok(())
    }

    /// Lets all nodes run on when this goes; only for a plan with `outlive`.
    pub fn release(mut self) {
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                process.release();
            }
        }
    }
}
