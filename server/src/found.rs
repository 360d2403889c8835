//! Founding a cluster, and joining one. Both only write who the node is; `serve` does the rest.

use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use model::cluster::access::{self, Role};
use model::cluster::{ClusterState, JoinToken, Locality, Node};
use model::{hash, limits};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use store::Log;
use thiserror::Error;
use tonic::{Code, Request, Status};

use crate::World;
use crate::config::{Auth, Config};
use crate::identity::{self, Record};
use crate::world::{Certificates, Entropy};

/// How long one node may take to answer a join.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How often the nodes are asked, one after the other, before a join is given up.
const ROUNDS: u32 = 3;
/// Between two rounds.
const ROUND_WAIT: Duration = Duration::from_millis(500);

/// How a cluster is founded.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Nodes that must have joined before shards are laid out, this one included.
    pub nodes_expected: u32,
    /// Data shards; 0 = one per node.
    pub shards: u32,
    /// Replicas of each data shard.
    pub replicas: u32,
    /// How long others may join with the first token, ms; 0 = it does not expire.
    pub token_valid_ms: u64,
}

/// A founded cluster.
#[derive(Clone, Debug)]
pub struct InitResult {
    /// Its id, hex.
    pub cluster_id: String,
    /// What other nodes join with.
    pub token: String,
    /// Unix milliseconds from which it lets nobody in; 0 = never.
    pub token_expires_ms: u64,
    /// This node's number.
    pub node_id: u64,
    /// The first operator's API key, where callers must have one.
    pub operator_key: Option<String>,
}

/// A node that was let in.
#[derive(Clone, Debug)]
pub struct JoinResult {
    /// The cluster's id, hex.
    pub cluster_id: String,
    /// This node's number.
    pub node_id: u64,
    /// It had been let in before.
    pub before: bool,
    /// What it asked to have signed.
    pub certificates: Option<Certificates>,
}

