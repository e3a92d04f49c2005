//! URI templates: paths with `*`, `**` and variables, of which a segment of text may have one, and rewrites that use the variables.
//!
//! A template is compiled to a regular expression with one group per variable. What precedes its first
//! operator is plain text, by which the path index finds it.

use std::fmt;

use regex::bytes::Regex;

use crate::re2;
use crate::text_matcher::Literal;

/// A path with operators: `/a/*`, `/a/**`, `/{name}`, `/{name=b/*}`.
#[derive(Clone)]
pub struct Template {
    text: Box<str>,
    regex: Regex,
    /// What every path that matches begins with.
    literal: Literal,
}

/// A path made of text and of the variables of a template.
#[derive(Clone, Debug)]
pub struct TemplateRewrite(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<[u8]>),
    /// The group of a variable.
    Variable(usize),
}

/// What an operator or a variable stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operator {
    /// `*`: one segment, at least a byte of it.
    Segment,
    /// `**`: any number of bytes, slashes too.
    Rest,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parser = Parser::default();
        parser.template(text)?;
        let regex = re2::build(&format!(r"\A(?:{})\z", parser.regex))?;
        Ok(Self { text: text.into(), regex, literal: Literal::new(&parser.literal, false) })
    }

    /// Whether the path, without query, matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.regex.is_match(path)
    }

    /// What every path that matches begins with.
    pub(super) const fn literal(&self) -> &Literal {
        &self.literal
    }
}

impl TemplateRewrite {
    /// Parses a rewrite that uses the variables of `template`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str, template: &Template) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a rewrite begins with '/'".to_owned());
        }
        if text.contains("//") {
            return Err("a rewrite has no two slashes in a row".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, variable) = match rest.split_once('{') {
                Some((literal, variable)) => (literal, Some(variable)),
                None => (rest, None),
            };
            if !literal.bytes().all(|byte| byte == b'/' || is_literal(byte)) {
                return Err(format!("`{literal}` has a character that a path cannot have"));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(literal.as_bytes().into()));
            }
            let Some(variable) = variable else { break };
            let (name, behind) = variable.split_once('}').ok_or("a `{` without a `}`")?;
            let groups = template.regex.capture_names();
            let group = groups.into_iter().position(|group| group == Some(name));
            let group = group.ok_or_else(|| format!("the template has no variable `{name}`"))?;
            pieces.push(Piece::Variable(group));
            rest = behind;
        }
        Ok(Self(pieces))
    }

    /// Writes the rewritten path.
    pub(super) fn rewrite(&self, template: &Template, path: &[u8], out: &mut Vec<u8>) {
        let Some(captures) = template.regex.captures(path) else { return };
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Variable(group) => {
                    let group = captures.get(*group).map(|group| group.as_bytes());
                    out.extend_from_slice(group.unwrap_or_default());
                }
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    regex: String,
    /// The text up to the first operator.
    literal: String,
    has_operator: bool,
    /// A `**` can only be followed by text.
    has_rest: bool,
    variables: Vec<String>,
}

impl Parser {
    fn template(&mut self, text: &str) -> Result<(), String> {
        let Some(mut rest) = text.strip_prefix('/') else {
            return Err("a template begins with '/'".to_owned());
        };
        self.text("/");
        while !rest.is_empty() {
            rest = self.segment(rest)?;
            if let Some(behind) = rest.strip_prefix('/') {
                self.text("/");
                rest = behind;
            } else if !rest.is_empty() {
                // Text behind an operator ends the template.
                if rest.contains('/') {
                    return Err(
                        "text behind an operator must be the end of the template".to_owned()
                    );
                }
                self.plain(rest)?;
                rest = "";
            }
        }
        Ok(())
    }

