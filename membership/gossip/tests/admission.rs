//! Who gets in, who does not, and what each of them is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use gossip::{DialError, DisconnectReason, FromGossip, Gossip, StartError, Token};
use membership::message::Message;
use support::{BOUND, Node, pair, setup};

async fn seed_failure(node: &mut Node) -> DialError {
    node.wait("a failed seed", |report| match report {
        FromGossip::SeedFailed { error, .. } => Some(error),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn with_the_token_nodes_meet_and_talk() {
    let (mut a, mut b) = pair().await;
    let (a_id, b_id) = (a.id(), b.id());
    a.handle.send(b_id, Message::Ping { seq: 7 }).unwrap();
    assert_eq!(b.message(a_id).await, Message::Ping { seq: 7 });
    b.handle.send(a_id, Message::Ack { seq: 7 }).unwrap();
    assert_eq!(a.message(b_id).await, Message::Ack { seq: 7 });
    let stats = a.handle.stats();
    assert_eq!((stats.datagrams.messages_out, stats.datagrams.messages_in), (1, 1));
    assert_eq!(stats.connections[0].addr, b.handle.advertised());
}

#[tokio::test]
async fn another_clusters_token_is_refused_in_words() {
    let a = setup(&Token::generate().unwrap()).start().await;
    let mut b = setup(&Token::generate().unwrap()).seed(&a).start().await;
    let error = seed_failure(&mut b).await;
    assert_eq!(error, DialError::OtherToken { addr: a.handle.advertised() });
    assert!(error.to_string().contains("token"));
    assert!(a.peers().is_empty() && b.peers().is_empty());
}

#[tokio::test]
async fn an_unreachable_seed_and_an_unknown_name_are_told_apart() {
    let token = Token::generate().unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let mut seeds = setup(&token);
    seeds.seeds = vec![addr.to_string()];
    let mut node = seeds.start().await;
    assert_eq!(seed_failure(&mut node).await, DialError::Unreachable { addr });

    let mut seeds = setup(&token);
    seeds.seeds = vec!["no-such-host.invalid:7946".to_owned()];
    let mut node = seeds.start().await;
    assert!(matches!(seed_failure(&mut node).await, DialError::Name { .. }));
}

#[tokio::test]
async fn a_seed_that_comes_up_later_is_joined() {
    let token = Token::generate().unwrap();
    let place = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = place.local_addr().unwrap();
    let mut early = setup(&token);
    early.seeds = vec![addr.to_string()];
    let mut early = early.start().await;
    assert_eq!(seed_failure(&mut early).await, DialError::Unreachable { addr });
    drop(place);
    let mut late = setup(&token);
    late.listen = addr;
    let late = late.start().await;
    let peer = early
        .wait("the seed", |report| match report {
            FromGossip::SeedJoined { peer, .. } => Some(peer),
            _ => None,
        })
        .await;
    assert_eq!(peer, late.id());
}

#[tokio::test]
async fn another_cell_is_refused_in_words() {
    let token = Token::generate().unwrap();
    let a = setup(&token).start().await;
    let mut b = setup(&token).seed(&a);
    b.cell = 7;
    let mut b = b.start().await;
    let error = seed_failure(&mut b).await;
    assert!(
        matches!(error, DialError::OtherCell { theirs, ours, .. } if theirs.0 == 0 && ours.0 == 7)
    );
}

#[tokio::test]
async fn a_removed_node_is_cut_off_and_told_so() {
    let (a, mut b) = pair().await;
    let (a_id, b_id) = (a.id(), b.id());
    a.handle.set_refused(BTreeSet::from([b_id]));
    let reason = b
        .wait("the end of the connection", |report| match report {
            FromGossip::Disconnected { peer, reason } if peer == a_id => Some(reason),
            _ => None,
        })
        .await;
    let DisconnectReason::Refused(text) = &reason else { panic!("{reason:?}") };
    assert!(text.contains("removed"), "{text}");
    let error = seed_failure(&mut b).await;
    assert_eq!(error, DialError::Removed { addr: a.handle.advertised() });
    assert!(a.peers().is_empty());
    // Taken back, it is let in again.
    a.handle.set_refused(BTreeSet::new());
    b.connected(a_id).await;
}

#[tokio::test]
async fn a_second_process_with_the_same_key_is_found_out() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let mut b = setup(&token).seed(&a);
    b.incarnation = 5;
    let mut b = b.start().await;
    b.connected(a.id()).await;
    a.connected(b.id()).await;
    // A copy of b's data directory, with an earlier number in it.
    let mut copy = setup(&token).seed(&a);
    std::fs::copy(b.dir.path().join("node.key"), copy.dir.path().join("node.key")).unwrap();
    copy.incarnation = 4;
    let mut copy = copy.start().await;
    let error = seed_failure(&mut copy).await;
    assert_eq!(error, DialError::Superseded { addr: a.handle.advertised() });
    assert_eq!(a.peers().len(), 1);
}

#[tokio::test]
async fn start_errors_are_in_the_operators_words() {
    let token = Token::generate().unwrap();
    let a = setup(&token).start().await;
    let mut second = setup(&token);
    second.listen = a.handle.local_addr();
    let error = Gossip::start(second.config()).await.unwrap_err();
    assert!(matches!(error, StartError::AddressInUse { .. }));
    assert!(error.to_string().contains("--listen"));

    let mut foreign = setup(&token);
    foreign.listen = "192.0.2.7:0".parse().unwrap();
    let error = Gossip::start(foreign.config()).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));

    let mut bad = setup(&token);
    bad.seeds = vec!["http://x".to_owned()];
    assert!(matches!(Gossip::start(bad.config()).await, Err(StartError::BadSeed { .. })));
}

