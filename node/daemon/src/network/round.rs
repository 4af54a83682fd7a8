//! One comparison of what is with what should be, and what is done about the difference.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use node::network::devices::{ENCRYPTED, USUAL_MTU};
use node::network::picture::Picture;
use node::network::repair::{Found, Step, repair};
use node::network::wanted::{Host, Wanted, wanted};
use tracing::{debug, info, warn};

use super::encrypted::Encrypted;
use super::flows::{Living, forget_gone};
use super::links::{Kernel, switches};
use super::tables::{Loaded, Tables};
use super::{DriveError, engines, firewall};

/// Comparisons in a row: a device that was made is looked at again for what it lacks.
const PASSES: usize = 4;

/// What the driver remembers from one comparison to the next. Nothing of it is needed to go on after a restart.
#[derive(Debug)]
pub(super) struct Driver {
    engine: PathBuf,
    host: Host,
    kernel: Kernel,
    encrypted: Option<Encrypted>,
    tables: Tables,
    /// What the kernel or this process lacks.
    missing: Vec<String>,
    /// What the latest picture asks for and cannot be had.
    refused: Vec<String>,
    /// What failed in the latest comparison, of devices and of rules, so that each failure is told once.
    failed: BTreeSet<String>,
    failed_rules: BTreeSet<String>,
    /// The picture for which nothing was left to do: what is to be done for it afterwards is a repair.
    done: Option<Arc<Picture>>,
    /// Bridges that were there when it was last looked; another one is new, and what it gets no repair.
    bridges: BTreeSet<String>,
    living: Option<Living>,
    /// No network, and nothing of ours left: there is nothing to look after.
    idle: bool,
}

impl Driver {
    pub(super) fn new(
        engine: PathBuf,
        host: Host,
        kernel: Kernel,
        encrypted: Option<Encrypted>,
        missing: Vec<String>,
    ) -> Self {
        Self {
            engine,
            host,
            kernel,
            encrypted,
            tables: Tables::default(),
            missing,
            refused: Vec::new(),
            failed: BTreeSet::new(),
            failed_rules: BTreeSet::new(),
            done: None,
            bridges: BTreeSet::new(),
            living: None,
            idle: false,
        }
    }

    /// What operators should know, one sentence each.
    pub(super) fn complaints(&self) -> Vec<String> {
        let failed = self.failed.iter().chain(&self.failed_rules);
        self.missing.iter().chain(&self.refused).chain(failed).cloned().collect()
    }

    /// Compares and mends: devices, and with `all` the packet rules too.
    pub(super) async fn round(&mut self, picture: &Arc<Picture>, all: bool) {
        if self.idle && picture.networks.is_empty() {
            return;
        }
        let mut before = std::mem::take(&mut self.failed);
        before.extend(self.failed_rules.iter().cloned());
        self.encryption(picture).await;
        let new = self.done.as_ref().is_none_or(|done| !Arc::ptr_eq(done, picture));
        let wanted = self.devices(picture, !new).await;
        self.refuse(wanted.complaints.clone());
        if all {
            self.failed_rules.clear();
            self.rules(&wanted, !new).await;
            self.connections(picture).await;
        }
        for failure in self.failed.union(&self.failed_rules).filter(|one| !before.contains(*one)) {
            warn!("{failure}");
        }
        let whole = self.failed.is_empty() && self.failed_rules.is_empty();
        if whole && all {
            self.done = Some(Arc::clone(picture));
        }
        self.idle = whole && all && picture.networks.is_empty();
    }

    async fn encryption(&mut self, picture: &Picture) {
        let Some(encrypted) = &mut self.encrypted else { return };
        let wanted = picture.networks.values().any(|network| network.encrypted);
        let made = encrypted.ensure(wanted).await;
        self.host.encrypts = made.is_ok();
        if let Err(error) = made {
            self.failed.insert(format!(
                "packets of encrypted networks cannot be carried: the TUN device {ENCRYPTED} cannot be made or used \
                 ({error}). It takes CAP_NET_ADMIN and /dev/net/tun; it is tried on"
            ));
        }
    }

    fn refuse(&mut self, refused: Vec<String>) {
        for text in refused.iter().filter(|text| !self.refused.contains(text)) {
            warn!("{text}");
        }
        self.refused = refused;
    }

