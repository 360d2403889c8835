use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;

use super::*;
use crate::CERTIFIED;
use crate::net::rooms::Rooms;
use crate::net::serve::tests::Plain;
use crate::net::{Tcp, TcpIncoming, guard};
use crate::v1::GetConversationRequest;
use crate::v1::conversations_client::ConversationsClient;
use crate::v1::conversations_server::ConversationsServer;

/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), pem)
    }

    /// A certificate for 127.0.0.1 and its key.
    fn signs(&self, who: &str, usage: &[ExtendedKeyUsagePurpose]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let uri = format!("{SCHEME}{who}").try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages = usage.to_vec();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn node(&self, name: &str) -> Material {
        self.node_of(name, &self.1)
    }

    /// A node whom this authority certifies, and who trusts others.
    fn node_of(&self, name: &str, trusted: &str) -> Material {
        let both = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let (certificate, key) = self.signs(&format!("node/{name}"), &both);
        Material::read(trusted.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }
}

async fn served(network: Secure<Tcp>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let never = || watch::Sender::new(false).subscribe();
    let ending = Ending {
        closing: never(),
        elsewhere: never(),
        callers: TaskTracker::new(),
    };
    let routes = Routes::new(ConversationsServer::new(Rooms::default()));
    let guard = Guard::new(guard::Limits::default(), Arc::new(Plain));
    tokio::spawn(async move {
        let incoming = TcpIncoming(listener);
        let never = std::future::pending();
        network.serve(incoming, routes, never, ending, guard).await;
    });
    address
}

/// Who the other end says that this one is; it claims to be somebody, too.
async fn asked(channel: Channel) -> Result<String, String> {
    let mut request = tonic::Request::new(GetConversationRequest::default());
    let claim = MetadataValue::from_static("node/claimed");
    request.metadata_mut().insert(CERTIFIED, claim);
    let mut rooms = ConversationsClient::new(channel);
    let answer = timeout(LIMIT, rooms.get_conversation(request)).await;
    match answer.unwrap() {
        Ok(answer) => Ok(answer.into_inner().name),
        Err(status) => {
            let mut said = status.message().to_owned();
            let mut source = std::error::Error::source(&status);
            while let Some(error) = source {
                said += &format!(": {error}");
                source = error.source();
            }
            Err(said)
        }
    }
}

fn secure(mode: Mode, material: Material) -> Secure<Tcp> {
    Secure::new(Tcp, mode, Keys::new(material))
}

#[track_caller]
fn refused(answer: &Result<String, String>, why: &str) {
    assert!(
        answer.as_ref().is_err_and(|said| said.contains(why)),
        "{answer:?} does not say {why:?}"
    );
}

#[tokio::test]
async fn nodes_prove_who_they_are_both_ways() {
    let authority = Authority::new();
    let there = served(secure(Mode::Strict, authority.node("busan-1")))
        .await
        .to_string();
    let here = secure(Mode::Strict, authority.node("seoul-1"));
    let answer = asked(here.dial_node(&there, "busan-1").unwrap()).await;
    assert_eq!(answer.unwrap(), "node/seoul-1");
    let answer = asked(here.dial(&there).unwrap()).await;
    assert_eq!(answer.unwrap(), "node/seoul-1");
    let answer = asked(here.dial_node(&there, "tokyo-1").unwrap()).await;
    refused(&answer, "node/busan-1 answers where tokyo-1 should");
}

#[tokio::test]
async fn whom_an_other_authority_certified_is_nobody_here() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let there = served(secure(Mode::Strict, ours.node("busan-1")))
        .await
        .to_string();
    // It trusts us, and we do not trust it.
    let here = secure(Mode::Strict, theirs.node_of("seoul-1", &ours.1));
    refused(&asked(here.dial(&there).unwrap()).await, "");
    // We do not trust it as a server either.
    let there = served(secure(Mode::Strict, theirs.node("busan-1")))
        .await
        .to_string();
    let here = secure(Mode::Strict, ours.node("seoul-1"));
    refused(&asked(here.dial(&there).unwrap()).await, "not trusted");
}

