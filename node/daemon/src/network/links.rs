//! Devices, addresses, routes and forwarding entries of the kernel, over netlink: read, and changed step by step.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::{StreamExt, TryStreamExt};
use node::network::picture::Subnet;
use node::network::repair::{Link, LinkKind, Step, mark};
use node::network::wanted::Tunnel;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVxlan, RouteMessageBuilder, new_connection,
};

use super::DriveError;

/// Who made a route, as routing daemons tell theirs apart; a number that none of them uses (iproute2's rt_protos).
const OURS: RouteProtocol = RouteProtocol::Other(115);
/// The table of what this host takes for its own.
const LOCAL_TABLE: u32 = 255;
/// The entry that stands for every container whose host is not known.
const UNKNOWN: [u8; 6] = [0; 6];

/// A connection to the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    handle: Handle,
    /// Asks strictly, so that the kernel sends routes of one table and not all that a router may have.
    strict: Handle,
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) links: BTreeMap<String, Link>,
    indexes: BTreeMap<String, u32>,
    /// The MTU of the device that has the address, in bytes.
    pub(super) ways: BTreeMap<IpAddr, u32>,
}

impl Scan {
    fn index(&self, name: &str) -> Result<u32, DriveError> {
        self.indexes.get(name).copied().ok_or_else(|| DriveError::Gone(name.to_owned()))
    }
}

impl Kernel {
    /// Must be called where tasks can be started, and in the network namespace that is to be changed.
    pub(super) fn open() -> Result<Self, DriveError> {
        let (connection, handle, _) = new_connection().map_err(DriveError::Netlink)?;
        tokio::spawn(connection);
        let (mut connection, strict, _) = new_connection().map_err(DriveError::Netlink)?;
        connection
            .socket_mut()
            .socket_mut()
            .set_netlink_get_strict_chk(true)
            .map_err(DriveError::Netlink)?;
        tokio::spawn(connection);
        Ok(Self { handle, strict })
    }

    /// All devices, with what matters of them.
    pub(super) async fn scan(&self) -> Result<Scan, DriveError> {
        let mut names = BTreeMap::new();
        let mut masters = BTreeMap::new();
        let mut scan = Scan::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await? {
            let index = message.header.index;
            let Some((name, link, master)) = link_of(&message) else { continue };
            names.insert(index, name.clone());
            if let Some(master) = master {
                masters.insert(name.clone(), master);
            }
            scan.indexes.insert(name.clone(), index);
            scan.links.insert(name, link);
        }
        drop(links);
        for (name, master) in masters {
            if let Some(link) = scan.links.get_mut(&name) {
                link.bridge = names.get(&master).cloned();
            }
        }
        self.addresses(&names, &mut scan).await?;
        let concerned = |link: &Link| link.alias.is_some() || link.kind != LinkKind::Other;
        if scan.links.values().any(concerned) {
            self.own_ranges(&names, &mut scan).await?;
            self.ways_learned(&names, &mut scan).await?;
        }
        Ok(scan)
    }

