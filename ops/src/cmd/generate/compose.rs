//! `generate compose`: three data centers of one node each, on this machine, for trying out.

use std::fmt::Write as _;

use super::{File, Output};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak generate compose > compose.yaml && docker compose up -d
  firebreak status --target 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103
  docker compose kill busan-1 && firebreak status --target 127.0.0.1:7101,127.0.0.1:7103

The containers run this machine's binary: its path is FIREBREAK, else /usr/bin/firebreak. The
image has to have a C library that suits it; --image says which.";

/// The data centers, in the order of their ports.
const DCS: [&str; 3] = ["seoul", "busan", "tokyo"];
/// The first port on this machine.
const PORT: u16 = 7101;

/// Write a compose file: three data centers on this machine.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The image of the containers: any with a C library and /bin/sh
    #[arg(long, value_name = "NAME", default_value = "debian:12-slim")]
    image: String,
    /// Nodes in each data center
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    #[command(flatten)]
    output: Output,
}

impl Args {
    /// # Errors
    /// Usage, when the image's name is none.
    pub fn files(self) -> anyhow::Result<(Vec<File>, Output)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@".contains(c);
        if self.image.is_empty() || !self.image.chars().all(plain) {
            let why = format!("--image: {:?} is no name of an image", self.image);
            return Err(Usage(why).into());
        }
        let text = compose(&self.image, self.nodes);
        Ok((vec![File::new("compose.yaml", text)], self.output))
    }
}

fn compose(image: &str, nodes: u16) -> String {
    let names: Vec<(String, &str)> = (1..=nodes)
        .flat_map(|number| DCS.map(|dc| (format!("{dc}-{number}"), dc)))
        .collect();
    let firsts: Vec<String> = DCS.iter().map(|dc| format!("\"{dc}-1:7101\"")).collect();
    let peers = firsts.join(", ");
    let mut text = format!(
        "# Three data centers on this machine, made by `firebreak generate compose`, Firebreak {}.\n\
         name: firebreak\n\
         x-node: &node\n  image: {image}\n  restart: on-failure\n  stop_grace_period: 60s\n  \
         ulimits:\n    nofile: 65536\n\
         services:\n",
        env!("CARGO_PKG_VERSION"),
    );
    for (at, (name, _)) in names.iter().enumerate() {
        let port = usize::from(PORT) + at;
        let enrol = match at {
            0 => format!(
                "[ -e /data/founded ] || {{ firebreak init --config /etc/node.toml --nodes {} \
                 && touch /data/founded; }}",
                names.len()
            ),
            _ => "[ -e /data/joined ] || { until [ -s /data/token ] || firebreak token create --valid 1h \
                  --target seoul-1:7101 > /data/token; do sleep 1; done; firebreak node join \
                  --config /etc/node.toml --token $$(cat /data/token) && touch /data/joined; }"
                .to_owned(),
        };
        let _ = write!(
            text,
            "  {name}:\n    <<: *node\n    hostname: {name}\n    \
             ports: [\"127.0.0.1:{port}:7101\"]\n    volumes:\n      \
             - \"${{FIREBREAK:-/usr/bin/firebreak}}:/usr/local/bin/firebreak:ro\"\n      \
             - \"{name}:/data\"\n    \
             configs:\n      - source: {name}\n        target: /etc/node.toml\n    \
             command:\n      - /bin/sh\n      - -ec\n      - |-\n        {enrol}\n        \
             exec firebreak serve --insecure --config /etc/node.toml\n"
        );
    }
    text.push_str("configs:\n");
    for (name, dc) in &names {
        let _ = write!(
            text,
            "  {name}:\n    content: |\n      name = \"{name}\"\n      listen = \"0.0.0.0:7101\"\n      \
             advertise = \"{name}:7101\"\n      data_dir = \"/data/node\"\n      peers = [{peers}]\n      \
             [locality]\n      region = \"kr\"\n      dc = \"{dc}\"\n"
        );
    }
    text.push_str("volumes:\n");
    for (name, _) in &names {
        let _ = writeln!(text, "  {name}: {{}}");
    }
    text
}
