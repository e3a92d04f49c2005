//! Contexts as sessions see them: a configuration for rustls that was chosen. How it is chosen is not fuzzed.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

pub mod verify;

use super::certificate::Certificate as Shown;

pub mod server {
    //! Of a server.

    #[derive(Clone, Copy, Debug, Default)]
    pub struct Addresses;
}

/// The configuration for a connection of a client.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub config: Arc<ServerConfig>,
}

/// The configuration for a connection to an origin.
#[derive(Clone, Debug)]
pub struct Connect {
    pub config: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
    pub certificate: Option<Arc<Shown>>,
    pub resumed: Option<ResumedSession>,
}

/// No session is resumed.
#[derive(Clone, Debug)]
pub struct ResumedSession;
