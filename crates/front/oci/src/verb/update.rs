use crate::context::Context;
use clap::Args;
use std::path::PathBuf;
use tare_model::{Error, Kind, Result};

/// Change the limits of a container
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// File with the specification's resources object; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block devices, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Microseconds of a period
    #[arg(long, value_name = "N")]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds of processor time in a period; -1 is unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds of saved-up quota
    #[arg(long, value_name = "N")]
    pub(crate) cpu_burst: Option<u64>,
    /// Weight against others
    #[arg(long, value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// Microseconds of a real-time period
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Microseconds of real-time scheduling in a period
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Processors
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// 1: run only where nothing else wants to
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub(crate) cpu_idle: Option<i64>,
    /// Bytes of memory; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// Bytes of memory below which the group is spared
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    /// Bytes of memory and swap together; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Obsolete, no effect
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Obsolete, no effect
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// Number of tasks; 0 or -1 is unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Intel RDT: schema of the L3 cache
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) l3_cache_schema: Option<String>,
    /// Intel RDT: schema of the memory bandwidth
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(super) fn main(args: UpdateArgs, context: &Context) -> Result<u8> {
    let _ = (args, context);
    Err(Error::new(Kind::Unsupported, "update", ""))
}
