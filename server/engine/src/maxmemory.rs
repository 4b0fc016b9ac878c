//! The cap of the whole data set, near and far.
use crate::error::CommandError;
use crate::keyspace::KeySpace;
use crate::server::Server;

impl KeySpace {
    /// Makes room for a write, or refuses it.
    pub fn make_room(&mut self, _server: &mut Server) -> Result<(), CommandError> {
        Ok(())
    }
}