/// Why a cluster was not founded or not joined.
#[derive(Debug, Error)]
pub enum FoundError {
    /// A number that is out of its bounds.
    #[error("{0}")]
    Option(String),
    /// The data directory is in use.
    #[error(
        "the data directory already holds node {name:?} (n{node}) of cluster {cluster_id}; \
         founding another cluster needs an empty one"
    )]
    Used {
        /// The node's name.
        name: String,
        /// Its number, 0 when its join was not finished.
        node: u64,
        /// Its cluster.
        cluster_id: String,
    },
    /// There is nobody to ask.
    #[error("no node to ask: give --peer HOST:PORT, or peers in the configuration")]
    NoPeers,
    /// The cluster refused.
    #[error("{peer} refused: {message}")]
    Refused {
        /// Who.
        peer: String,
        /// Why.
        message: String,
    },
    /// The directory is that of a node that has joined, and nobody could say whether that still holds.
    #[error(
        "the data directory is that of n{node} of cluster {cluster_id} already, which `firebreak serve` \
         runs; no node could be asked whether that still holds, so nothing was checked. {said}"
    )]
    Unconfirmed {
        /// Its number.
        node: u64,
        /// Its cluster.
        cluster_id: String,
        /// What those that were asked said.
        said: String,
    },
    /// The node has joined a cluster, and another one answers.
    #[error(
        "the data directory is that of n{node} of cluster {cluster_id}, and {peer} is of cluster {other}: \
         name a node of the right cluster, or join with an empty directory"
    )]
    OtherCluster {
        /// Its number.
        node: u64,
        /// Its cluster.
        cluster_id: String,
        /// Who answered.
        peer: String,
        /// The cluster of that one.
        other: String,
    },
    /// Nobody could let the node in; trying again later is safe.
    #[error("no node could let this one in; trying again is safe. {0}")]
    Unanswered(String),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(#[from] std::io::Error),
    /// The record of who this node is.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

impl From<store::Error> for FoundError {
    fn from(error: store::Error) -> FoundError {
        FoundError::Identity(error.into())
    }
}

/// Founds a cluster on an empty data directory, once. Durable on completion; the cluster comes to
/// life when the node is first served.
///
/// # Errors
/// [`FoundError`]; nothing was founded.
pub async fn init(
    world: &World,
    config: &Config,
    options: InitOptions,
) -> Result<InitResult, FoundError> {
    check(&options).map_err(FoundError::Option)?;
    with_log(world, async |log: Log| {
        if let Some(used) = Record::load(&log, &config.name)? {
            return Err(FoundError::Used {
                name: used.name,
                node: used.node,
                cluster_id: used.cluster_id,
            });
        }
        let entropy = &*world.entropy;
        let cluster_id = hex(&draw::<16>(entropy)?);
        let token = new_token(entropy)?;
        let token_expires_ms = expires_ms(&*world.clock, options.token_valid_ms);
        let (operator_key, access) = match config.auth {
            Auth::Open => (None, None),
            Auth::Required => {
                let (text, key) = first_key(world, &cluster_id)?;
                (Some(text), Some(key))
            }
        };
        let mut record = Record::new(&config.name, draw(entropy)?);
        record.cluster_id.clone_from(&cluster_id);
        record.node = 1;
        record.secret = Bytes::copy_from_slice(&draw::<32>(entropy)?);
        record.found = Some(ClusterState {
            format: 1,
            cluster_id: cluster_id.clone(),
            epoch: 0,
            nodes: vec![Node {
                id: 1,
                ..this_node(config, record.disk_id.clone())
            }],
            shards: Vec::new(),
            token_hash: hash::token_hash(&token),
            nodes_expected: options.nodes_expected,
            shards_wanted: options.shards,
            replicas: options.replicas,
            meta_replicas: vec![1],
            next_node_id: 2,
            join_token: Some(JoinToken {
                token: String::new(),
                expires_ms: token_expires_ms,
            }),
            access,
            ..ClusterState::default()
        });
        record.save(&log).await?;
        Ok(InitResult {
            cluster_id,
            token,
            token_expires_ms,
            node_id: 1,
            operator_key,
        })
    })
    .await
}

/// The key of the cluster's first operator, who makes all others: its text, and what the cluster keeps.
fn first_key(world: &World, cluster_id: &str) -> Result<(String, access::Access), FoundError> {
    let (text, id) = new_key(&*world.entropy)?;
    let key = access::Key {
        hash: access::key_hash(cluster_id, &text),
        id,
        label: "first operator".to_owned(),
        roles: vec![Role::Operator as i32],
        created_ms: world.clock.unix_ms(),
        ..access::Key::default()
    };
    let access = access::Access {
        keys: vec![key],
        issuers: Vec::new(),
    };
    Ok((text, access))
}

/// A token that nobody guesses.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_token(entropy: &dyn Entropy) -> Result<String, std::io::Error> {
    Ok(format!("fb-{}", hex(&draw::<20>(entropy)?)))
}

/// An API key that nobody guesses: its text, and its id.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_key(entropy: &dyn Entropy) -> Result<(String, String), std::io::Error> {
    const ID_BYTES: usize = access::KEY_ID_DIGITS / 2;
    let id = hex(&draw::<ID_BYTES>(entropy)?);
    let secret = hex(&draw::<{ access::KEY_SECRET_BYTES }>(entropy)?);
    Ok((format!("{}{id}_{secret}", access::KEY_PREFIX), id))
}

/// When something is over that is valid for so long from now, Unix milliseconds; 0 = never, both ways.
pub fn expires_ms(clock: &dyn raft::Clock, valid_ms: u64) -> u64 {
    match valid_ms {
        0 => 0,
        valid => clock.unix_ms().saturating_add(valid),
    }
}

/// The node of a cluster that this disk is, if it has joined one; nobody is asked.
///
/// # Errors
/// [`FoundError`].
pub async fn joined(world: &World, config: &Config) -> Result<Option<JoinResult>, FoundError> {
    with_log(world, async |log: Log| {
        let record = Record::load(&log, &config.name)?.filter(Record::is_member);
        Ok(record.map(|record| JoinResult {
            cluster_id: record.cluster_id,
            node_id: record.node,
            before: true,
            certificates: None,
        }))
    })
    .await
}

