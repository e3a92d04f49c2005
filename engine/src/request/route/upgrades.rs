//! `upgrade_configs`: the protocols a request may upgrade to.

/// The listed protocols and whether each is allowed. This decides nothing about others.
#[derive(Clone, Debug, Default)]
pub struct Upgrades {
    listed: Vec<(Box<[u8]>, bool)>,
}

impl Upgrades {
    /// Lists a protocol. Returns false if it was already listed; case does not matter.
    #[must_use]
    pub fn list(&mut self, protocol: &str, allowed: bool) -> bool {
        let is_new = self.allow(protocol.as_bytes()).is_none();
        self.listed.push((protocol.as_bytes().into(), allowed));
        is_new
    }

    /// Whether the protocol is allowed; `None` if it is not listed. As in Envoy, it is compared
    /// with the whole value of `Upgrade`: a client that offers several protocols gets none.
    #[must_use]
    pub fn allow(&self, protocol: &[u8]) -> Option<bool> {
        let listed = self.listed.iter().find(|(known, _)| known.eq_ignore_ascii_case(protocol));
        listed.map(|(_, allowed)| *allowed)
    }
}
