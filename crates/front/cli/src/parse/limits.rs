//! Flags of cgroup limits, shared by `run`, `create` and `update`.

use super::bad;
use clap::Args;
use tare_model::runtime_spec::{
    LinuxBlockIo, LinuxCpu, LinuxInterfacePriority, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources,
};
use tare_model::{Result, size};

/// Microseconds of docker's period for `--cpus`.
const PERIOD: u64 = 100_000;

/// Docker's least limit of memory.
const LEAST: i64 = 6 << 20;

/// Limits as typed.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory limit, as 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Limit of memory and swap together; -1: no limit of swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Memory that is left to it when the host runs short
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_reservation: Option<String>,
    /// Number of processors' time, as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// Weight against other containers; 1024 is the usual
    #[arg(short, long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period; -1: no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a period, 1000 to 1000000
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// Processors it may use, as 0-2,5
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes it may use, as 0,1
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Number of processes and threads; -1: no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Weight of block device access against other containers, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// Class of its packets for tc's cgroup filter, as 10:1 or 0x100001; cgroup v1 only
    #[arg(long, value_name = "CLASSID")]
    pub(crate) net_cls: Option<String>,
    /// Priority of its packets on a device of the host, as eth0:5; cgroup v1 only
    #[arg(long, value_name = "INTERFACE:PRIORITY")]
    pub(crate) net_prio: Vec<String>,
}

/// Whether a limit of memory also limits swap where nothing was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    /// A new container: as much swap as memory, docker's default.
    AsMuch,
    /// An update: what is not named stays.
    Unchanged,
}

impl LimitArgs {
    /// The limits that these flags mean.
    pub(crate) fn meant(&self, swap: Swap) -> Result<LinuxResources> {
        Ok(LinuxResources {
            memory: self.memory(swap)?,
            cpu: self.cpu()?,
            pids: self.pids_limit.map(|n| LinuxPids { limit: Some(if n <= 0 { -1 } else { n }) }),
            block_io: self.block_io()?,
            network: self.network()?,
            ..LinuxResources::default()
        })
    }

    fn memory(&self, default: Swap) -> Result<Option<LinuxMemory>> {
        let limit = self.memory.as_deref().map(|t| bytes("--memory", t)).transpose()?;
        if let (Some(limit), Some(text)) = (limit, &self.memory)
            && limit < LEAST
        {
            return Err(bad("--memory", text, "expected at least 6m: less does not even start a process"));
        }
        let reservation = self.memory_reservation.as_deref().map(|t| bytes("--memory-reservation", t)).transpose()?;
        if let (Some(limit), Some(reservation)) = (limit, reservation)
            && reservation > limit
        {
            let text = self.memory_reservation.as_deref().unwrap_or_default();
            return Err(bad("--memory-reservation", text, "it is above --memory"));
        }
        let swap = match (self.memory_swap.as_deref(), limit) {
            (Some("-1"), _) => Some(-1),
            (Some(text), limit) => {
                let both = bytes("--memory-swap", text)?;
                if default == Swap::AsMuch && limit.is_none() {
                    return Err(bad("--memory-swap", text, "it counts memory and swap together and needs --memory"));
                }
                if limit.is_some_and(|l| both < l) {
                    return Err(bad("--memory-swap", text, "it counts memory too and is below --memory"));
                }
                Some(both)
            }
            (None, Some(limit)) if default == Swap::AsMuch => limit.checked_mul(2),
            (None, _) => None,
        };
        let memory = LinuxMemory { limit, reservation, swap, ..LinuxMemory::default() };
        Ok((memory != LinuxMemory::default()).then_some(memory))
    }

