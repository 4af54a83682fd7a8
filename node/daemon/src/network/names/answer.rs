//! One query and its answer, on one network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, PTR};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use membership::id::NetworkId;
use node::network::names;
use node::network::picture::Picture;
use tokio::sync::watch;

use super::Upstream;

/// Who runs behind a name changes at any moment: the answer holds for the question it was asked with.
const KEEP_FOR_S: u32 = 0;
/// What a client that can take more than 512 bytes in a datagram is sent at most: more may not pass every network in
/// one piece (the value that the DNS community agreed on in 2020).
const LARGEST_DATAGRAM: u16 = 1232;

/// Answers the queries of one network's containers on this host.
pub(super) struct Answers {
    network: NetworkId,
    pictures: watch::Receiver<Arc<Picture>>,
    upstream: Arc<Upstream>,
    asked: AtomicU64,
}

impl Answers {
    pub(super) fn new(
        network: NetworkId,
        pictures: watch::Receiver<Arc<Picture>>,
        upstream: Arc<Upstream>,
    ) -> Self {
        Self { network, pictures, upstream, asked: AtomicU64::new(0) }
    }

    async fn look_up(&self, from: SocketAddr, name: &Name, kind: RecordType) -> Found {
        let IpAddr::V4(from) = from.ip().to_canonical() else { return Found::refused() };
        let picture = self.pictures.borrow().clone();
        let record = |data| Record::from_rdata(name.clone(), KEEP_FOR_S, data);
        if kind == RecordType::PTR {
            let of = address_of(name);
            let known = of.and_then(|of| names::name_of(&picture, self.network, from, of));
            if let Some(known) = known.and_then(|known| Name::from_ascii(known + ".").ok()) {
                return Found::here(vec![record(RData::PTR(PTR(known)))]);
            }
        } else {
            let turn = self.asked.fetch_add(1, Ordering::Relaxed);
            let text = name.to_ascii();
            if let Some(known) = names::addresses(&picture, self.network, from, &text, turn) {
                // A name that exists and has no address of the wanted kind is answered as empty: "no such name" to the
                // question for IPv6 makes some libraries give up on IPv4 as well.
                let wanted = matches!(kind, RecordType::A | RecordType::ANY);
                let answers =
                    known.into_iter().filter(|_| wanted).map(|one| record(RData::A(A(one))));
                return Found::here(answers.collect());
            }
        }
        let own = names::resolvers(&picture, self.network, from);
        self.upstream.ask(name.clone(), kind, own).await
    }
}

/// What becomes of a query.
pub(super) struct Found {
    pub(super) code: ResponseCode,
    /// The core knows the name.
    authoritative: bool,
    pub(super) records: Vec<Record>,
}

impl Found {
    fn here(records: Vec<Record>) -> Self {
        Self { code: ResponseCode::NoError, authoritative: true, records }
    }

    pub(super) fn elsewhere(code: ResponseCode, records: Vec<Record>) -> Self {
        Self { code, authoritative: false, records }
    }

    fn refused() -> Self {
        Self::elsewhere(ResponseCode::Refused, Vec::new())
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut to: R,
    ) -> ResponseInfo {
        let found = match request.request_info() {
            Ok(_) if request.metadata.op_code != OpCode::Query => {
                Found::elsewhere(ResponseCode::NotImp, Vec::new())
            }
            Ok(info) if info.query.query_class() != DNSClass::IN => Found::refused(),
            Ok(info) => {
                // As it was written: some clients compare letter by letter.
                let name = info.query.original().name().clone();
                self.look_up(request.src(), &name, info.query.query_type()).await
            }
            Err(_) => Found::elsewhere(ResponseCode::FormErr, Vec::new()),
        };
        let mut about = Metadata::response_from_request(&request.metadata);
        about.response_code = found.code;
        about.authoritative = found.authoritative;
        about.recursion_available = true;
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload().clamp(512, LARGEST_DATAGRAM));
        let mut response = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            response.edns(&edns);
        }
        // What does not fit is cut off and marked, and the client asks again over TCP.
        let response = response.build(about, &found.records, [], [], []);
        match to.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "an answer to a name query could not be sent");
                about.response_code = ResponseCode::ServFail;
                Header { metadata: about, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

/// `4.3.2.1.in-addr.arpa.` asks about 1.2.3.4.
fn address_of(name: &Name) -> Option<Ipv4Addr> {
    let net = name.parse_arpa_name().ok()?;
    match net.addr() {
        IpAddr::V4(address) if net.prefix_len() == 32 => Some(address),
        _ => None,
    }
}