    async fn addresses(
        &self,
        names: &BTreeMap<u32, String>,
        scan: &mut Scan,
    ) -> Result<(), DriveError> {
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let Some(link) =
                names.get(&message.header.index).and_then(|name| scan.links.get_mut(name))
            else {
                continue;
            };
            for attribute in &message.attributes {
                // IPv6 has no `Local` where the device is no point-to-point one.
                let (AddressAttribute::Local(address) | AddressAttribute::Address(address)) =
                    attribute
                else {
                    continue;
                };
                scan.ways.insert(*address, link.mtu);
                link.addresses.insert((*address, message.header.prefix_len));
            }
        }
        Ok(())
    }

    async fn own_ranges(
        &self,
        names: &BTreeMap<u32, String>,
        scan: &mut Scan,
    ) -> Result<(), DriveError> {
        let which = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(LOCAL_TABLE)
            .protocol(OURS)
            .scope(RouteScope::Universe)
            .kind(RouteType::Unspec)
            .build();
        let mut routes = self.strict.route().get(which).execute();
        while let Some(route) = routes.try_next().await? {
            if route.header.protocol != OURS || route.header.kind != RouteType::Local {
                continue;
            }
            let (mut first, mut from, mut device) = (None, None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(to)) => first = Some(*to),
                    RouteAttribute::PrefSource(RouteAddress::Inet(source)) => from = Some(*source),
                    RouteAttribute::Oif(index) => device = names.get(index),
                    _ => {}
                }
            }
            let link = device.and_then(|name| scan.links.get_mut(name));
            if let (Some(link), Some(first)) = (link, first) {
                let range = Subnet { first, prefix: route.header.destination_prefix_length };
                link.own.insert((range, from));
            }
        }
        Ok(())
    }

    async fn ways_learned(
        &self,
        names: &BTreeMap<u32, String>,
        scan: &mut Scan,
    ) -> Result<(), DriveError> {
        for entry in self.forwarding().await? {
            let Some(link) =
                names.get(&entry.header.ifindex).and_then(|name| scan.links.get_mut(name))
            else {
                continue;
            };
            match way_of(&entry) {
                Some((mac, peer)) if mac == UNKNOWN => {
                    link.floods.insert(peer);
                }
                Some((_, peer)) => {
                    link.learned.insert(peer);
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn forwarding(&self) -> Result<Vec<NeighbourMessage>, DriveError> {
        let entries =
            self.handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
        Ok(entries.try_collect().await?)
    }

    /// Makes a tunnel and deletes it again, to see whether this kernel can.
    pub(super) async fn try_tunnel(&self, port: u16) -> Result<(), DriveError> {
        const NAME: &str = "svprobe";
        // A number that networks hardly have, for one VXLAN device at most has each.
        let new = LinkVxlan::new(NAME, 0x00ff_ffff).port(port).build();
        if let Some(index) = self.scan().await?.indexes.get(NAME) {
            self.handle.link().del(*index).execute().await?;
        }
        self.handle.link().add(new).execute().await?;
        if let Some(index) = self.scan().await?.indexes.get(NAME) {
            self.handle.link().del(*index).execute().await?;
        }
        Ok(())
    }

    /// Carries out one step.
    pub(super) async fn carry_out(&self, step: &Step, scan: &Scan) -> Result<(), DriveError> {
        let links = self.handle.link();
        match step {
            Step::Delete { link } => links.del(scan.index(link)?).execute().await?,
            Step::MakeBridge { bridge, mtu } => {
                let new = LinkBridge::new(bridge).mtu(*mtu).up().build();
                links.add(new).execute().await?;
                let named = LinkUnspec::new_with_name(bridge).alias(mark(bridge)).build();
                links.set(named).execute().await?;
            }
            Step::Address { link, address, prefix } => {
                let index = scan.index(link)?;
                self.handle.address().add(index, *address, *prefix).execute().await?;
            }
            Step::MakeTunnel { tunnel, bridge, mtu } => {
                self.make_tunnel(tunnel, bridge, *mtu, scan).await?;
            }
            Step::Attach { port, bridge } => {
                let index = scan.index(port)?;
                let plugged =
                    LinkUnspec::new_with_index(index).controller(scan.index(bridge)?).build();
                links.set(plugged).execute().await?;
            }
            Step::Mtu { link, mtu } => {
                let index = scan.index(link)?;
                links.set(LinkUnspec::new_with_index(index).mtu(*mtu).build()).execute().await?;
            }
            Step::Up { link } => {
                let index = scan.index(link)?;
                links.set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
            }
            Step::MarkPort { port, bridge } => {
                let index = scan.index(port)?;
                let named = LinkUnspec::new_with_index(index).alias(mark(bridge)).build();
                links.set(named).execute().await?;
                let hairpin = LinkBridgePort::new(index).hairpin(true).build();
                links.set_port(hairpin).execute().await?;
            }
            Step::Own { bridge, range, from } => {
                let route = own_route(scan.index(bridge)?, *range).pref_source(*from).build();
                self.handle.route().add(route).replace().execute().await?;
            }
            Step::Disown { bridge, range } => {
                let route = own_route(scan.index(bridge)?, *range).build();
                self.handle.route().del(route).execute().await?;
            }
            Step::Flood { tunnel, peer } => self.flood(scan.index(tunnel)?, *peer).await?,
            Step::NoFlood { tunnel, peer } => {
                let entry = way(scan.index(tunnel)?, &UNKNOWN, *peer);
                self.handle.neighbours().del(entry).execute().await?;
            }
            Step::Unlearn { tunnel, peer } => self.unlearn(scan.index(tunnel)?, *peer).await?,
            Step::Switch { path, value } => switch(path, value)?,
        }
        Ok(())
    }

    async fn make_tunnel(
        &self,
        tunnel: &Tunnel,
        bridge: &str,
        mtu: u32,
        scan: &Scan,
    ) -> Result<(), DriveError> {
        let new = LinkVxlan::new(&tunnel.name, tunnel.vni).port(tunnel.port).learning(true);
        let new = match tunnel.local {
            IpAddr::V4(local) => new.local(local),
            IpAddr::V6(local) => new.local6(local),
        };
        let new = match &tunnel.over {
            Some(device) => new.dev(scan.index(device)?),
            None => new,
        };
        let links = self.handle.link();
        let new = new.controller(scan.index(bridge)?).mtu(mtu).up().build();
        links.add(new).execute().await?;
        let named = LinkUnspec::new_with_name(&tunnel.name).alias(mark(bridge)).build();
        links.set(named).execute().await?;
        Ok(())
    }

    async fn flood(&self, index: u32, peer: IpAddr) -> Result<(), DriveError> {
        // rtnetlink's own request replaces or refuses; here each host is one more way of the same entry.
        let entry = RouteNetlinkMessage::NewNeighbour(way(index, &UNKNOWN, peer));
        let mut request = NetlinkMessage::from(entry);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error).into());
            }
        }
        Ok(())
    }

    async fn unlearn(&self, index: u32, peer: IpAddr) -> Result<(), DriveError> {
        for entry in self.forwarding().await? {
            if entry.header.ifindex == index
                && let Some((mac, by)) = way_of(&entry)
                && by == peer
                && mac != UNKNOWN
            {
                self.handle.neighbours().del(way(index, &mac, peer)).execute().await?;
            }
        }
        Ok(())
    }
}

