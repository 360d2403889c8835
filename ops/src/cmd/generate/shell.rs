//! `generate completions` and `generate man`: what a shell and `man` know of the command.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{File, Output};

const COMPLETION_EXAMPLES: &str = "\
Examples:
  firebreak generate completions bash > /etc/bash_completion.d/firebreak
  firebreak generate completions zsh > \"${fpath[1]}/_firebreak\"
  firebreak generate completions fish --out ~/.config/fish/completions";

const MAN_EXAMPLES: &str = "\
Examples:
  firebreak generate man | man -l -
  firebreak generate man status | man -l -
  firebreak generate man --out /usr/local/share/man/man1";

/// Write completions for a shell.
#[derive(clap::Args, Debug)]
#[command(after_help = COMPLETION_EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
    #[command(flatten)]
    output: Output,
}

impl Completions {
    pub fn files(self) -> (Vec<File>, Output) {
        let mut command = crate::Cli::command();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "firebreak", &mut script);
        let name = match self.shell {
            Shell::Zsh => "_firebreak".to_owned(),
            Shell::Fish => "firebreak.fish".to_owned(),
            Shell::Bash => "firebreak".to_owned(),
            other => format!("firebreak.{other}"),
        };
        let script = String::from_utf8_lossy(&script);
        (vec![File::new(name, script)], self.output)
    }
}

/// Write man pages.
#[derive(clap::Args, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub struct Man {
    /// The verb that the page is about, as `node drain`; without it, the command's own
    verb: Vec<String>,
    #[command(flatten)]
    output: Output,
}

impl Man {
    /// # Errors
    /// Usage, when there is no such verb.
    pub fn files(self) -> anyhow::Result<(Vec<File>, Output)> {
        let mut command = crate::Cli::command();
        command.build();
        let mut pages = Vec::new();
        collect(&command, &mut vec!["firebreak".to_owned()], &mut pages)?;
        if self.output.out.is_none() || !self.verb.is_empty() {
            let wanted = self.verb.join(" ");
            let known: Vec<String> = pages.iter().map(|(verb, _)| verb.clone()).collect();
            pages.retain(|(verb, _)| *verb == wanted);
            if pages.is_empty() {
                let known = known[1..].join(", ");
                let why = format!("there is no verb {wanted:?}; there are: {known}");
                return Err(crate::exit::Usage(why).into());
            }
        }
        let files = pages.into_iter().map(|(_, file)| file).collect();
        Ok((files, self.output))
    }
}

/// The page of a command, and of all below it, each with its verb.
fn collect(
    command: &clap::Command,
    words: &mut Vec<String>,
    pages: &mut Vec<(String, File)>,
) -> anyhow::Result<()> {
    let mut page = Vec::new();
    let name = words.join("-");
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    pages.push((words[1..].join(" "), File::new(format!("{name}.1"), page)));
    for verb in command.get_subcommands() {
        if !verb.is_hide_set() && verb.get_name() != "help" {
            words.push(verb.get_name().to_owned());
            collect(verb, words, pages)?;
            words.pop();
        }
    }
    Ok(())
}
