//! Devices of the host that containers have (networks with the driver `phys`): who has which, and how they come back.
//!
//! ```text
//! <run>/devices/NAME.json   {"container": id, "interface": "eth0", "device": {everything to be given back}}
//!                           written before the device is moved, removed when it is what it was
//! <run>/devices/lock        held by whoever lends or takes back
//! ```
//!
//! At a container's end its supervisor, which holds the network namespace, moves the device back. When nobody lives to do
//! that, the kernel returns it as the namespace ends, under whatever name it had inside and bare; the next command that
//! looks at containers finds the entry, and the device, and makes it what it was. An entry whose device is nowhere to be
//! found stays: some other namespace has it, and it may come back yet.

use crate::record::{Durable, write_json};
use crate::{Engine, record};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tare_model::{Context, Error, Kind, Result};
use tare_network::{EndpointKind, EndpointPlan, Host, LentDevice, Returned};

/// How long the kernel may take to return a device once the namespace's last process is gone.
const PATIENCE: Duration = Duration::from_secs(2);
const LOCK: &str = "lock";

/// A device and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Loan {
    /// The container's id.
    container: String,
    /// What it was called there at first.
    interface: String,
    device: LentDevice,
}

impl Engine {
    /// For a network with the driver `phys`: reads what its device is, and writes it down. To be done right before the
    /// endpoint is connected. Other plans are left as they are.
    ///
    /// # Errors
    /// `Kind::NotFound` without the device, `Kind::InUse` if a container has it or something stands on it.
    pub(crate) fn lend(&self, container: &str, plan: &mut EndpointPlan) -> Result<()> {
        let EndpointKind::Phys { device } = &plan.kind else { return Ok(()) };
        let _lock = self.loans_lock(Making::Make)?;
        let mut host = Host::open()?;
        if let Some(loan) = self.loan(device) {
            if self.dirs(&loan.container).is_alive()? {
                return Err(Error::new(Kind::InUse, "give device to container", device).because(format!(
                    "container {} has it",
                    self.store.container(&loan.container).map_or(loan.container, |row| row.name)
                )));
            }
            // Left by one that was killed: it is wanted as it was.
            let settled = self.settle(&mut host, &loan, None, PATIENCE);
            settled.or_else(|e| if self.loan(device).is_some() { Err(e) } else { Ok(()) })?;
        }
        let lent = host.lend(device)?;
        let loan = Loan { container: container.to_owned(), interface: plan.interface.clone(), device: lent.clone() };
        write_json(&self.loans_dir(), &format!("{device}.json"), &loan, Durable::No)?;
        plan.lent = Some(lent);
        Ok(())
    }

    /// Takes back every device that a container has. `namespace`: its network namespace, if somebody still holds it; all its
    /// processes must be gone otherwise. Goes on past failures and returns them; what failed is tried again by
    /// [`Engine::sweep_loans`].
    pub(crate) fn take_devices_back(&self, container: &str, namespace: Option<BorrowedFd<'_>>) -> Vec<Error> {
        let of = |loan: &Loan| loan.container == container;
        self.take_back(of, namespace, PATIENCE).unwrap_or_else(|e| vec![e])
    }

    /// Takes back one device of a container that goes on running.
    ///
    /// # Errors
    /// As [`Host::give_back`].
    pub(crate) fn take_device_back(
        &self,
        container: &str,
        device: Option<&LentDevice>,
        namespace: BorrowedFd<'_>,
    ) -> Result<()> {
        let Some(device) = device else { return Ok(()) };
        let this = |loan: &Loan| loan.container == container && loan.device.name == device.name;
        let failures = self.take_back(this, Some(namespace), Duration::ZERO)?;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Makes those devices what they were that the kernel returned after everybody was killed.
    pub(crate) fn sweep_loans(&self) {
        let lost = |loan: &Loan| matches!(self.dirs(&loan.container).is_alive(), Ok(false));
        // Who is at it holds the lock; and what is not there yet will be there at the next command.
        let _ = self.take_back(lost, None, Duration::ZERO);
    }

    fn take_back(
        &self,
        which: impl Fn(&Loan) -> bool,
        namespace: Option<BorrowedFd<'_>>,
        patience: Duration,
    ) -> Result<Vec<Error>> {
        // Without the lock, as nearly always there is nothing.
        if !self.loans().iter().any(&which) {
            return Ok(Vec::new());
        }
        let Some(_lock) = self.loans_lock(Making::Leave)? else { return Ok(Vec::new()) };
        let mut host = Host::open()?;
        let loans = self.loans();
        let results = loans.iter().filter(|loan| which(loan)).map(|l| self.settle(&mut host, l, namespace, patience));
        Ok(results.filter_map(Result::err).collect())
    }

    /// Makes one device what it was, and removes its entry. A name that another device has got meanwhile is left to that one.
    fn settle(
        &self,
        host: &mut Host,
        loan: &Loan,
        namespace: Option<BorrowedFd<'_>>,
        patience: Duration,
    ) -> Result<()> {
        // The kernel keeps no virtual device: such a one need not be waited for.
        let patience = if loan.device.is_physical() { patience } else { Duration::ZERO };
        // The status knows what it is inside: that was not known when this was written.
        let status = self.dirs(&loan.container).status().ok().flatten().unwrap_or_default();
        let connected = status.endpoints.into_iter().filter_map(|e| e.lent).find(|lent| lent.name == loan.device.name);
        let device = connected.as_ref().unwrap_or(&loan.device);
        let result = host.give_back(device, &loan.interface, namespace, patience);
        let result = match result {
            Err(e) if e.kind() == Kind::NotFound && !loan.device.is_physical() => {
                Err(e.hint("a virtual device ends with the network namespace that it is in: make it anew"))
            }
            // What could not be restored now cannot be at the next command either.
            Err(e) if e.kind() != Kind::NotFound => Err(e),
            Err(e) => return Err(e),
            Ok(Returned::Whole | Returned::Renamed(_)) => Ok(()),
        };
        let path = self.loans_dir().join(format!("{}.json", loan.device.name));
        std::fs::remove_file(&path).during("remove", path.display())?;
        result
    }

    fn loans_dir(&self) -> PathBuf {
        self.config.run.join("devices")
    }

    fn loans_lock(&self, making: Making) -> Result<Option<OwnedFd>> {
        let dir = self.loans_dir();
        if making == Making::Make {
            record::make_private(&self.config.run)?;
            record::make_private(&dir)?;
        }
        let path = dir.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.map_err(|e| Error::io("open", path.display(), e))?,
        };
        rustix::fs::flock(&fd, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", path.display(), e))?;
        Ok(Some(fd))
    }

    fn loan(&self, device: &str) -> Option<Loan> {
        let text = std::fs::read(self.loans_dir().join(format!("{device}.json"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// All entries. One that cannot be read is none.
    fn loans(&self) -> Vec<Loan> {
        let entries = std::fs::read_dir(self.loans_dir()).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        names.filter_map(|name| self.loan(name.strip_suffix(".json")?)).collect()
    }
}

/// Whether the directory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    Make,
    Leave,
}

#[cfg(test)]
mod tests;
