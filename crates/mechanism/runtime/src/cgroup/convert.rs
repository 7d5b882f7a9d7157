//! Conversions between docker's options, v1's scales and v2's.

use tare_model::{Error, Kind, Result};

/// v2's `cpu.weight` (1 to 10000) for v1's `cpu.shares` (2 to 262144): in proportion, the usual 1024 being the usual 100.
///
/// What a user asks for with shares is a relation: three times as much must be three times as much on every host. The
/// formulas of runc and crun give that up to use the whole scale: 512 and 1536 become 59 and 138 in the newer one, and in
/// the older one the usual 1024 becomes 39, below every service of systemd (100). The price here: below 16 and above
/// 102400 shares all are the same.
pub fn cpu_weight(shares: u64) -> u64 {
    (shares.saturating_mul(100).saturating_add(512) / 1024).clamp(1, 10_000)
}

/// By which scale v1's shares become v2's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// [`cpu_weight`]: the engine's.
    #[default]
    Proportional,
    /// [`oci_cpu_weight`]: that of the OCI runtimes, which others (Kubernetes) reckon with.
    Oci,
}

impl Weights {
    pub(super) fn weight(self, shares: u64) -> u64 {
        match self {
            Weights::Proportional => cpu_weight(shares),
            Weights::Oci => oci_cpu_weight(shares),
        }
    }
}

/// v2's `cpu.weight` as today's OCI runtimes and Kubernetes convert shares: 2, 1024 and 262144 become 1, 100 and 10000,
/// and in between the logarithm of the weight is quadratic in that of the shares. (Older runc was linear.)
pub fn oci_cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10_f64.powf(l * (l + 125.0) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// Quota and period in microseconds for docker's `--cpus`.
///
/// # Errors
/// Invalid when it is not a positive number, or below the kernel's smallest quota (1 ms of 100).
pub fn cpu_quota(cpus: f64) -> Result<(i64, u64)> {
    const PERIOD: u64 = 100_000;
    let quota = (cpus * PERIOD as f64).round();
    if !quota.is_finite() || !(1000.0..1e15).contains(&quota) {
        return Err(Error::new(Kind::Invalid, "convert cpus", cpus)
            .because("a number of processors from 0.01 upward is wanted")
            .hint("for example 0.5 or 2"));
    }
    Ok((quota as i64, PERIOD))
}

/// v2's `memory.swap.max` (swap alone) from v1's limit of memory and swap together.
///
/// None: nothing to write. Unlimited memory makes unlimited swap, as on v1.
///
/// # Errors
/// Invalid when swap is limited and memory is not, or below memory.
pub(super) fn swap_max(memory: Option<i64>, swap: Option<i64>) -> Result<Option<String>> {
    match (memory.unwrap_or(0), swap.unwrap_or(0)) {
        (-1, 0) | (_, ..=-1) => Ok(Some("max".into())),
        (_, 0) => Ok(None),
        (..=0, _) => Err(invalid_swap("memory itself has no limit")),
        (memory, swap) if swap < memory => Err(invalid_swap("it includes memory and must not be less")),
        (memory, swap) => Ok(Some((swap - memory).to_string())),
    }
}

/// Checks v1's pair, which the kernel would refuse with a bare EINVAL.
pub(super) fn memory_and_swap(memory: Option<i64>, swap: Option<i64>) -> Result<Option<String>> {
    match (memory.unwrap_or(0), swap.unwrap_or(0)) {
        (_, 0) => Ok(None),
        (memory, swap) if swap > 0 && memory > swap => Err(invalid_swap("it includes memory and must not be less")),
        (_, swap) => Ok(Some(if swap < 0 { "-1".into() } else { swap.to_string() })),
    }
}

fn invalid_swap(why: &str) -> Error {
    Error::new(Kind::Invalid, "limit memory and swap", "")
        .because(why)
        .hint("give both limits, swap as the sum of the two")
}

/// v2's `io.weight` (1 to 10000) for v1's weight (10 to 1000): linear, as runc and crun do.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_in_proportion() {
        let pairs = [(0, 1), (2, 1), (512, 50), (1023, 100), (1024, 100), (1536, 150), (2048, 200), (3072, 300)];
        for (shares, weight) in pairs.into_iter().chain([(262_144, 10_000), (u64::MAX, 10_000)]) {
            assert_eq!(cpu_weight(shares), weight, "{shares} shares");
        }
        assert!((2..262_144).collect::<Vec<_>>().windows(2).all(|w| cpu_weight(w[0]) <= cpu_weight(w[1])));
    }

    #[test]
    fn shares_become_weights_as_in_other_runtimes() {
        for (shares, weight) in
            [(0, 1), (2, 1), (512, 59), (1024, 100), (1536, 138), (262_144, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(oci_cpu_weight(shares), weight, "{shares} shares");
        }
    }

    #[test]
    fn cpus_become_quotas() {
        assert_eq!(cpu_quota(1.5).unwrap(), (150_000, 100_000));
        assert_eq!(cpu_quota(0.01).unwrap(), (1000, 100_000));
        for bad in [0.0, -1.0, 0.001, f64::NAN, f64::INFINITY] {
            assert_eq!(cpu_quota(bad).unwrap_err().kind(), Kind::Invalid);
        }
    }

    #[test]
    fn swap_is_a_difference_on_v2() {
        let max = |m, s| swap_max(Some(m), Some(s));
        assert_eq!(max(100, 300).unwrap().as_deref(), Some("200"));
        assert_eq!(max(100, 100).unwrap().as_deref(), Some("0"), "equal means no swap");
        assert_eq!(max(100, -1).unwrap().as_deref(), Some("max"));
        assert_eq!(max(-1, 0).unwrap().as_deref(), Some("max"));
        assert_eq!(max(100, 0).unwrap(), None);
        assert!(max(100, 50).is_err() && max(0, 50).is_err() && max(-1, 50).is_err());
        assert_eq!(memory_and_swap(Some(100), Some(-1)).unwrap().as_deref(), Some("-1"));
        assert!(memory_and_swap(Some(100), Some(50)).unwrap_err().first_hint().unwrap().contains("sum"));
    }

    #[test]
    fn io_weights() {
        assert_eq!((io_weight(10), io_weight(500), io_weight(1000)), (1, 4950, 10_000));
    }
}
