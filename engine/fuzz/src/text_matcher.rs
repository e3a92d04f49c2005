//! Exact conditions on text. The others come with the compiler of the configuration, which is not here.

/// Stands for the engine's type of that name.
#[derive(Clone, Debug)]
pub enum TextMatcher {
    Exact(Literal),
}

/// A text.
#[derive(Clone, Debug)]
pub struct Literal {
    pub text: Box<[u8]>,
}

impl TextMatcher {
    pub fn matches(&self, text: &[u8]) -> bool {
        let Self::Exact(literal) = self;
        *literal.text == *text
    }
}