    fn cpu(&self) -> Result<Option<LinuxCpu>> {
        let (mut quota, mut period) = (self.cpu_quota, self.cpu_period);
        if let Some(text) = &self.cpus {
            if quota.is_some() || period.is_some() {
                return Err(bad("--cpus", text, "it cannot be combined with --cpu-quota and --cpu-period"));
            }
            quota = Some(quota_of(text)?);
            period = Some(PERIOD);
        }
        if let Some(p) = period
            && !(1000..=1_000_000).contains(&p)
        {
            return Err(bad("--cpu-period", &p.to_string(), "expected 1000 to 1000000 microseconds"));
        }
        if let Some(q) = quota
            && q != -1
            && q < 1000
        {
            return Err(bad("--cpu-quota", &q.to_string(), "expected 1000 microseconds or more, or -1 for no limit"));
        }
        if let Some(shares) = self.cpu_shares
            && shares < 2
        {
            return Err(bad("--cpu-shares", &shares.to_string(), "expected 2 to 262144"));
        }
        let cpu = LinuxCpu {
            shares: self.cpu_shares,
            quota,
            period,
            cpus: self.cpuset_cpus.as_deref().map(|t| list("--cpuset-cpus", t)).transpose()?,
            mems: self.cpuset_mems.as_deref().map(|t| list("--cpuset-mems", t)).transpose()?,
            ..LinuxCpu::default()
        };
        Ok((cpu != LinuxCpu::default()).then_some(cpu))
    }

    fn network(&self) -> Result<Option<LinuxNetwork>> {
        let network = LinuxNetwork {
            class_id: self.net_cls.as_deref().map(class).transpose()?,
            priorities: self.net_prio.iter().map(|text| priority(text)).collect::<Result<_>>()?,
        };
        Ok((network != LinuxNetwork::default()).then_some(network))
    }

    fn block_io(&self) -> Result<Option<LinuxBlockIo>> {
        match self.blkio_weight {
            None | Some(0) => Ok(None),
            Some(w) if !(10..=1000).contains(&w) => {
                Err(bad("--blkio-weight", &w.to_string(), "expected 10 to 1000, or 0 for none"))
            }
            weight => Ok(Some(LinuxBlockIo { weight, ..LinuxBlockIo::default() })),
        }
    }
}

fn bytes(flag: &str, text: &str) -> Result<i64> {
    let n = size::parse(text).map_err(|e| bad(flag, text, "expected a size such as 512m or 2g").caused_by(e))?;
    match i64::try_from(n) {
        Ok(0) => Err(bad(flag, text, "a limit of nothing lets nothing run")),
        Ok(n) => Ok(n),
        Err(_) => Err(bad(flag, text, "it is too large")),
    }
}