/// Asks a cluster to let this node in. Safe to repeat: the disk keeps the id under which it asked,
/// and the cluster answers the same id with the same number. A node that has joined asks whether that
/// still holds, with this token and in the cluster of these peers. A node without a certificate asks for
/// one by `certificate_request` (PKCS #10, DER; empty = it needs none).
///
/// # Errors
/// [`FoundError`].
pub async fn join(
    world: &World,
    config: &Config,
    token: &str,
    peers: &[String],
    certificate_request: Bytes,
) -> Result<JoinResult, FoundError> {
    let peers = if peers.is_empty() {
        &config.peers
    } else {
        peers
    };
    if peers.is_empty() {
        return Err(FoundError::NoPeers);
    }
    with_log(world, async |log: Log| {
        let record = match Record::load(&log, &config.name)? {
            Some(begun) => begun,
            None => {
                let record = Record::new(&config.name, draw(&*world.entropy)?);
                record.save(&log).await?;
                record
            }
        };
        let request = v1::JoinNodeRequest {
            certificate_request,
            ..request(config, &record, token)
        };
        let answered = ask_all(world, &request, peers).await;
        match record.is_member() {
            true => confirmed(record, answered),
            false => entered(config, &log, record, answered?).await,
        }
    })
    .await
}

fn request(config: &Config, record: &Record, token: &str) -> v1::JoinNodeRequest {
    let node = this_node(config, record.disk_id.clone());
    let locality = node.locality.unwrap_or_default();
    v1::JoinNodeRequest {
        token: token.to_owned(),
        name: node.name,
        address: node.address,
        region: locality.region,
        dc: locality.dc,
        rack: locality.rack,
        disk_id: node.disk_id,
        cluster_id: record.cluster_id.clone(),
        node_id: record.node,
        certificate_request: Bytes::new(),
    }
}

/// What the cluster says to a node that has joined before.
fn confirmed(
    record: Record,
    answered: Result<Answered, FoundError>,
) -> Result<JoinResult, FoundError> {
    let (node, cluster_id) = (record.node, record.cluster_id);
    match answered {
        Ok((_, answer)) if answer.cluster_id == cluster_id && answer.node_id == node => {
            Ok(JoinResult {
                cluster_id,
                node_id: node,
                before: true,
                certificates: certificates(&answer),
            })
        }
        Ok((peer, answer)) => Err(FoundError::OtherCluster {
            node,
            cluster_id,
            peer,
            other: answer.cluster_id,
        }),
        Err(FoundError::Unanswered(said)) => Err(FoundError::Unconfirmed {
            node,
            cluster_id,
            said,
        }),
        Err(error) => Err(error),
    }
}

/// Notes that the node was let in.
async fn entered(
    config: &Config,
    log: &Log,
    mut record: Record,
    (peer, answer): Answered,
) -> Result<JoinResult, FoundError> {
    let certificates = certificates(&answer);
    record.cluster_id = answer.cluster_id;
    record.node = answer.node_id;
    record.secret = answer.secret;
    record.seeds = vec![peer];
    record
        .seeds
        .extend(answer.nodes.into_iter().map(|node| node.address));
    record.seeds.retain(|seed| *seed != config.advertise);
    record.seeds.sort_unstable();
    record.seeds.dedup();
    record.save(log).await?;
    Ok(JoinResult {
        cluster_id: record.cluster_id,
        node_id: record.node,
        before: false,
        certificates,
    })
}

/// What was signed, if anything was.
fn certificates(answer: &v1::JoinNodeResponse) -> Option<Certificates> {
    (!answer.certificate.is_empty()).then(|| Certificates {
        own: answer.certificate.clone(),
        authorities: answer.authorities.clone(),
    })
}

/// Who answered, and what.
type Answered = (String, v1::JoinNodeResponse);

/// Lets a node ask again whose disk the cluster has refused: why that was, if it was.
///
/// # Errors
/// [`FoundError::Identity`].
pub async fn ask_again(world: &World, config: &Config) -> Result<Option<String>, FoundError> {
    with_log(world, async |log: Log| {
        // Of this node, or of none.
        Record::load(&log, &config.name)?;
        Ok(raft::ask_again(&log).await?)
    })
    .await
}

