//! `--ip` and `--gateway`: how the machine gets its address.
//!
//! Refuses names, and everything but IPv4.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

/// Where the address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Address {
    /// From the network: `--ip dhcp`, the default.
    #[default]
    Dhcp,
    /// `--ip 10.0.2.15/24 --gateway 10.0.2.2`.
    Static {
        /// The machine's own.
        own: Ipv4Cidr,
        /// The way to everybody who is not on the same network.
        gateway: Option<Ipv4Address>,
    },
}

/// What was typed is no address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Address {
    /// Reads the values of `--ip` and `--gateway`, as far as they were given.
    ///
    /// # Errors
    /// If one is no address, or a gateway is given where DHCP brings one.
    pub fn parse(ip: Option<&str>, gateway: Option<&str>) -> Result<Address, AddressError> {
        let error = |name: &str, typed: &str, why: &str| AddressError([name, typed, why].concat());
        let gateway = match gateway {
            Some(typed) => Some(
                Ipv4Address::from_str(typed)
                    .map_err(|_| error("bad directive 'gateway ", typed, "': no IPv4 address"))?,
            ),
            None => None,
        };
        match ip {
            None | Some("dhcp") if gateway.is_some() => {
                Err(AddressError("bad directive 'gateway': it needs an --ip".to_string()))
            }
            None | Some("dhcp") => Ok(Address::Dhcp),
            Some(typed) => {
                let own = Ipv4Cidr::from_str(typed).map_err(|_| {
                    error("bad directive 'ip ", typed, "': 'dhcp' or an address like 10.0.2.15/24")
                })?;
                Ok(Address::Static { own, gateway })
            }
        }
    }
}