fn quota_of(text: &str) -> Result<i64> {
    let cpus: f64 = text.parse().map_err(|_| bad("--cpus", text, "expected a number such as 0.5 or 2"))?;
    if !(0.01..=65536.0).contains(&cpus) {
        return Err(bad("--cpus", text, "expected at least 0.01 processors"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 65536 periods: checked above")]
    Ok((cpus * PERIOD as f64).round() as i64)
}

/// A class as tc(8) writes it, two hexadecimal numbers of 16 bits; or as the kernel's file has it, one of 32 bits.
fn class(text: &str) -> Result<u32> {
    let hexadecimal = |t: &str| u16::from_str_radix(t, 16).map(u32::from).ok().filter(|_| !t.starts_with('+'));
    let number = match (text.split_once(':'), text.strip_prefix("0x")) {
        (Some((major, minor)), _) => {
            hexadecimal(major).zip(hexadecimal(minor)).map(|(major, minor)| major << 16 | minor)
        }
        (None, Some(digits)) => u32::from_str_radix(digits, 16).ok(),
        (None, None) => text.parse().ok(),
    };
    number.ok_or_else(|| bad("--net-cls", text, "expected a class such as 10:1 (hexadecimal, as in tc), or 0x100001"))
}

fn priority(text: &str) -> Result<LinuxInterfacePriority> {
    let parts = text.rsplit_once(':').filter(|(name, _)| !name.is_empty() && name.len() < 16);
    let parts = parts.and_then(|(name, number)| Some((name, number.parse().ok()?)));
    let (name, priority) =
        parts.ok_or_else(|| bad("--net-prio", text, "expected a device of the host and a number, such as eth0:5"))?;
    Ok(LinuxInterfacePriority { name: name.to_owned(), priority })
}

/// A list as cpuset(7) has it: `0-2,5`.
fn list(flag: &str, text: &str) -> Result<String> {
    let number = |t: &str| t.parse::<u32>().is_ok();
    let ok = text.split(',').all(|part| match part.split_once('-') {
        Some((a, b)) => number(a) && number(b),
        None => number(part),
    });
    if ok { Ok(text.to_owned()) } else { Err(bad(flag, text, "expected a list such as 0-2,5")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory: &str, swap: Option<&str>, default: Swap) -> Result<LinuxMemory> {
        let args = LimitArgs { memory: Some(memory.into()), memory_swap: swap.map(Into::into), ..LimitArgs::default() };
        Ok(args.meant(default)?.memory.unwrap())
    }

    #[test]
    fn nothing_typed_is_no_limit() {
        assert_eq!(LimitArgs::default().meant(Swap::AsMuch).unwrap(), LinuxResources::default());
    }

    #[test]
    fn memory_brings_as_much_swap_to_a_new_container() {
        let m = 64 << 20;
        assert_eq!(memory("64m", None, Swap::AsMuch).unwrap().swap, Some(2 * m));
        assert_eq!(memory("64m", None, Swap::Unchanged).unwrap().swap, None);
        assert_eq!(memory("64m", Some("-1"), Swap::AsMuch).unwrap().swap, Some(-1));
        assert_eq!(memory("64m", Some("64m"), Swap::AsMuch).unwrap().swap, Some(m));
        assert!(memory("64m", Some("32m"), Swap::AsMuch).is_err());
        assert!(memory("0", None, Swap::AsMuch).is_err() && memory("5m", None, Swap::AsMuch).is_err());
        let alone = LimitArgs { memory_swap: Some("1g".into()), ..LimitArgs::default() };
        assert!(alone.meant(Swap::AsMuch).unwrap_err().to_string().contains("needs --memory"));
    }

    #[test]
    fn cpus_is_quota_and_period() {
        let with = |cpus: &str| LimitArgs { cpus: Some(cpus.into()), ..LimitArgs::default() };
        let cpu = with("1.5").meant(Swap::AsMuch).unwrap().cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
        for bad in ["0", "-1", "x", "inf", "nan"] {
            assert!(with(bad).meant(Swap::AsMuch).is_err(), "{bad}");
        }
        let both = LimitArgs { cpu_quota: Some(5000), ..with("1") };
        assert!(both.meant(Swap::AsMuch).unwrap_err().to_string().contains("cannot be combined"));
    }

    #[test]
    fn classes_and_priorities_of_packets() {
        let args = LimitArgs {
            net_cls: Some("10:1".into()),
            net_prio: vec!["eth0:5".into(), "tare0:0".into()],
            ..LimitArgs::default()
        };
        let network = args.meant(Swap::AsMuch).unwrap().network.unwrap();
        assert_eq!(network.class_id, Some(0x0010_0001));
        let told: Vec<_> = network.priorities.iter().map(|p| (p.name.as_str(), p.priority)).collect();
        assert_eq!(told, [("eth0", 5), ("tare0", 0)]);
        assert_eq!(class("0x100001").unwrap(), class("1048577").unwrap());
        for wrong in ["", "x", "10:", ":1", "10000:1", "+1:1", "0x", "-1", "1:1:1"] {
            assert!(class(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "eth0", "eth0:", ":5", "eth0:-1", "eth0:x", "a-name-that-is-too-long:1"] {
            assert!(priority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_rest_is_checked_too() {
        let d = LimitArgs::default;
        for bad in [
            LimitArgs { cpuset_cpus: Some("0-".into()), ..d() },
            LimitArgs { cpu_period: Some(10), ..d() },
            LimitArgs { cpu_quota: Some(10), ..d() },
            LimitArgs { blkio_weight: Some(5), ..d() },
            LimitArgs { memory: Some("16m".into()), memory_reservation: Some("32m".into()), ..d() },
        ] {
            assert!(bad.meant(Swap::AsMuch).is_err(), "{bad:?}");
        }
        let pids = LimitArgs { pids_limit: Some(0), ..d() }.meant(Swap::AsMuch).unwrap().pids.unwrap();
        assert_eq!(pids.limit, Some(-1));
    }
}
