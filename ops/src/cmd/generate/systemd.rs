//! `generate systemd`: a unit that knows the exit codes.

use super::{File, Output};
use crate::exit::{UNWANTED, USAGE, Usage};

const EXAMPLES: &str = "\
Examples:
  firebreak generate systemd | sudo tee /etc/systemd/system/firebreak.service
  firebreak generate systemd --binary /opt/firebreak/bin/firebreak --user chat --out /etc/systemd/system

Then: systemctl daemon-reload && systemctl enable --now firebreak";

/// Write a unit for systemd.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The node's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/firebreak/node.toml")]
    config: String,
    /// The command
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/firebreak")]
    binary: String,
    /// Whom the node runs as
    #[arg(long, value_name = "NAME", default_value = "firebreak")]
    user: String,
    /// The node's data_dir, below /var/lib; the unit makes it
    #[arg(long, value_name = "NAME", default_value = "firebreak")]
    state: String,
    #[command(flatten)]
    output: Output,
}

impl Args {
    /// # Errors
    /// Usage, when a value would not be one word of a unit.
    pub fn files(self) -> anyhow::Result<(Vec<File>, Output)> {
        for (flag, value) in [
            ("--config", &self.config),
            ("--binary", &self.binary),
            ("--user", &self.user),
            ("--state", &self.state),
        ] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@+".contains(c);
            if value.is_empty() || !value.chars().all(plain) {
                let why = format!("{flag}: {value:?} has more than letters, digits and /._-@+");
                return Err(Usage(why).into());
            }
        }
        for (flag, path) in [("--config", &self.config), ("--binary", &self.binary)] {
            if !path.starts_with('/') {
                return Err(Usage(format!("{flag}: {path:?} must begin with /")).into());
            }
        }
        Ok((
            vec![File::new("firebreak.service", self.unit())],
            self.output,
        ))
    }

    fn unit(&self) -> String {
        let Args {
            config,
            binary,
            user,
            state,
            ..
        } = self;
        format!(
            "# Made by `firebreak generate systemd`, Firebreak {version}.\n\
             [Unit]\n\
             Description=Firebreak node\n\
             Wants=network-online.target\n\
             After=network-online.target time-sync.target\n\
             # A node that stops again and again is still tried: others serve meanwhile.\n\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             Type=exec\n\
             ExecStart={binary} serve --config {config}\n\
             User={user}\n\
             Group={user}\n\
             StateDirectory={state}\n\
             StateDirectoryMode=0700\n\
             # {USAGE}: wrong arguments or configuration. {UNWANTED}: the cluster does not want the node any more.\n\
             # Starting it again helps with neither.\n\
             Restart=on-failure\n\
             RestartSec=1\n\
             RestartPreventExitStatus={USAGE} {UNWANTED}\n\
             # SIGTERM: 4 s to hand leaders over, 5 s to finish calls, the rest to close its databases.\n\
             KillSignal=SIGTERM\n\
             TimeoutStopSec=60\n\
             LimitNOFILE=1048576\n\
             OOMScoreAdjust=-500\n\
             NoNewPrivileges=yes\n\
             ProtectSystem=strict\n\
             ProtectHome=yes\n\
             PrivateTmp=yes\n\
             PrivateDevices=yes\n\
             ProtectKernelTunables=yes\n\
             ProtectKernelModules=yes\n\
             ProtectControlGroups=yes\n\
             RestrictSUIDSGID=yes\n\
             RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n",
            version = env!("CARGO_PKG_VERSION"),
        )
    }
}