    /// One segment; returns what follows it.
    fn segment<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        if let Some(behind) = self.operator_at(text)? {
            return Ok(behind);
        }
        let end = text.find('/').unwrap_or(text.len());
        if let Some(variable) = text.strip_prefix('{') {
            let (variable, behind) = variable.split_once('}').ok_or("a `{` without a `}`")?;
            self.variable(variable)?;
            return if self.has_rest { Ok(behind) } else { self.text_behind(behind) };
        }
        let (segment, behind) = text.split_at(end);
        let Some((before, variable)) = segment.split_once('{') else {
            self.plain(segment)?;
            return Ok(behind);
        };
        // Text and one variable.
        let (variable, after) = variable.split_once('}').ok_or("a `{` without a `}`")?;
        self.plain(before)?;
        self.variable(variable)?;
        self.text_behind(after)?;
        Ok(behind)
    }

    /// The text of a segment behind its variable, if there is any; returns what follows it.
    fn text_behind<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        let end = text.find('/').unwrap_or(text.len());
        let (plain, behind) = text.split_at(end);
        if !plain.is_empty() {
            self.plain(plain)?;
        }
        Ok(behind)
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        let (name, pattern) = text.split_once('=').map_or((text, None), |(n, p)| (n, Some(p)));
        self.name(name)?;
        self.has_operator = true;
        self.regex.push_str(&format!("(?P<{name}>"));
        match pattern {
            None => self.operator(Operator::Segment)?,
            Some("") => return Err(format!("the variable `{name}` has an empty pattern")),
            Some(pattern) => {
                for (i, part) in pattern.split('/').enumerate() {
                    if i > 0 {
                        self.text("/");
                    }
                    match self.operator_at(part)? {
                        Some("") => {}
                        Some(_) => {
                            let why = "within a variable, an operator is a whole segment";
                            return Err(why.to_owned());
                        }
                        None => self.plain(part)?,
                    }
                }
            }
        }
        self.regex.push(')');
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        let is_valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.len() <= NAME_LEN_MAX;
        if !is_valid {
            return Err(format!(
                "`{name}` is not the name of a variable: a letter, then letters, digits and '_', \
                 {NAME_LEN_MAX} in all"
            ));
        }
        if self.variables.iter().any(|known| known == name) {
            return Err(format!("the variable `{name}` is repeated"));
        }
        if self.variables.len() == VARIABLES_MAX {
            return Err(format!("a template has at most {VARIABLES_MAX} variables"));
        }
        self.variables.push(name.to_owned());
        Ok(())
    }

    /// The operator that the text begins with, if any; returns what follows it.
    fn operator_at<'a>(&mut self, text: &'a str) -> Result<Option<&'a str>, String> {
        let (operator, behind) = if let Some(behind) = text.strip_prefix("**") {
            (Operator::Rest, behind)
        } else if let Some(behind) = text.strip_prefix('*') {
            (Operator::Segment, behind)
        } else {
            return Ok(None);
        };
        self.operator(operator)?;
        Ok(Some(behind))
    }

    fn operator(&mut self, operator: Operator) -> Result<(), String> {
        if self.has_rest {
            return Err("no operator can follow `**`".to_owned());
        }
        self.has_operator = true;
        self.has_rest = operator == Operator::Rest;
        self.regex.push_str(match operator {
            Operator::Segment => r"[a-zA-Z0-9\-._~%!$&'()*+,;=:@]+",
            Operator::Rest => r"[a-zA-Z0-9\-._~%!$&'()*+,;=:@/]*",
        });
        Ok(())
    }

    /// Text of a segment.
    fn plain(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() || !text.bytes().all(is_literal) {
            return Err(format!("`{text}` is not a segment of a path"));
        }
        self.text(text);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.regex.push_str(&regex::escape(text));
        if !self.has_operator {
            self.literal.push_str(text);
        }
    }
}

//= rfc3986#section-3.3: what a segment may have
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@".contains(&byte)
}

