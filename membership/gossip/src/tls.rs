//! What the token and the node's key become: certificates and a TLS 1.3 handshake that both sides
//! must pass.
//!
//! Every holder of the token has the same certificate authority (its key follows from the token) and
//! signs its own certificate with it. Both sides of a connection prove theirs. Certificates of all
//! clusters and nodes look alike but for the key: one fixed name, no cluster, no host. The ALPN
//! protocol name contains a tag made of the token, so that an endpoint answers whoever does not hold
//! the token with a bare alert, before any certificate. Validity is so wide that no clock is wrong
//! enough to matter: who is admitted is decided by the token and by the list of removed nodes.

use std::sync::Arc;

use membership::id::NodeId;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::identity::{NodeKey, PUBLIC_KEY_BYTES, node_id_of};
use crate::token::Token;

/// The one name in every member's certificate.
pub(crate) const SERVER_NAME: &str = "shoal";

/// PKCS#8 v1 around an Ed25519 seed (RFC 8410, section 7).
const PKCS8_HEADER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// SubjectPublicKeyInfo of Ed25519, before the 32 bytes of the key (RFC 8410, section 4).
const SPKI_HEADER: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Both roles of one node.
pub(crate) struct Roles {
    pub(crate) server: Arc<QuicServerConfig>,
    pub(crate) client: Arc<QuicClientConfig>,
    /// For connections that carry packets of containers.
    pub(crate) tunnel: Arc<QuicClientConfig>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything that nodes say to each other.
    Members,
    /// Packets of containers.
    Packets,
}

const MEMBERS: &[u8] = b"shoal/1 ";
const PACKETS: &[u8] = b"shoal-packets/1 ";

/// The protocol name that only holders of the token speak.
fn protocol_name(purpose: Purpose, token: &Token) -> Vec<u8> {
    let mut name = match purpose {
        Purpose::Members => MEMBERS.to_vec(),
        Purpose::Packets => PACKETS.to_vec(),
    };
    for byte in token.protocol_tag() {
        name.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    name
}

fn params(common_name: &str, alternative: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = alternative.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    params.serial_number = Some(SerialNumber::from_slice(&[1]));
    Ok(params)
}

/// This cluster's authority and this node's certificate under it.
fn certificates(
    key: &NodeKey,
    token: &Token,
) -> Result<(CertificateDer<'static>, CertificateDer<'static>), rcgen::Error> {
    let mut pkcs8 = PKCS8_HEADER.to_vec();
    pkcs8.extend_from_slice(&token.authority_seed());
    let authority_key =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)?;
    let mut authority = params("shoal", &[])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = authority.self_signed(&authority_key)?.der().clone();
    let issuer = Issuer::new(authority, authority_key);

    let node_key = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(key.pkcs8()),
        &PKCS_ED25519,
    )?;
    let mut leaf = params("shoal node", &[SERVER_NAME])?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok((root, leaf.signed_by(&node_key, &issuer)?.der().clone()))
}

/// Makes both roles of a node. The error is only for keys that ring or rustls refuse.
pub(crate) fn roles(key: &NodeKey, token: &Token) -> Result<Roles, String> {
    let (root, leaf) = certificates(key, token).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(root).map_err(|error| error.to_string())?;
    let roots = Arc::new(roots);
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let private = || PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()));

    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| error.to_string())?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.clone()], private())
        .map_err(|error| error.to_string())?;
    server.alpn_protocols =
        [Purpose::Members, Purpose::Packets].map(|purpose| protocol_name(purpose, token)).to_vec();
    // Resumption would spare 1 ms on a reconnect and let a removed node in without its key.
    server.send_tls13_tickets = 0;

    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![leaf], private())
        .map_err(|error| error.to_string())?;
    client.alpn_protocols = vec![protocol_name(Purpose::Members, token)];
    client.resumption = Resumption::disabled();
    let mut tunnel = client.clone();
    tunnel.alpn_protocols = vec![protocol_name(Purpose::Packets, token)];

    Ok(Roles {
        server: Arc::new(QuicServerConfig::try_from(server).map_err(|error| error.to_string())?),
        client: Arc::new(QuicClientConfig::try_from(client).map_err(|error| error.to_string())?),
        tunnel: Arc::new(QuicClientConfig::try_from(tunnel).map_err(|error| error.to_string())?),
    })
}

/// What the dialler of an admitted connection made it for.
pub(crate) fn purpose_of(connection: &quinn::Connection) -> Purpose {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
    if protocol.starts_with(PACKETS) { Purpose::Packets } else { Purpose::Members }
}

/// Whose certificate this is; `None` if its key is not Ed25519.
fn node_of_certificate(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let spki = parsed.subject_public_key_info();
    let key: &[u8; PUBLIC_KEY_BYTES] = spki.as_ref().strip_prefix(&SPKI_HEADER)?.try_into().ok()?;
    Some(node_id_of(key))
}

/// Who is at the other end of an admitted connection.
pub(crate) fn peer_of(connection: &quinn::Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_of_certificate(chain.first()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_names_its_node_and_nothing_else() {
        let token = Token::generate().unwrap();
        let key = NodeKey::generate().unwrap();
        let (root, leaf) = certificates(&key, &token).unwrap();
        assert_eq!(node_of_certificate(&leaf), Some(key.id()));
        let cluster = token.cluster().0.to_be_bytes();
        for certificate in [root, leaf] {
            let bytes = certificate.as_ref();
            assert!(!bytes.windows(16).any(|window| window == cluster));
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("rcgen") && !text.contains(&token.cluster().to_string()));
        }
    }

    #[test]
    fn two_holders_of_a_token_have_one_authority_and_other_tokens_another() {
        let (token, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        let (a, b) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let root = |key: &NodeKey, token: &Token| certificates(key, token).unwrap().0;
        assert_eq!(root(&a, &token), root(&b, &token));
        assert_ne!(root(&a, &token), root(&a, &other));
        let name = |token| protocol_name(Purpose::Members, token);
        assert_ne!(name(&token), name(&other));
        assert_ne!(name(&token), protocol_name(Purpose::Packets, &token));
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(node_of_certificate(&CertificateDer::from(vec![0u8; 40])), None);
    }
}