#[tokio::test]
async fn nodes_meet_over_ipv6_and_a_dual_stack_socket_takes_both() {
    let token = Token::generate().unwrap();
    let mut six = setup(&token);
    six.listen = "[::1]:0".parse().unwrap();
    let mut a = six.start().await;
    let mut six = setup(&token).seed(&a);
    six.listen = "[::1]:0".parse().unwrap();
    let mut b = six.start().await;
    b.connected(a.id()).await;
    a.connected(b.id()).await;

    let mut both = setup(&token);
    both.listen = "[::]:0".parse().unwrap();
    let mut both = both.start().await;
    let port = both.handle.local_addr().port();
    let mut four = setup(&token);
    four.seeds = vec![format!("127.0.0.1:{port}")];
    let mut four = four.start().await;
    four.connected(both.id()).await;
    both.connected(four.id()).await;
    let observed = both.handle.stats().connections[0].observed;
    assert_eq!(observed, four.handle.local_addr(), "shown as IPv4");
}

#[tokio::test]
async fn a_node_that_only_listens_on_ipv4_says_why_it_cannot_reach_ipv6() {
    let token = Token::generate().unwrap();
    let mut node = setup(&token);
    node.seeds = vec!["[::1]:7946".to_owned()];
    let mut node = node.start().await;
    assert!(matches!(seed_failure(&mut node).await, DialError::Family { .. }));
}

/// An endpoint as an outsider has it: any certificate, any protocol name.
fn outsider(names: &[&[u8]]) -> quinn::Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Recorder(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(quic)));
    endpoint
}

/// Fails the test when it is shown a certificate.
#[derive(Debug)]
struct Recorder(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        panic!("an outsider was shown a certificate");
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("unused".into()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("unused".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn an_outsider_sees_no_certificate_and_gets_an_alert() {
    let mut node = setup(&Token::generate().unwrap()).start().await;
    for names in [&[][..], &[&b"h3"[..]], &[b"shoal/1 0000000000000000"]] {
        let endpoint = outsider(names);
        let connecting = endpoint.connect(node.handle.local_addr(), "shoal").unwrap();
        let error = tokio::time::timeout(BOUND, connecting).await.unwrap().unwrap_err();
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error:?}");
    }
    node.until("the refusals are counted", |handle| handle.stats().drops.refused == 3).await;
    assert!(node.peers().is_empty());
}

#[tokio::test]
async fn a_known_member_is_found_without_seeds() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let mut b = setup(&token).start().await;
    b.handle.set_peers(BTreeMap::from([(a.id(), a.handle.advertised())]));
    b.connected(a.id()).await;
    a.connected(b.id()).await;
}
