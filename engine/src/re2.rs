//! Regular expressions in RE2's syntax, as Envoy reads them. This is the only user of the `regex`
//! crate, whose syntax differs: it reads some of RE2's differently, rejects some, and has more. So
//! an expression is translated before the crate sees it.
//!
//! Remaining differences: the size of an expression is not limited as in Envoy, and `\p{…}` and
//! classes with characters beyond ASCII match UTF-8 characters, where Envoy reads text as Latin-1.

use regex::bytes::{Regex, RegexBuilder};

/// Compiles an expression; it is not anchored.
///
/// # Errors
/// What is wrong with it, as text for the user.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    build(&translated(pattern)?)
}

/// Compiles what [`translated`] returned.
///
/// # Errors
/// What is wrong with it, as text for the user.
pub(crate) fn build(translated: &str) -> Result<Regex, String> {
    // Matches bytes by default: what must match characters is translated to `(?u:…)`.
    RegexBuilder::new(translated).unicode(false).build().map_err(|error| {
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// The expression in the syntax of the `regex` crate.
///
/// # Errors
/// What RE2 would reject, in its words.
pub(crate) fn translated(pattern: &str) -> Result<String, String> {
    let out = String::with_capacity(pattern.len());
    Translation { pattern, rest: pattern, open_groups: 0, unit: Unit::Byte, out }.all()
}

struct Translation<'a> {
    pattern: &'a str,
    /// The input that is still to be read.
    rest: &'a str,
    open_groups: usize,
    /// What the members of the current class are.
    unit: Unit,
    out: String,
}

/// What a class matches.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Unit {
    Byte,
    /// A UTF-8 character: the class has members of more than one byte.
    Character,
}

/// What precedes a repetition operator.
enum Before<'a> {
    Nothing,
    /// Another operator, which RE2 does not allow to be repeated.
    Operator(&'a str),
    Something,
}

/// What an escape or an item of a class matches.
enum Item {
    /// One character, and its translation.
    Character(u32, String),
    /// The translation of a class, valid alone and within another class.
    Class(String),
}

impl<'a> Translation<'a> {
    fn all(mut self) -> Result<String, String> {
        let mut before = Before::Nothing;
        loop {
            let start = self.rest;
            let Some(c) = self.next() else { break };
            if matches!(c, '*' | '+' | '?') || (c == '{' && self.counts()?) {
                // It may be lazy.
                self.eat("?");
                let operator = self.since(start);
                match before {
                    Before::Nothing => {
                        return Err(format!("no argument for repetition operator: {operator}"));
                    }
                    Before::Operator(other) => {
                        return Err(format!("bad repetition operator: {other}{operator}"));
                    }
                    Before::Something => {}
                }
                before = Before::Operator(operator);
                self.out.push_str(operator);
                continue;
            }
            before = if matches!(c, '(' | '|') { Before::Nothing } else { Before::Something };
            match c {
                '\\' => self.escape()?,
                '[' => self.class(start)?,
                '(' => self.group(start)?,
                ')' if self.open_groups == 0 => {
                    return Err(format!("unexpected ): {}", self.pattern));
                }
                ')' => {
                    self.open_groups -= 1;
                    self.out.push(c);
                }
                // A brace that does not begin a repetition.
                '{' => self.out.push_str(r"\{"),
                c => self.out.push(c),
            }
        }
        if self.open_groups > 0 {
            return Err(format!("missing ): {}", self.pattern));
        }
        Ok(self.out)
    }

    /// Whether the brace that was just read begins a repetition, as in `{2,3}`. Reads all of it.
    fn counts(&mut self) -> Result<bool, String> {
        let Some((counts, rest)) = self.rest.split_once('}') else { return Ok(false) };
        let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
        let Some(least) = count(least) else { return Ok(false) };
        let most = if most.is_empty() { Some(least) } else { count(most) };
        let Some(most) = most else { return Ok(false) };
        if most < least || most > REPETITIONS_MAX {
            return Err(format!("invalid repetition size: {{{counts}}}"));
        }
        self.rest = rest;
        Ok(true)
    }

    /// Reads an escape outside of a class, after the backslash.
    fn escape(&mut self) -> Result<(), String> {
        if self.eat("Q") {
            let (quoted, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
            self.out.push_str(&regex::escape(quoted));
            self.rest = rest;
        } else if let Some((_, translation)) =
            OUTSIDE_CLASSES.iter().find(|(name, _)| self.eat(name))
        {
            self.out.push_str(translation);
        } else {
            self.unit = Unit::Byte;
            let (Item::Character(_, translation) | Item::Class(translation)) = self.escaped()?;
            match self.unit {
                Unit::Byte => self.out.push_str(&translation),
                Unit::Character => self.out.push_str(&format!("(?u:{translation})")),
            }
        }
        Ok(())
    }

    /// Reads an escape that is also valid within a class, after the backslash.
    fn escaped(&mut self) -> Result<Item, String> {
        let start = self.rest;
        let Some(c) = self.next() else { return Err(r"trailing \".to_owned()) };
        let code = match c {
            'd' => return Ok(Item::Class("[0-9]".to_owned())),
            'D' => return Ok(Item::Class("[^0-9]".to_owned())),
            's' => return Ok(Item::Class(r"[\t\n\f\r ]".to_owned())),
            'S' => return Ok(Item::Class(r"[^\t\n\f\r ]".to_owned())),
            'w' => return Ok(Item::Class("[0-9A-Za-z_]".to_owned())),
            'W' => return Ok(Item::Class("[^0-9A-Za-z_]".to_owned())),
            'p' | 'P' => return self.property(start).map(Item::Class),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(start),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        // Latin-1 ends here.
        let code = code.filter(|code| *code <= 0xff);
        let code =
            code.ok_or_else(|| format!(r"invalid escape sequence: \{}", self.since(start)))?;
        Ok(Item::Character(code, latin1(code)))
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = if self.eat("{") {
            let (digits, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            digits
        } else {
            let digits = self.rest.get(..2)?;
            self.rest = self.rest.get(2..)?;
            digits
        };
        let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if are_digits { u32::from_str_radix(digits, 16).ok() } else { None }
    }

    /// `\0` and up to two more digits, or two to three digits: one alone would refer to a group.
    fn octal(&mut self, start: &'a str) -> Option<u32> {
        for _ in 0..2 {
            if self.rest.starts_with(|c| matches!(c, '0'..='7')) {
                self.next();
            }
        }
        let digits = self.since(start);
        let is_group = digits.len() == 1 && digits != "0";
        if is_group { None } else { u32::from_str_radix(digits, 8).ok() }
    }

    /// `\pL`, `\p{Greek}`, `\p{^L}`; `start` begins after the backslash.
    fn property(&mut self, start: &'a str) -> Result<String, String> {
        let wrong = || format!(r"invalid character class range: \{start}");
        let mut negated = start.starts_with('P');
        let mut name = self.rest;
        if self.eat("{") {
            let (braced, rest) = self.rest.split_once('}').ok_or_else(wrong)?;
            (name, self.rest) = (braced, rest);
            if let Some(other) = name.strip_prefix('^') {
                (name, negated) = (other, !negated);
            }
        } else {
            self.next().ok_or_else(wrong)?;
            name = name.get(..name.len() - self.rest.len()).unwrap_or_default();
        }
        self.unit = Unit::Character;
        Ok(format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// Reads a class, after the `[`; `start` begins with it.
    fn class(&mut self, start: &str) -> Result<(), String> {
        let at = self.out.len();
        self.unit = Unit::Byte;
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        // As the first member, a closing bracket is literal.
        while is_first || !self.eat("]") {
            is_first = false;
            let from = self.rest;
            if self.posix()? {
                continue;
            }
            let item = self.member(start)?;
            let (Item::Character(_, translation) | Item::Class(translation)) = &item;
            self.out.push_str(translation);
            let Item::Character(low, _) = item else { continue };
            if self.rest.starts_with("-]") || !self.eat("-") {
                continue;
            }
            match self.member(start)? {
                Item::Character(high, translation) if low <= high => {
                    self.out.push('-');
                    self.out.push_str(&translation);
                }
                _ => return Err(format!("invalid character class range: {}", self.since(from))),
            }
        }
        self.out.push(']');
        if self.unit == Unit::Character {
            self.out.insert_str(at, "(?u:");
            self.out.push(')');
        }
        Ok(())
    }

    /// One end of a range in a class, or a class within it.
    fn member(&mut self, class: &str) -> Result<Item, String> {
        match self.next() {
            None => Err(format!("missing ]: {class}")),
            Some('\\') => self.escaped(),
            Some(c) => {
                if !c.is_ascii() {
                    self.unit = Unit::Character;
                }
                Ok(Item::Character(u32::from(c), regex::escape(c.encode_utf8(&mut [0; 4]))))
            }
        }
    }

    /// Whether a POSIX class such as `[:alpha:]` follows. Reads it.
    fn posix(&mut self) -> Result<bool, String> {
        let start = self.rest;
        let named = start.strip_prefix("[:").and_then(|named| named.split_once(":]"));
        let Some((name, rest)) = named else { return Ok(false) };
        self.rest = rest;
        if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class range: {}", self.since(start)));
        }
        self.out.push_str(self.since(start));
        Ok(true)
    }

    /// Reads the beginning of a group, after the `(`; `start` begins with it.
    fn group(&mut self, start: &'a str) -> Result<(), String> {
        self.out.push('(');
        self.open_groups += 1;
        if self.eat("?P<") || self.eat("?<") {
            // Group names are not used, and RE2 allows duplicates: the name is dropped.
            let (name, rest) = self.rest.split_once('>').unwrap_or(("", ""));
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(is_word) {
                return Err(format!("invalid named capture group: {start}"));
            }
            self.rest = rest;
        } else if let Some(flags) = self.rest.strip_prefix('?') {
            let end = flags.find([':', ')']).unwrap_or(flags.len());
            let (flags, rest) = flags.split_at(end);
            if rest.is_empty() || flags.contains(|flag| !"imsU-".contains(flag)) {
                return Err(format!("invalid perl operator: (?{flags}"));
            }
            self.out.push('?');
            self.out.push_str(&each_once(flags));
            if self.out.ends_with('?') && rest.starts_with(')') {
                // It sets no flags: an empty group.
                self.out.push(':');
            }
            // A colon is copied with the group; a parenthesis closes it as usual.
            self.rest = rest;
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let c = rest.next();
        self.rest = rest.as_str();
        c
    }

    /// Whether `text` follows. Reads it.
    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// What was read since `rest` was `start`.
    fn since(&self, start: &'a str) -> &'a str {
        start.get(..start.len() - self.rest.len()).unwrap_or_default()
    }
}

/// Flags as the `regex` crate needs them: each once, on or off. In RE2 the last one wins.
fn each_once(flags: &str) -> String {
    let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
    let off: String = "imsU".chars().filter(|&flag| off.contains(flag)).collect();
    let on: String =
        "imsU".chars().filter(|&flag| on.contains(flag) && !off.contains(flag)).collect();
    let dash = if off.is_empty() { "" } else { "-" };
    format!("{on}{dash}{off}")
}

/// A number of repetitions.
fn count(digits: &str) -> Option<u32> {
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_padded || !are_digits { None } else { digits.parse().ok() }
}

/// The character with this Latin-1 code.
fn latin1(code: u32) -> String {
    match u8::try_from(code) {
        Ok(byte) if byte.is_ascii() => regex::escape(char::from(byte).encode_utf8(&mut [0; 4])),
        _ => format!(r"\x{code:02x}"),
    }
}

/// Escapes that are not allowed in a class, and their translations.
const OUTSIDE_CLASSES: [(&str, &str); 5] =
    [("A", r"\A"), ("B", r"(?-u:\B)"), ("C", "(?s-u:.)"), ("b", r"(?-u:\b)"), ("z", r"\z")];

const REPETITIONS_MAX: u32 = 1000;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Envoy 1.40.0 accepts all of these.
    #[test]
    fn an_expression_is_translated() {
        for (pattern, translation) in [
            ("", ""),
            (r"/v1/(a|b)[^/]+/.*$", r"/v1/(a|b)[^/]+/.*$"),
            (r"^a+?b??c{2}?d{1,}e{0,3}$", r"^a+?b??c{2}?d{1,}e{0,3}$"),
            (r"\Qa.b\E+c", r"a\.b+c"),
            (r"\Q*", r"\*"),
            (r"\Ca\<b\>\-\_", r"(?s-u:.)a<b>\-_"),
            (r"\Aa\b\B\z", r"\Aa(?-u:\b)(?-u:\B)\z"),
            (r"\b{start}", r"(?-u:\b)\{start}"),
            ("a{a{}a{,3}a{1a{x}a{ 1}a{08}", r"a\{a\{}a\{,3}a\{1a\{x}a\{ 1}a\{08}"),
            (r"\0\08\123\x41\x{42}\xe9\a\v", "\0\08SAB\\xe9\u{7}\u{b}"),
            (r"\d\D\w\W", "[0-9][^0-9][0-9A-Za-z_][^0-9A-Za-z_]"),
            (r"\pL\PN\p{^L}", r"(?u:\p{L})(?u:\P{N})(?u:\P{L})"),
            (r"\P{^Greek}\xe9[\pL\d]", r"(?u:\p{Greek})\xe9(?u:[\p{L}[0-9]])"),
            ("(?P<a>x)(?P<a>y)(?<1>z)", "(x)(y)(z)"),
            ("(?i)a(?s-m:b)(?:c)", "(?i)a(?s-m:b)(?:c)"),
            ("(?)(?sii)(?i-i:a)(?m-s)", "(?:)(?is)(?-i:a)(?m-s)"),
            ("[]a][^]a][a-]", r"[\]a][^\]a][a\-]"),
            ("[[]a][[a]]", r"[\[]a][\[a]]"),
            (r"[a&&b][a~~b][+--]", r"[a\&\&b][a\~\~b][\+-\-]"),
            (r"[\d-z\]\n]", "[[0-9]\\-z\\]\n]"),
            ("[[:^alpha:][:word:]x]", "[[:^alpha:][:word:]x]"),
            (r"[a-c\x41-\x5a]", "[a-cA-Z]"),
            ("é[é]", "é(?u:[é])"),
        ] {
            assert_eq!(translated(pattern).as_deref(), Ok(translation), "{pattern}");
            assert!(compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn what_re2_rejects_is_rejected_with_its_message() {
        for (pattern, error) in [
            ("*", "no argument for repetition operator: *"),
            ("a|+?", "no argument for repetition operator: +?"),
            ("a++", "bad repetition operator: ++"),
            ("a{2}{3}", "bad repetition operator: {2}{3}"),
            ("a???", "bad repetition operator: ???"),
            ("a{2,1}", "invalid repetition size: {2,1}"),
            ("a{1001}", "invalid repetition size: {1001}"),
            ("a)|(b", "unexpected ): a)|(b"),
            ("(a", "missing ): (a"),
            ("[a", "missing ]: [a"),
            (r"[\]", r"missing ]: [\]"),
            (r"a\", r"trailing \"),
            (r"\u0041", r"invalid escape sequence: \u"),
            (r"\1", r"invalid escape sequence: \1"),
            (r"\400", r"invalid escape sequence: \400"),
            (r"\x{100}", r"invalid escape sequence: \x{100}"),
            (r"\x4", r"invalid escape sequence: \x"),
            (r"[\b]", r"invalid escape sequence: \b"),
            ("[a--b]", "invalid character class range: a--"),
            (r"[a-\d]", r"invalid character class range: a-\d"),
            ("[[:foo:]]", "invalid character class range: [:foo:]"),
            ("(?x)a", "invalid perl operator: (?x"),
            ("(?u:a)", "invalid perl operator: (?u"),
            ("(?=a)", "invalid perl operator: (?=a"),
            ("(?P=a)", "invalid perl operator: (?P=a"),
            ("(?P<>x)", "invalid named capture group: (?P<>x)"),
        ] {
            assert_eq!(translated(pattern), Err(error.to_owned()), "{pattern}");
        }
    }

    #[test]
    fn operators_in_a_class_are_literal() {
        let matches = |pattern, text: &str| compile(pattern).unwrap().is_match(text.as_bytes());
        assert!(matches("^[a&&b]$", "&") && matches("^[a&&b]$", "a"));
        assert!(matches("^[[a]]$", "[]") && !matches("^[[a]]$", "a"));
        assert!(!matches(r"^\s$", "\u{b}"));
    }

    #[test]
    fn a_character_class_does_not_make_the_other_items_match_characters() {
        let matches = |pattern, text: &[u8]| compile(pattern).unwrap().is_match(text);
        for byte in
            [r"^\xe9$|\p{Greek}", r"^[\x80-\xff]$|\p{Greek}", r"^[^a]$|\p{Greek}", "^.$|[é]"]
        {
            assert!(matches(byte, b"\xe9"), "{byte}");
        }
        assert!(matches(r"^\p{Greek}+$", "αβ".as_bytes()) && matches("^[éa]+$", "éa".as_bytes()));
        assert!(matches("^[é].*$", b"\xc3\xa9a\xff") && matches("^é+$", "éé".as_bytes()));
    }
}
