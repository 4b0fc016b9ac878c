//! Which device, port and GID to use: what the user says, or the one that belongs to an address of this machine.
//!
//! ```text
//!   /sys/class/infiniband/DEVICE/ports/PORT/gids/INDEX         fe80:..., or ::ffff:a.b.c.d
//!                                          gid_attrs/types/INDEX    "RoCE v2", "IB/RoCE v1"
//!
//!   gid=, device= ─► the GID of the address ─► RoCE v2 over IPv4 ─► RoCE v2 ─► InfiniBand
//! ```
//!
//! Refuses a port that is down, and RoCE v1 unless it is asked for: routers and most switches do not carry it.

use super::verbs::{Device, Limits, PortState, device_names};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// A GID: an address of a port.
pub type Gid = [u8; 16];

/// The GID that a user asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GidChoice {
    /// Its place in the port's table.
    Index(u8),
    /// The address that it is made of.
    Address(IpAddr),
}

impl FromStr for GidChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<GidChoice, String> {
        let index = text.parse().ok().map(GidChoice::Index);
        let choice = index.or_else(|| text.parse().ok().map(GidChoice::Address));
        choice.ok_or_else(|| format!("'{text}' is neither a GID's index nor an IP address"))
    }
}

impl fmt::Display for GidChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GidChoice::Index(index) => index.fmt(f),
            GidChoice::Address(address) => address.fmt(f),
        }
    }
}

/// What a user says about the device; nothing, if there is only one that fits.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PortChoice {
    /// The device's name, as in `rdma link`.
    pub device: Option<String>,
    /// The GID.
    pub gid: Option<GidChoice>,
}

/// An open device and what of it is used.
pub struct Port {
    /// The device.
    pub device: Arc<Device>,
    /// Its port, from 1 on.
    pub number: u8,
    /// The GID's place in the port's table.
    pub gid_index: u8,
    /// The GID.
    pub gid: Gid,
    /// How the port is.
    pub state: PortState,
    /// What the device can do.
    pub limits: Limits,
}

/// A GID of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundGid {
    /// The device that has it.
    pub device: String,
    /// The port that has it.
    pub port: u8,
    /// Its place in the port's table.
    pub index: u8,
    /// The GID.
    pub gid: Gid,
    /// What is spoken with it.
    pub kind: GidKind,
}

/// What is spoken with a GID, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GidKind {
    /// RoCE v2 over IPv4.
    RoceV2Ipv4,
    /// RoCE v2 over IPv6.
    RoceV2Ipv6,
    /// InfiniBand.
    InfiniBand,
    /// RoCE v1, which no router carries.
    RoceV1,
}

impl fmt::Display for GidKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GidKind::RoceV2Ipv4 => "RoCE v2 over IPv4",
            GidKind::RoceV2Ipv6 => "RoCE v2 over IPv6",
            GidKind::InfiniBand => "InfiniBand",
            GidKind::RoceV1 => "RoCE v1",
        })
    }
}

impl FoundGid {
    /// The address that the GID is made of.
    pub fn address(&self) -> IpAddr {
        let address = Ipv6Addr::from(self.gid);
        address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
    }

    fn fits(&self, choice: &PortChoice) -> bool {
        choice.device.as_ref().is_none_or(|device| *device == self.device)
            && match choice.gid {
                None => self.kind != GidKind::RoceV1,
                Some(GidChoice::Index(index)) => index == self.index,
                Some(GidChoice::Address(address)) => address == self.address(),
            }
    }
}

/// All GIDs of this machine's devices.
///
/// # Errors
/// One line, if there is no library or no device.
pub fn gids() -> io::Result<Vec<FoundGid>> {
    let mut found = Vec::new();
    for device in device_names()? {
        let ports = Path::new("/sys/class/infiniband").join(&device).join("ports");
        for port in numbers(&ports) {
            let folder = ports.join(port.to_string());
            let is_ethernet = read(folder.join("link_layer")).is_some_and(|layer| layer == "Ethernet");
            for index in numbers(&folder.join("gids")) {
                let gid = read(folder.join(format!("gids/{index}"))).and_then(|text| text.parse().ok());
                let kind = read(folder.join(format!("gid_attrs/types/{index}"))).unwrap_or_default();
                let Some(gid) = gid.filter(|gid: &Ipv6Addr| !gid.is_unspecified()) else { continue };
                let kind = match (is_ethernet, kind.as_str()) {
                    (false, _) => GidKind::InfiniBand,
                    (true, "RoCE v2") if gid.to_ipv4_mapped().is_some() => GidKind::RoceV2Ipv4,
                    (true, "RoCE v2") => GidKind::RoceV2Ipv6,
                    _ => GidKind::RoceV1,
                };
                found.push(FoundGid { device: device.clone(), port, index, gid: gid.octets(), kind });
            }
        }
    }
    Ok(found)
}

