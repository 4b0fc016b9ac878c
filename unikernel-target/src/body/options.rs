//! The kernel command line: the server's directives, and the machine's own.
//!
//! ```text
//!   --local-memory 64mb --far-memory mem:512mb --ip 10.0.2.15/24 virtio_mmio.device=...
//!        engine's Config                        the network's      QEMU's: not ours
//! ```
//!
//! Refuses what it does not understand: one line, and the machine ends.

use crate::net::Address;
use crate::virtio::is_machine_word;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use engine::Config;
use engine::directive::{self, DirectiveError};

/// What the command line asks for.
pub struct Options {
    /// The store's.
    pub config: Config,
    /// The network's.
    pub address: Address,
}

/// Reads the command line.
///
/// # Errors
/// The first directive that cannot be taken, in one line.
pub fn parse(line: &str) -> Result<Options, String> {
    let line: Vec<&str> = line.split(' ').filter(|word| !is_machine_word(word)).collect();
    let words = directive::split(&line.join(" ")).map_err(|error| error.to_string())?;
    let mut config = Config::default();
    let (mut ip, mut gateway) = (None, None);
    for directive in directive::group(&words).map_err(|error| error.to_string())? {
        let own = match directive[0].as_str() {
            "ip" => &mut ip,
            "gateway" => &mut gateway,
            _ => {
                config.take(&directive).map_err(|error| error.to_string())?;
                continue;
            }
        };
        let [_, value] = directive.as_slice() else {
            return Err(DirectiveError::bad(&directive, "wrong number of arguments").to_string());
        };
        *own = Some(value.clone());
    }
    let address = Address::parse(ip.as_deref(), gateway.as_deref()).map_err(|error| error.to_string())?;
    Ok(Options { config, address })
}
