//! Bandwidth of an endpoint, limited on the host's side, where nobody inside can lift it.
//!
//! ```text
//! to the container:    bridge ─► [tbf] veth ─► eth0
//! from the container:  eth0 ─► veth ─(ingress, u32, mirred)─► [tbf] ifb ─► veth, as if just received ─► bridge
//! ```
//!
//! A queue can only be put where packets leave, so what comes from the container is sent through an ifb device first. It is
//! named after the host's end of the pair (`tv…`, `ti…`), so whoever knows of the one finds the other. The veth takes its queues
//! with it when it goes; the ifb has to be deleted.
//! Sources: tc-tbf(8), tc-u32(8), tc-mirred(8), linux/{pkt_sched.h,pkt_cls.h,tc_act/tc_mirred.h}, net/sched/sch_tbf.c.

use crate::channel::{Batch, Channel, Request};
use crate::device::{Device, Link};
use crate::message::{CREATE, EXCLUSIVE};
use crate::{EndpointKind, EndpointPlan, Rate};
use rustix::io::Errno;
use tare_model::{Error, Kind, Result};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;
/// Parent of the ingress queue, whose own handle is `ffff:`.
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_0000;
/// `1:`
const HANDLE: u32 = 0x0001_0000;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: i32 = 1;
const TC_ACT_STOLEN: i32 = 4;
const ETH_P_ALL: u16 = 3;

/// How much may go out at once, in milliseconds of the rate.
const BURST_MS: u64 = 10;
/// How long a packet may wait, in milliseconds; what would wait longer is dropped.
const LATENCY_MS: u64 = 50;
/// The least queue beyond the burst: some twenty full packets, without which TCP does not reach a low rate.
const LEAST_QUEUE: u64 = 32 * 1024;
/// What a veth is given of Ethernet's header beyond its MTU.
const ETHERNET_HEADER: u32 = 14;

/// A token bucket: sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    rate: u64,
    burst: u32,
    limit: u32,
}

impl Bucket {
    /// `rate` in bits per second.
    fn new(rate: u64, mtu: u32) -> Bucket {
        let rate = rate / 8;
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        // No packet that is larger than the bucket ever gets out of it.
        let burst = narrow((rate / 1000).saturating_mul(BURST_MS)).max(2 * (mtu + ETHERNET_HEADER));
        let queue = (rate / 1000).saturating_mul(LATENCY_MS).max(LEAST_QUEUE);
        Bucket { rate, burst, limit: burst.saturating_add(narrow(queue)) }
    }
}

/// Name of the ifb device of a pair whose host's end is `link`: it differs in its second letter.
fn ifb_name(link: &str) -> Option<String> {
    link.strip_prefix("tv").map(|token| format!("ti{token}"))
}

/// `struct tcmsg`: family, padding, device, handle, parent, info.
fn header(device: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut out = [0; 20];
    for (i, value) in [device, handle, parent, info].into_iter().enumerate() {
        out[4 + i * 4..8 + i * 4].copy_from_slice(&value.to_ne_bytes());
    }
    out
}

impl Batch {
    fn add_ifb(&mut self, name: &str, mtu: u32) {
        let request = Request {
            kind: RTM_NEWLINK,
            flags: CREATE | EXCLUSIVE,
            header: &[0; 16],
            step: "create device",
            object: name,
            fine: &[Errno::EXIST],
        };
        self.add(&request, |a| {
            a.string(IFLA_IFNAME, name);
            a.u32(IFLA_MTU, mtu);
            a.nest(IFLA_LINKINFO, |a| a.string(IFLA_INFO_KIND, "ifb"));
        });
    }