/// The entries of a folder that are numbers, in order.
fn numbers(folder: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u8> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn read(file: PathBuf) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

/// Opens what is chosen; where the choice leaves several, the one with the address `near` of this machine.
///
/// # Errors
/// One line, if nothing fits or the port is down.
pub fn open_port(choice: &PortChoice, near: Option<IpAddr>) -> io::Result<Port> {
    let all = gids()?;
    let Some(best) = best_of(&all, choice, near) else {
        let there: Vec<String> = all.iter().map(describe).collect();
        let there = if there.is_empty() { "none".into() } else { there.join(", ") };
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no RDMA GID fits; there is: {there}")));
    };
    let device = Device::open(&best.device)?;
    let (state, limits) = (device.port(best.port)?, device.limits()?);
    if !state.is_active {
        let why = format!("port {} of RDMA device '{}' is down", best.port, best.device);
        return Err(io::Error::new(io::ErrorKind::NetworkDown, why));
    }
    Ok(Port { device, number: best.port, gid_index: best.index, gid: best.gid, state, limits })
}

fn best_of<'g>(all: &'g [FoundGid], choice: &PortChoice, near: Option<IpAddr>) -> Option<&'g FoundGid> {
    let fitting = all.iter().filter(|gid| gid.fits(choice));
    fitting.min_by_key(|gid| (Some(gid.address()) != near, gid.kind))
}

/// A GID in words.
pub fn describe(gid: &FoundGid) -> String {
    let FoundGid { device, port, index, kind, .. } = gid;
    format!("{device} port {port} gid {index} = {} ({kind})", gid.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(device: &str, index: u8, gid: &str, kind: GidKind) -> FoundGid {
        let gid: Ipv6Addr = gid.parse().expect("it is an address");
        FoundGid { device: device.into(), port: 1, index, gid: gid.octets(), kind }
    }

    #[test]
    fn the_gid_of_the_address_wins_and_roce_v2_over_ipv4_without_one() {
        let all = [
            found("a", 0, "fe80::1", GidKind::RoceV1),
            found("a", 1, "fe80::1", GidKind::RoceV2Ipv6),
            found("a", 3, "::ffff:10.0.0.1", GidKind::RoceV2Ipv4),
            found("b", 3, "::ffff:10.0.1.1", GidKind::RoceV2Ipv4),
        ];
        let choose = |choice: &PortChoice, near: Option<&str>| {
            let near = near.map(|near| near.parse().expect("it is an address"));
            best_of(&all, choice, near).map(|gid| (gid.device.as_str(), gid.index))
        };
        let any = PortChoice::default();
        assert_eq!(choose(&any, None), Some(("a", 3)));
        assert_eq!(choose(&any, Some("127.0.0.1")), Some(("a", 3)));
        assert_eq!(choose(&any, Some("10.0.1.1")), Some(("b", 3)));
        let of = |device: Option<&str>, gid: Option<&str>| PortChoice {
            device: device.map(String::from),
            gid: gid.map(|gid| gid.parse().expect("it is a choice")),
        };
        assert_eq!(choose(&of(Some("b"), None), Some("10.0.0.1")), Some(("b", 3)));
        assert_eq!(choose(&of(None, Some("0")), None), Some(("a", 0)));
        assert_eq!(choose(&of(None, Some("10.0.1.1")), None), Some(("b", 3)));
        assert_eq!(choose(&of(None, Some("10.0.2.1")), None), None);
        assert_eq!(choose(&of(Some("c"), None), None), None);
        assert!("eth0".parse::<GidChoice>().is_err());
    }
}