//= envoy: extensions.path.match.uri_template.v3.UriTemplateMatchConfig.path_template
const VARIABLES_MAX: usize = 5;
const NAME_LEN_MAX: usize = 16;

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        Template::new(template).unwrap().matches(path.as_bytes())
    }

    fn rewritten(template: &str, rewrite: &str, path: &str) -> String {
        let template = Template::new(template).unwrap();
        let mut out = Vec::new();
        TemplateRewrite::new(rewrite, &template).unwrap().rewrite(
            &template,
            path.as_bytes(),
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_star_is_a_segment_and_two_are_the_rest() {
        for (template, path, expected) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/*/b", "/a/b", true),
            ("/**.m3u8", "/a/b.m3u8", true),
            ("/**.m3u8", "/a/b.ts", false),
            ("/a.b", "/axb", false),
            ("/a/{x}/c", "/a/b/c", true),
            ("/a/{x=b/*}/d", "/a/b/c/d", true),
            ("/a/{x=b/*}/d", "/a/x/c/d", false),
            ("/{x=**}", "/", true),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/a/*", "/a/b*=c", true),
            ("/a*", "/a*", true),
            ("/a*", "/ab", false),
            ("/*.*", "/a.*", true),
        ] {
            assert_eq!(matches(template, path), expected, "{template} {path}");
        }
    }

    /// As recorded from Envoy 1.40.0.
    #[test]
    fn a_segment_is_text_around_one_variable() {
        for (template, path, expected) in [
            ("/v-{ver}/x", "/v-1/x", true),
            ("/v-{ver}/x", "/v-1-2/x", true),
            ("/v-{ver}/x", "/v-/x", false),
            ("/x{a}", "/xq", true),
            ("/x{a}", "/x", false),
            ("/x{a}", "/xq/r", false),
            ("/x{a}y", "/xqyy", true),
            ("/x{a}y", "/xy", false),
            ("/{a}y/z", "/qy/z", true),
            ("/{a}y/z", "/q/z", false),
            ("/x{a=**}", "/x", true),
            ("/x{a=**}", "/xq/r/s", true),
            ("/x{a=b}y", "/xby", true),
            ("/x{a=b}y", "/xcy", false),
            ("/x{a}/{b=**}", "/xq/r/s", true),
            ("/api/F('{id}')", "/api/F('12')", true),
            ("/api/F('{id}')", "/api/F('')", false),
            ("/a{x}/b{y}/c", "/ax/by/c", true),
        ] {
            assert_eq!(matches(template, path), expected, "{template} {path}");
        }
    }

    #[test]
    fn what_envoy_does_not_accept_is_an_error() {
        for template in [
            "a",
            "/a//b",
            "/{}",
            "/{a",
            "/{1a}",
            "/{a=}",
            "/**/*",
            "/**/{a}",
            "/{a}/{a}",
            "/*a/b",
            "/a|b",
            "/{seventeen_letters}",
            "/{a}/{b}/{c}/{d}/{e}/{f}",
            "/a b",
            "/{a=*b}",
            "/{a}.{b}",
            "/x{a}-{b}",
            "/{a}y{b}z/c",
            "/x{a=b/*}y",
            "/x{a",
            "/xa}",
        ] {
            assert!(Template::new(template).is_err(), "{template}");
        }
        let template = Template::new("/{a}").unwrap();
        for rewrite in ["a", "/a//b", "/{b}", "/{a", "/a?b"] {
            assert!(TemplateRewrite::new(rewrite, &template).is_err(), "{rewrite}");
        }
    }

    #[test]
    fn a_rewrite_puts_the_variables_into_a_new_path() {
        let template = "/api/users/{id}/{path=v1/**}";
        assert_eq!(
            rewritten(template, "/users/{path}/{id}", "/api/users/7/v1/a/b"),
            "/users/v1/a/b/7"
        );
        assert_eq!(rewritten("/{a}-x", "/{a}{a}", "/b-x"), "/bb");
        assert_eq!(rewritten("/v-{a}/{b}", "/{b}/{a}", "/v-1/x"), "/x/1");
    }

    #[test]
    fn the_text_before_the_first_operator_is_known() {
        for (template, literal) in
            [("/a/b/*", "/a/b/"), ("/{x=a/*}", "/"), ("/v-{x}/y", "/v-"), ("/a", "/a")]
        {
            assert_eq!(&*Template::new(template).unwrap().literal.text, literal.as_bytes());
        }
    }
}