    /// The one queue of a device: a token bucket.
    fn add_bucket(&mut self, device: u32, name: &str, bucket: Bucket) {
        let request = Request {
            kind: RTM_NEWQDISC,
            flags: CREATE | EXCLUSIVE,
            header: &header(device, HANDLE, TC_H_ROOT, 0),
            step: "limit rate of device",
            object: name,
            fine: &[],
        };
        self.add(&request, |a| {
            a.string(TCA_KIND, "tbf");
            a.nest(TCA_OPTIONS, |a| {
                // struct tc_tbf_qopt: two struct tc_ratespec (rate, peak rate), limit, buffer, mtu.
                let mut options = [0_u8; 36];
                options[1] = TC_LINKLAYER_ETHERNET;
                options[8..12].copy_from_slice(&u32::try_from(bucket.rate).unwrap_or(u32::MAX).to_ne_bytes());
                options[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
                a.bytes(TCA_TBF_PARMS, &options);
                if bucket.rate > u32::MAX.into() {
                    a.bytes(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
                }
                a.u32(TCA_TBF_BURST, bucket.burst);
            });
        });
    }

    /// Sends everything that `device` receives out through `to`.
    fn add_redirect(&mut self, device: u32, name: &str, to: u32) {
        let queue = Request {
            kind: RTM_NEWQDISC,
            flags: CREATE | EXCLUSIVE,
            header: &header(device, INGRESS, TC_H_INGRESS, 0),
            step: "limit rate of device",
            object: name,
            fine: &[],
        };
        self.add(&queue, |a| a.string(TCA_KIND, "ingress"));
        let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
        let filter = Request { kind: RTM_NEWTFILTER, header: &header(device, 0, INGRESS, info), ..queue };
        self.add(&filter, |a| {
            a.string(TCA_KIND, "u32");
            a.nest(TCA_OPTIONS, |a| {
                // struct tc_u32_sel with one key whose mask is empty: every packet.
                let mut selector = [0_u8; 32];
                (selector[0], selector[2]) = (TC_U32_TERMINAL, 1);
                a.bytes(TCA_U32_SEL, &selector);
                a.nest(TCA_U32_ACT, |a| a.nest(1, |a| mirred(a, to)));
            });
        });
    }
}

fn mirred(a: &mut crate::message::Attributes<'_>, to: u32) {
    a.string(TCA_ACT_KIND, "mirred");
    a.nest(TCA_ACT_OPTIONS, |a| {
        // struct tc_mirred: index, capabilities, action, two counts, what to do, device.
        let words = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR].map(i32::to_ne_bytes);
        a.bytes(TCA_MIRRED_PARMS, &[words.as_flattened(), &to.to_ne_bytes()].concat());
    });
}

impl crate::Host {
    /// Removes what a limit of rate has made on the host and the end of the pair `link` does not take along. Fine to repeat.
    /// Blocks for 10 to 60 ms where there is something to remove.
    ///
    /// # Errors
    /// As the kernel.
    pub fn remove_limit(&mut self, link: &str, rate: Rate) -> Result<()> {
        remove(&mut self.route, link, rate)
    }
}

/// Refuses limits of a device that has no end on the host: there they would have to be set inside, where they can be lifted.
pub(crate) fn check(plan: &EndpointPlan) -> Result<()> {
    if plan.rate.is_unlimited() || matches!(plan.kind, EndpointKind::Bridge { .. }) {
        return plan.rate.check();
    }
    Err(Error::new(Kind::Unsupported, "limit rate of device", &plan.interface)
        .because("it has no end on the host, where nobody inside could lift the limit")
        .hint("connect the container to a network with the driver bridge, or leave --net-rate out"))
}

/// Limits the rates of the pair whose host's end is `link`, with the number `index`.
///
/// What was made before a failure is left for whoever takes the endpoint back: [`remove`] and the end of the pair.
pub(crate) fn limit(host: &mut Channel, link: &str, index: u32, mtu: u32, rate: Rate) -> Result<()> {
    if rate.is_unlimited() {
        return Ok(());
    }
    rate.check()?;
    let mut batch = host.batch();
    if let Some(rate) = rate.to_container {
        batch.add_bucket(index, link, Bucket::new(rate, mtu));
    }
    let Some(rate) = rate.from_container else { return host.transact(&batch).map(drop) };
    let name = ifb_name(link).ok_or_else(|| Error::new(Kind::Invalid, "limit rate of device", link))?;
    batch.add_ifb(&name, mtu);
    batch.get_link(Device::Name(&name), &[]);
    let answers = host.transact(&batch).map_err(explain)?;
    let ifb = answers.messages().find_map(|m| Link::parse(&m)).map(|link| link.index);
    let ifb = ifb.ok_or_else(|| Error::new(Kind::NotFound, "find device", &name))?;
    let mut batch = host.batch();
    batch.add_bucket(ifb, &name, Bucket::new(rate, mtu));
    batch.no_link_local(ifb, &name);
    batch.set_up(ifb, &name);
    // Last, when what is sent there gets through.
    batch.add_redirect(index, link, ifb);
    host.transact(&batch).map(drop).map_err(explain)
}

/// Removes what [`limit`] made and the end of the pair does not take along.
pub(crate) fn remove(host: &mut Channel, link: &str, rate: Rate) -> Result<()> {
    let (Some(_), Some(name)) = (rate.from_container, ifb_name(link)) else { return Ok(()) };
    let mut batch = host.batch();
    batch.delete_link(&name);
    host.transact(&batch).map(drop)
}

fn explain(error: Error) -> Error {
    let absent = [Errno::OPNOTSUPP, Errno::NOENT].map(|e| Some(e.raw_os_error()));
    if absent.contains(&error.errno()) {
        error.with_kind(Kind::Unsupported).hint("the kernel needs tbf, ingress, u32, mirred and ifb (modprobe ifb)")
    } else {
        error
    }
}

#[cfg(test)]
mod tests;