    async fn devices(&mut self, picture: &Picture, repairing: bool) -> Wanted {
        let mut latest = Wanted::default();
        let mut made = Vec::new();
        let before = self.bridges.clone();
        for _ in 0..PASSES {
            match self.pass(picture, &mut made).await {
                Ok((wanted, more)) => {
                    latest = wanted;
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    self.failed.insert(format!(
                        "the network devices of this host cannot be read: {error}. What is there goes on as it is"
                    ));
                    latest = wanted(picture, &self.host);
                    break;
                }
            }
        }
        let (usual, rest): (Vec<Step>, Vec<Step>) = made.into_iter().partition(Step::is_usual);
        let text =
            |steps: &[Step]| steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !usual.is_empty() {
            debug!("networks: {}", text(&usual));
        }
        let known = self.bridges.is_subset(&before);
        if !rest.is_empty() && repairing && known {
            warn!("networks mended; somebody had changed them: {}", text(&rest));
        } else if !rest.is_empty() {
            info!("networks: {}", text(&rest));
        }
        latest
    }

    /// One comparison of devices; says whether another one may find more to do.
    async fn pass(
        &mut self,
        picture: &Picture,
        made: &mut Vec<Step>,
    ) -> Result<(Wanted, bool), DriveError> {
        let scan = self.kernel.scan().await?;
        self.host.way_mtu = scan.ways.get(&self.host.address).copied().unwrap_or(USUAL_MTU);
        let mut wanted = wanted(picture, &self.host);
        if !wanted.overlays.is_empty() && !scan.ways.contains_key(&self.host.address) {
            wanted.complaints.push(format!(
                "no device of this host has the address {} that the other nodes were told (--advertise): containers \
                 here do not reach those on other hosts. Start shoal with an address of this host",
                self.host.address
            ));
        }
        let there = wanted.overlays.keys().filter(|name| scan.links.contains_key(*name));
        self.bridges.extend(there.cloned());
        self.bridges.retain(|name| wanted.overlays.contains_key(name));
        let lost = self.lost(&wanted, |name| scan.links.contains_key(name)).await;
        let switches = switches(wanted.switches.keys());
        let found = Found { links: scan.links.clone(), switches, lost };
        let steps = repair(&wanted, &found);
        let (mut more, mut failures) = (!steps.is_empty(), 0);
        for step in steps {
            match self.kernel.carry_out(&step, &scan).await {
                Ok(()) => made.push(step),
                // It went while it was looked at: containers end all the time.
                Err(DriveError::Gone(_)) => {}
                Err(error) => {
                    failures += 1;
                    self.failed.insert(format!("could not {step}: {error}; it is tried on"));
                }
            }
        }
        more &= failures == 0;
        Ok((wanted, more))
    }

    /// The bridges that are missing although the engine has their networks.
    async fn lost(&mut self, wanted: &Wanted, there: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let missing: BTreeSet<String> =
            wanted.overlays.keys().filter(|bridge| !there(bridge)).cloned().collect();
        if missing.is_empty() {
            return missing;
        }
        match engines::bridges(&self.engine).await {
            Ok(bridges) => missing.intersection(&bridges).cloned().collect(),
            Err(error) => {
                debug!(%error, "bridges are missing, and the engine cannot be asked about them");
                BTreeSet::new()
            }
        }
    }

    async fn rules(&mut self, wanted: &Wanted, repairing: bool) {
        match self.tables.ensure(wanted.rules.as_deref()).await {
            Ok(Loaded::Nothing) => {}
            Ok(Loaded::New) => debug!("packet rules loaded"),
            Ok(Loaded::Mended) => {
                warn!("packet rules mended: somebody had changed or deleted them")
            }
            // Without networks there was probably nothing to take away.
            Err(error) if wanted.overlays.is_empty() => debug!(%error, "packet rules not removed"),
            Err(error) => {
                self.failed_rules.insert(format!(
                    "virtual addresses and published ports may not work on this host: {error}"
                ));
            }
        }
        match firewall::ensure(&wanted.published).await {
            Ok(true) if repairing => {
                warn!("the way for published ports through the engine's firewall was mended")
            }
            Ok(_) => {}
            Err(error) if wanted.published.is_empty() => debug!(%error, "firewall not looked at"),
            Err(error) => {
                self.failed_rules.insert(format!(
                    "published ports may not be reached from outside of this host: {error}"
                ));
            }
        }
    }

    async fn connections(&mut self, picture: &Picture) {
        let living = Living::of(picture);
        // After a start nobody knows what ended meanwhile.
        let look = self.living.as_ref().is_none_or(|before| living.lost_since(before));
        if look && !picture.networks.is_empty() {
            match forget_gone(&living).await {
                Ok(0) => {}
                Ok(many) => debug!(many, "forgot connections to replicas that are gone"),
                Err(error) => {
                    debug!(%error, "connections to replicas that are gone end by their own timeouts");
                }
            }
        }
        self.living = Some(living);
    }
}
