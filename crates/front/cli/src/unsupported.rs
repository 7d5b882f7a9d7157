//! Docker's flags that tare does not have yet: refused by name, never ignored.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The unknown flag that an error is about.
pub(crate) fn flag_of(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => Some(flag.split('=').next().unwrap_or(flag).to_owned()),
        _ => None,
    }
}

/// What to say about a flag that docker has; nothing for one that nobody has.
pub(crate) fn sentence(flag: &str) -> Option<String> {
    let name = flag.trim_start_matches('-');
    if WINDOWS.contains(&name) {
        return Some(format!("{flag} is for Windows only"));
    }
    NOT_YET.contains(&flag).then(|| format!("{flag} is not supported yet"))
}

const WINDOWS: [&str; 5] = ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation"];

const NOT_YET: [&str; 47] = [
    "--attach",
    "-a",
    "--blkio-weight-device",
    "--cgroup-parent",
    "--checkpoint",
    "--checkpoint-dir",
    "--config",
    "--context",
    "--cpu-rt-period",
    "--cpu-rt-runtime",
    "--details",
    "--device-cgroup-rule",
    "--device-read-bps",
    "--device-read-iops",
    "--device-write-bps",
    "--device-write-iops",
    "--disable-content-trust",
    "--env-host",
    "--gidmap",
    "--gpus",
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-interval",
    "--health-start-period",
    "--health-timeout",
    "--host",
    "--kernel-memory",
    "--log-driver",
    "--log-opt",
    "--no-healthcheck",
    "--platform",
    "--pod",
    "--restart",
    "--runtime",
    "--secret",
    "--storage-opt",
    "--subgidname",
    "--subuidname",
    "--systemd",
    "--tls",
    "--tlsverify",
    "--uidmap",
    "--use-api-socket",
    "--volume-driver",
    "--volumes-from",
    "--rmi",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(line: &str) -> Option<String> {
        let error = crate::root::full().try_get_matches_from(line.split(' ')).unwrap_err();
        flag_of(&error).and_then(|f| sentence(&f))
    }

    #[test]
    fn flags_of_docker_are_refused_by_name() {
        assert_eq!(refuse("tare run --gpus all debian").unwrap(), "--gpus is not supported yet");
        assert_eq!(refuse("tare run --platform=x debian").unwrap(), "--platform is not supported yet");
        assert_eq!(refuse("tare run -a stdin debian").unwrap(), "-a is not supported yet");
        assert_eq!(refuse("tare run --isolation hyperv debian").unwrap(), "--isolation is for Windows only");
        assert_eq!(refuse("tare run --nonsense debian"), None);
    }

    #[test]
    fn no_flag_is_both_there_and_refused() {
        let run = crate::root::full();
        let run = run.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter_map(|a| a.get_long()) {
            assert_eq!(sentence(&format!("--{arg}")), None);
        }
    }
}
