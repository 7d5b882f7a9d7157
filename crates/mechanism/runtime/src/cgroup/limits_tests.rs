//! Both tables against the values of whole documents.

use super::super::layout::tests::{v1, v2};
use super::*;
use tare_model::runtime_spec::*;

fn full() -> LinuxResources {
    let throttle = |rate| vec![LinuxThrottleDevice { major: 8, minor: 16, rate }];
    LinuxResources {
        cpu: Some(LinuxCpu {
            shares: Some(1024),
            quota: Some(50_000),
            period: Some(100_000),
            burst: Some(1000),
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
            idle: Some(0),
            ..LinuxCpu::default()
        }),
        memory: Some(LinuxMemory {
            limit: Some(1000),
            swap: Some(3000),
            reservation: Some(500),
            ..LinuxMemory::default()
        }),
        pids: Some(LinuxPids { limit: Some(-1) }),
        block_io: Some(LinuxBlockIo {
            weight: Some(500),
            throttle_read_bps_device: throttle(1),
            throttle_write_iops_device: throttle(0),
            ..LinuxBlockIo::default()
        }),
        ..LinuxResources::default()
    }
}

fn written(layout: &Layout, r: &LinuxResources) -> Vec<String> {
    writes(layout, r, Weights::Proportional).unwrap().into_iter().map(|w| format!("{}={}", w.file, w.value)).collect()
}

#[test]
fn v1_files() {
    assert_eq!(
        written(&v1(), &full()),
        [
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "cpu.shares=1024",
            "cpu.idle=0",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=1000",
            "memory.limit_in_bytes=1000",
            "memory.memsw.limit_in_bytes=3000",
            "memory.soft_limit_in_bytes=500",
            "pids.max=max",
            "blkio.weight=500",
            "blkio.throttle.read_bps_device=8:16 1",
            "blkio.throttle.write_iops_device=8:16 0",
        ]
    );
}

#[test]
fn v2_files() {
    assert_eq!(
        written(&v2("cpuset cpu io memory pids"), &full()),
        [
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "cpu.weight=100",
            "cpu.idle=0",
            "cpu.max=50000 100000",
            "cpu.max.burst=1000",
            "memory.max=1000",
            "memory.swap.max=2000",
            "memory.low=500",
            "pids.max=max",
            "io.bfq.weight=500",
            "io.max=8:16 rbps=1",
            "io.max=8:16 wiops=max",
        ]
    );
    let w = writes(&v2("io cpu cpuset memory pids"), &full(), Weights::Proportional).unwrap();
    assert_eq!(w.iter().find_map(|w| w.fallback.clone()), Some(("io.weight".into(), "default 4950".into())));
}

#[test]
fn every_limit_stands_in_both_tables() {
    // v2 has period and quota in one file.
    let names =
        |t: &[Row]| t.iter().map(|r| r.limit).filter(|&l| l != "cpu.period").collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(V1), names(V2));
}

#[test]
fn v1_only_limits_are_refused_on_v2() {
    let all = v2("cpuset cpu io memory pids hugetlb rdma");
    let cases = [
        (
            "memory.swappiness",
            LinuxResources {
                memory: Some(LinuxMemory { swappiness: Some(1), ..Default::default() }),
                ..Default::default()
            },
        ),
        (
            "memory.disableOOMKiller",
            LinuxResources {
                memory: Some(LinuxMemory { disable_oomkiller: Some(true), ..Default::default() }),
                ..Default::default()
            },
        ),
        (
            "cpu.realtimeRuntime",
            LinuxResources {
                cpu: Some(LinuxCpu { realtime_runtime: Some(1), ..Default::default() }),
                ..Default::default()
            },
        ),
        (
            "network.classID",
            LinuxResources {
                network: Some(LinuxNetwork { class_id: Some(1), ..Default::default() }),
                ..Default::default()
            },
        ),
    ];
    for (name, r) in cases {
        let e = writes(&all, &r, Weights::Proportional).unwrap_err();
        assert_eq!((e.kind(), e.object()), (Kind::Unsupported, name));
        assert!(e.to_string().contains("no such limit on this host"), "{e}");
    }
    // Said but not asked for: what docker's documents contain anyway.
    let off = LinuxMemory { disable_oomkiller: Some(false), kernel: Some(0), ..Default::default() };
    assert_eq!(written(&all, &LinuxResources { memory: Some(off), ..Default::default() }), [""; 0]);
}

#[test]
fn pages_networks_rdma_and_unified() {
    let r = LinuxResources {
        hugepage_limits: vec![LinuxHugepageLimit { page_size: "2MB".into(), limit: 4096 }],
        network: Some(LinuxNetwork {
            class_id: Some(0x10_0001),
            priorities: vec![LinuxInterfacePriority { name: "eth0".into(), priority: 5 }],
        }),
        ..LinuxResources::default()
    };
    assert_eq!(
        written(&v1(), &r),
        [
            "hugetlb.2MB.limit_in_bytes=4096",
            "hugetlb.2MB.rsvd.limit_in_bytes=4096",
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=eth0 5"
        ]
    );
    let mut r = LinuxResources::default();
    r.rdma.insert("mlx5_1".into(), LinuxRdma { hca_handles: Some(3), hca_objects: None });
    r.unified.insert("memory.high".into(), "1000".into());
    assert_eq!(written(&v2("rdma memory"), &r), ["rdma.max=mlx5_1 hca_handle=3", "memory.high=1000"]);
    assert!(writes(&v2("rdma"), &r, Weights::Proportional).unwrap_err().to_string().contains("memory"));
    for bad in ["memory/high", "high"] {
        let mut r = LinuxResources::default();
        r.unified.insert(bad.into(), "1".into());
        assert_eq!(writes(&v2("memory"), &r, Weights::Proportional).unwrap_err().kind(), Kind::Invalid);
    }
    r = LinuxResources {
        hugepage_limits: vec![LinuxHugepageLimit { page_size: "../x".into(), limit: 1 }],
        ..Default::default()
    };
    assert_eq!(writes(&v1(), &r, Weights::Proportional).unwrap_err().kind(), Kind::Invalid);
}
