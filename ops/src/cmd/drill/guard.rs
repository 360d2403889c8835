//! `firebreak drill guard`: started by `firebreak drill run`, and by nobody else.

use std::process::ExitCode;

use crate::drill::run::guard;

/// Undo what a controller does to processes when that dies; its commands come on standard input.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The drill, by which another controller knows this process
    #[arg(value_name = "DRILL")]
    _drill: String,
    /// What starts a node again, {node} is its name; as it was started when not given
    #[arg(long, value_name = "COMMAND")]
    start_with: Option<String>,
}

impl Args {
    /// Reads until the controller is gone, and undoes what is left.
    ///
    /// # Errors
    /// When something cannot be undone.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let with = self.start_with.as_deref();
        guard::keep(with, std::io::stdin().lock()).await?;
        Ok(ExitCode::SUCCESS)
    }
}
