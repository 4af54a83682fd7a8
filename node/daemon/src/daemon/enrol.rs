//! Which cluster this node belongs to: the token on its disk, the one it was given, or a new one.

use gossip::{KeySigner, NodeKey, Signer, Token, TokenError, TokenFileError};
use membership::fact::SignedFact;
use node::Sign;

use crate::settings::Settings;

/// Why it is not clear which cluster this node belongs to. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("the token that was given cannot be used: {0}. `shoal token` on any member prints it")]
    Token(#[from] TokenError),
    #[error(transparent)]
    File(#[from] TokenFileError),
    #[error(
        "--join needs the cluster's token: `shoal token` on any member prints it; give it with --token, --token-file or SHOAL_TOKEN"
    )]
    NoToken,
    #[error(
        "the data directory {dir} belongs to another cluster than the token that was given. To join that other cluster as a new node, use an empty --data-dir; to start this node again, leave the token out"
    )]
    OtherCluster { dir: String },
}

/// The token on the disk is the word; one that is given must agree with it. A node without either and
/// without anybody to join begins a cluster.
pub(crate) fn token(settings: &Settings) -> Result<Token, EnrolError> {
    let stored = Token::load(&settings.data_dir)?;
    let given = settings.token.as_ref().map(|t| t.reveal().parse::<Token>()).transpose()?;
    match (stored, given) {
        (Some(stored), Some(given)) if stored.cluster() != given.cluster() => {
            Err(EnrolError::OtherCluster { dir: settings.data_dir.display().to_string() })
        }
        (Some(stored), _) => Ok(stored),
        (None, Some(given)) => {
            given.store(&settings.data_dir)?;
            Ok(given)
        }
        (None, None) if !settings.join.is_empty() => Err(EnrolError::NoToken),
        (None, None) => {
            let token = Token::generate()?;
            token.store(&settings.data_dir)?;
            Ok(token)
        }
    }
}

struct FactSigner(KeySigner);

impl Sign for FactSigner {
    fn sign(&self, fact: &mut SignedFact) {
        self.0.sign(fact);
    }
}

/// Signs the core's facts with the node's key.
pub(crate) fn signer(key: NodeKey) -> Box<dyn Sign> {
    Box::new(FactSigner(KeySigner::new(key)))
}