#[tokio::test]
async fn clients_need_no_certificate_and_are_known_by_one() {
    let authority = Authority::new();
    let there = served(secure(Mode::Strict, authority.node("busan-1")))
        .await
        .to_string();
    let trust = Trust::read(authority.1.as_bytes(), None).unwrap();
    let dialer = SecureDialer::new(Tcp, trust);
    assert_eq!(asked(dialer.dial(&there).unwrap()).await.unwrap(), "none");
    let (certificate, key) =
        authority.signs("operator/ann", &[ExtendedKeyUsagePurpose::ClientAuth]);
    let own = Some((certificate.as_bytes(), key.as_bytes()));
    let trust = Trust::read(authority.1.as_bytes(), own).unwrap();
    let dialer = SecureDialer::new(Tcp, trust);
    assert_eq!(
        asked(dialer.dial(&there).unwrap()).await.unwrap(),
        "operator/ann"
    );
    // The name of a host that the certificate is not for.
    let elsewhere = there.replace("127.0.0.1", "localhost");
    refused(
        &asked(dialer.dial(&elsewhere).unwrap()).await,
        "not trusted",
    );
}

#[tokio::test]
async fn an_optional_node_takes_both_and_goes_to_nodes_of_every_mode() {
    let authority = Authority::new();
    let off = || Secure::off(Tcp);
    let optional = || secure(Mode::Optional, authority.node("a"));
    let strict = || secure(Mode::Strict, authority.node("a"));
    for (from, to, is) in [
        (off(), off(), Ok("")),
        (off(), optional(), Ok("")),
        (off(), strict(), Ok(PLAIN)),
        (optional(), off(), Ok("")),
        (optional(), optional(), Ok("node/a")),
        (optional(), strict(), Ok("node/a")),
        (strict(), off(), Err("does not speak TLS")),
        (strict(), optional(), Ok("node/a")),
        (strict(), strict(), Ok("node/a")),
    ] {
        let there = served(to).await.to_string();
        let answer = asked(from.dialer().dial_node(&there, "a").unwrap()).await;
        match is {
            Ok(who) => assert_eq!(answer.unwrap(), who),
            Err(why) => refused(&answer, why),
        }
    }
}

#[tokio::test]
async fn certificates_and_authorities_are_exchanged_while_connections_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = format!("{}{}", old.1, new.1);
    let keys = Keys::new(old.node("busan-1"));
    let there = served(Secure::new(Tcp, Mode::Strict, keys.clone()))
        .await
        .to_string();
    let here = secure(Mode::Strict, old.node("seoul-1"));
    let kept = here.dial(&there).unwrap();
    assert_eq!(asked(kept.clone()).await.unwrap(), "node/seoul-1");
    keys.exchange(old.node_of("busan-1", &both));
    let next = secure(Mode::Strict, new.node_of("tokyo-1", &both));
    assert_eq!(
        asked(next.dial(&there).unwrap()).await.unwrap(),
        "node/tokyo-1"
    );
    keys.exchange(new.node("busan-1"));
    refused(&asked(here.dial(&there).unwrap()).await, "not trusted");
    assert_eq!(asked(kept).await.unwrap(), "node/seoul-1");
    assert_eq!(
        asked(next.dial(&there).unwrap()).await.unwrap(),
        "node/tokyo-1"
    );
}

#[test]
fn what_does_not_belong_together_is_told() {
    let authority = Authority::new();
    let (certificate, key) = authority.signs("node/a", &[]);
    let (_, another) = authority.signs("node/a", &[]);
    let (client, client_key) = authority.signs("client/a", &[]);
    let (odd, odd_key) = authority.signs("king/a", &[]);
    for (authorities, certificate, key, says) in [
        (
            "",
            &certificate,
            &key,
            "the certificate authority: the file holds no",
        ),
        (
            authority.1.as_str(),
            &String::new(),
            &key,
            "the certificate: the file holds no",
        ),
        (
            &authority.1,
            &certificate,
            &String::new(),
            "the private key: ",
        ),
        (&authority.1, &certificate, &another, "the private key: "),
        (
            &authority.1,
            &client,
            &client_key,
            "that of client/a, not of a node",
        ),
        (
            &authority.1,
            &odd,
            &odd_key,
            "firebreak:king/a, which is none of",
        ),
    ] {
        let read = Material::read(
            authorities.as_bytes(),
            certificate.as_bytes(),
            key.as_bytes(),
        );
        let error = read.err().unwrap().to_string();
        assert!(error.contains(says), "{error} does not say {says}");
    }
    let read = Material::read(
        authority.1.as_bytes(),
        certificate.as_bytes(),
        key.as_bytes(),
    );
    let own = read.unwrap().own;
    assert_eq!(own.hosts, ["127.0.0.1"]);
    assert!(own.from_s < own.until_s);
}
