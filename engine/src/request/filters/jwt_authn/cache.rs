//! Tokens that were verified, so that they need not be verified again.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::token::Token;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheLimits {
    pub(super) tokens: usize,
    /// The longest token that is kept, in bytes.
    pub(super) token_bytes: usize,
}

/// The tokens that a shard has verified with the keys of a provider, the least recently used dropped first.
#[derive(Debug)]
pub(super) struct TokenCache {
    limits: CacheLimits,
    /// Of the keys.
    version: u64,
    /// Each with when it was used last.
    tokens: HashMap<Rc<str>, (Rc<Token>, u64)>,
    /// In the order of use.
    order: BTreeMap<u64, Rc<str>>,
    uses: u64,
}

impl TokenCache {
    pub(super) fn new(limits: CacheLimits) -> Self {
        let (tokens, order) = (HashMap::new(), BTreeMap::new());
        Self { limits, version: 0, tokens, order, uses: 0 }
    }

    /// The token with this text, if these keys have verified it.
    pub(super) fn find(&mut self, text: &str, version: u64) -> Option<Rc<Token>> {
        self.enter(version);
        let (token, used) = self.tokens.get_mut(text)?;
        let text = self.order.remove(used)?;
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, text);
        Some(Rc::clone(token))
    }

    /// Keeps a token that these keys have verified.
    pub(super) fn keep(&mut self, text: &str, token: Rc<Token>, version: u64) {
        self.enter(version);
        if text.len() > self.limits.token_bytes || self.tokens.contains_key(text) {
            return;
        }
        if self.tokens.len() >= self.limits.tokens
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.tokens.remove(&oldest);
        }
        let text: Rc<str> = text.into();
        self.uses += 1;
        self.tokens.insert(Rc::clone(&text), (token, self.uses));
        self.order.insert(self.uses, text);
    }

    /// Drops a token.
    pub(super) fn forget(&mut self, text: &str) {
        if let Some((_, used)) = self.tokens.remove(text) {
            self.order.remove(&used);
        }
    }

    /// What other keys have verified counts no longer.
    fn enter(&mut self, version: u64) {
        if self.version != version {
            self.version = version;
            self.tokens.clear();
            self.order.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Rc<Token> {
        Rc::new(Token::parse("eyJhbGciOiJIUzI1NiJ9.e30.YWJj").unwrap())
    }

    #[test]
    fn the_least_recently_used_token_is_dropped() {
        let mut cache = TokenCache::new(CacheLimits { tokens: 2, token_bytes: 3 });
        cache.keep("a", token(), 1);
        cache.keep("b", token(), 1);
        assert!(cache.find("a", 1).is_some());
        cache.keep("c", token(), 1);
        assert!(cache.find("b", 1).is_none());
        assert!(cache.find("a", 1).is_some());
        assert!(cache.find("c", 1).is_some());
        cache.forget("a");
        assert!(cache.find("a", 1).is_none());
        cache.keep("long", token(), 1);
        assert!(cache.find("long", 1).is_none());
        assert_eq!((cache.tokens.len(), cache.order.len()), (1, 1));
    }

    #[test]
    fn other_keys_verify_again() {
        let mut cache = TokenCache::new(CacheLimits { tokens: 2, token_bytes: 3 });
        cache.keep("a", token(), 1);
        assert!(cache.find("a", 2).is_none());
        assert!(cache.find("a", 1).is_none());
    }
}
