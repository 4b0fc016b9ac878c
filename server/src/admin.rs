//! Far memory that is added and removed while the server runs.
//!
//! Refuses to wait for a node longer than a quarter of a second: FARMEM ADD holds everybody up until the node has been
//! reached, or has not, and its client is told which.

use crate::body::Body;
use crate::driver;
use crate::watch::watch;
use engine::FarAdmin;
use farmem::PageNo;
use farmem_link::{FarUri, SharedLink};
use std::rc::{Rc, Weak};
use tokio::io::Interest;

/// What the engine asks about links.
pub struct Admin {
    link: SharedLink,
    /// As configured; it stays the same while the server runs.
    pager: String,
    body: Weak<Body>,
}

impl Admin {
    /// For the links of a body.
    pub fn new(link: SharedLink, pager: String, body: &Rc<Body>) -> Admin {
        Admin { link, pager, body: Rc::downgrade(body) }
    }

    /// Lets the link that was added last wake the driver.
    fn watch_newest(&self) -> Result<(), String> {
        let set = self.link.set();
        let (Some(event), Some(body)) = (set.newest_event_fd(), self.body.upgrade()) else { return Ok(()) };
        let event = event.try_clone_to_owned().and_then(|event| watch(event, Interest::READABLE));
        let event = event.map_err(|error| format!("cannot watch it: {error}"))?;
        tokio::task::spawn_local(driver::wake_by(event, body));
        Ok(())
    }
}

/// Whether a far memory can be used under a pager, at the start or later.
///
/// # Errors
/// Why not, in one line.
pub fn goes_with(pager: &str, uri: &FarUri) -> Result<(), String> {
    match uri {
        FarUri::Rdma(_) if pager == "uffd" => {
            let why = "pages are moved under a device that knows frames by their memory";
            Err(format!("--pager uffd does not go with rdma: {why}"))
        }
        _ => Ok(()),
    }
}

fn parse(uri: &str) -> Result<FarUri, String> {
    uri.parse().map_err(|error: farmem_link::UriError| error.to_string())
}

impl FarAdmin for Admin {
    fn add(&mut self, uri: &str) -> Result<(), String> {
        let uri = parse(uri)?;
        goes_with(&self.pager, &uri)?;
        self.link.set_mut().add(&uri).map_err(|error| error.to_string())?;
        self.watch_newest()
    }

    fn remove(&mut self, uri: &str) -> Result<(), String> {
        self.link.set_mut().remove(&parse(uri)?).map_err(|error| error.to_string())
    }

    fn is_lost(&self, page: PageNo) -> bool {
        self.link.set().is_lost(page)
    }

    fn lost_pages(&self) -> u64 {
        self.link.set().lost_pages()
    }
}