async fn ask_all(
    world: &World,
    request: &v1::JoinNodeRequest,
    peers: &[String],
) -> Result<Answered, FoundError> {
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(ROUND_WAIT).await;
        }
        said.clear();
        for peer in peers {
            match ask(world, request.clone(), peer).await {
                Ok(answer) if answer.node_id > 0 => return Ok((peer.clone(), answer)),
                Ok(_) => said.push(format!("{peer}: answered without a number")),
                Err(status) if is_refusal(status.code()) => {
                    let message = status.message().to_owned();
                    return Err(FoundError::Refused {
                        peer: peer.clone(),
                        message,
                    });
                }
                Err(status) => said.push(format!("{peer}: {}", status.message())),
            }
        }
    }
    Err(FoundError::Unanswered(said.join("; ")))
}

async fn ask(
    world: &World,
    request: v1::JoinNodeRequest,
    peer: &str,
) -> Result<v1::JoinNodeResponse, Status> {
    let dialed = world.network.dialer().dial(peer);
    let channel = dialed.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut request = Request::new(request);
    request.set_timeout(ASK_MAX);
    let mut client = AdminClient::new(channel);
    match tokio::time::timeout(ASK_MAX, client.join_node(request)).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::unavailable("no answer in time")),
    }
}

/// Whether another node would say the same.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented | Code::AlreadyExists
    )
}

/// This node as its configuration has it.
pub(crate) fn this_node(config: &Config, disk_id: Bytes) -> Node {
    Node {
        id: 0,
        name: config.name.clone(),
        address: config.advertise.clone(),
        locality: Some(Locality {
            region: config.locality.region.clone(),
            dc: config.locality.dc.clone(),
            rack: config.locality.rack.clone(),
        }),
        disk_id,
        address_boot: 0,
    }
}

fn check(options: &InitOptions) -> Result<(), String> {
    let InitOptions {
        nodes_expected,
        shards,
        replicas,
        token_valid_ms: _,
    } = *options;
    let nodes_max = limits::NODES_MAX;
    if nodes_expected == 0 || nodes_expected as usize > nodes_max {
        return Err(format!(
            "--nodes must be 1 to {nodes_max}; it is {nodes_expected}"
        ));
    }
    if shards > limits::SHARDS_MAX {
        let max = limits::SHARDS_MAX;
        return Err(format!(
            "--shards must be 0 (one per node) to {max}; it is {shards}"
        ));
    }
    if !matches!(replicas, 1 | 3 | 5) {
        return Err(format!("--replicas must be 1, 3 or 5; it is {replicas}"));
    }
    if replicas > nodes_expected {
        return Err(format!(
            "{replicas} replicas need as many nodes; --nodes is {nodes_expected}"
        ));
    }
    Ok(())
}

/// Works with the log of the world's `raftdb` and closes it.
async fn with_log<T>(
    world: &World,
    work: impl AsyncFnOnce(Log) -> Result<T, FoundError>,
) -> Result<T, FoundError> {
    let (log, writer) = Log::open(world.raftdb.clone())?;
    let (work, writer) = (std::pin::pin!(work(log)), std::pin::pin!(writer));
    match select(work, writer).await {
        Either::Left((done, writer)) => {
            // The log is dropped by now, so the writer ends.
            writer.await?;
            done
        }
        Either::Right((failed, work)) => {
            failed?;
            work.await
        }
    }
}

fn draw<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], std::io::Error> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_founding_must_fit_each_other() {
        let check = |nodes_expected, shards, replicas| {
            check(&InitOptions {
                nodes_expected,
                shards,
                replicas,
                token_valid_ms: 0,
            })
            .is_ok()
        };
        assert!(check(3, 0, 3) && check(9, 9, 5) && check(1, 1, 1));
        assert!(
            !check(0, 0, 1)
                && !check(2, 0, 3)
                && !check(3, 0, 2)
                && !check(3, limits::SHARDS_MAX + 1, 3)
        );
    }

    #[test]
    fn hex_has_two_digits_for_each_byte() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