/// How large packets may be on the way that this address of the host is used for, in bytes; none where no device has
/// the address.
///
/// # Errors
/// [`DriveError`] when the kernel does not answer.
pub async fn way_mtu(address: IpAddr) -> Result<Option<u32>, DriveError> {
    Ok(Kernel::open()?.scan().await?.ways.get(&address).copied())
}

fn switch(path: &str, value: &str) -> Result<(), DriveError> {
    let path = format!("/proc/sys/{path}");
    std::fs::write(&path, value).map_err(|source| DriveError::Switch { path, source })
}

/// The values of those switches that this kernel has.
pub(super) fn switches<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    paths
        .filter_map(|path| {
            let value = std::fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
            Some((path.clone(), value.trim().to_owned()))
        })
        .collect()
}

fn own_route(device: u32, range: Subnet) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.first, range.prefix)
        .output_interface(device)
        .table_id(LOCAL_TABLE)
        .protocol(OURS)
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
}

fn way(index: u32, mac: &[u8; 6], peer: IpAddr) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = index;
    entry.header.state = NeighbourState::Permanent;
    entry.header.flags = NeighbourFlags::Own;
    let to = match peer {
        IpAddr::V4(peer) => NeighbourAddress::Inet(peer),
        IpAddr::V6(peer) => NeighbourAddress::Inet6(peer),
    };
    entry.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        NeighbourAttribute::Destination(to),
    ];
    entry
}

/// Which container, and by which host it is reached; none for entries of bridges.
fn way_of(entry: &NeighbourMessage) -> Option<([u8; 6], IpAddr)> {
    let (mut mac, mut to) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok();
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                to = Some(IpAddr::V4(*address));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                to = Some(IpAddr::V6(*address));
            }
            // The entry's family is that of bridges, which does not tell an address's own.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                to = <[u8; 4]>::try_from(bytes.as_slice())
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
                    .ok();
            }
            _ => {}
        }
    }
    Some((mac?, to?))
}

fn link_of(message: &LinkMessage) -> Option<(String, Link, Option<u32>)> {
    let mut link = Link { up: message.header.flags.contains(LinkFlags::Up), ..Link::default() };
    let (mut name, mut master) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => master = Some(*index),
            LinkAttribute::IfAlias(text) => link.alias = Some(text.clone()),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| about(info, &mut link)),
            _ => {}
        }
    }
    Some((name?, link, master))
}

fn about(info: &LinkInfo, link: &mut Link) {
    match info {
        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
        LinkInfo::Data(InfoData::Vxlan(settings)) => link.kind = tunnel_of(settings),
        LinkInfo::PortData(InfoPortData::BridgePort(settings)) => {
            link.hairpin = settings.iter().any(|s| matches!(s, InfoBridgePort::HairpinMode(true)));
        }
        _ => {}
    }
}

fn tunnel_of(settings: &[InfoVxlan]) -> LinkKind {
    let (mut its_vni, mut its_port, mut from) = (0, 0, None);
    for setting in settings {
        match setting {
            InfoVxlan::Id(id) => its_vni = *id,
            InfoVxlan::Port(port) => its_port = *port,
            InfoVxlan::Local(address) => from = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => from = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    LinkKind::Tunnel { vni: its_vni, port: its_port, local: from }
}
