//! The network: who has which address, who reaches whom, by which name and through which port.
//!
//! Everything happens in network namespaces of the tests' own: [`tare_tests::lan`] draws them.

mod addresses;
mod commands;
mod connect;
mod dns;
mod drivers;
mod explain;
mod faults;
mod firewall;
mod hairpin;
mod hostile;
mod isolation;
mod limits;
mod live;
mod mending;
mod publish;
mod rates;
mod scale;
mod settings;
