//! Formats problems for people: the line, a caret under the value, the path, a hint.

use std::collections::HashMap;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::layout::{Found, Layout};
use crate::path::Segment;
use crate::problems::{Problem, Related, Severity, Spot};
use crate::source::Document;
use crate::{Path, Problems, Source};

/// All problems as text without colours, in the order of their lines.
pub fn render(problems: &Problems, source: &Source) -> String {
    render_with(problems, source, &Renderer::plain())
}

/// All problems as text with colours, for a terminal.
pub fn render_styled(problems: &Problems, source: &Source) -> String {
    render_with(problems, source, &Renderer::styled())
}

/// All problems as one line each, without the note about what was not checked, for a log:
/// `FILE:LINE:COLUMN: FIELD: MESSAGE; HELP`. What is not known is left out.
pub fn render_lines(problems: &Problems, source: &Source) -> Vec<(Severity, String)> {
    let texts = Text::all(source, problems);
    let line = |(place, problem): (Option<Place>, &Problem)| {
        (problem.severity, one_line(problem, place.as_ref(), &texts))
    };
    located(problems, &texts).into_iter().map(line).collect()
}

/// Finds the lines of values.
#[expect(missing_debug_implementations, reason = "it has the texts")]
pub struct Locator<'s> {
    texts: Vec<Text<'s>>,
}

impl<'s> Locator<'s> {
    /// For a source without errors.
    pub fn new(source: &'s Source) -> Self {
        Self { texts: Text::all(source, &Problems::default()) }
    }

    /// Where the value at `path` is: `envoy.yaml:12`.
    pub fn line(&self, path: &Path) -> Option<String> {
        let place = Lookup { path, spot: &Spot::Value, document: None }.locate(&self.texts)?;
        let text = self.texts.get(place.text)?;
        Some(format!("{}:{}", text.document.name, place.line))
    }
}

fn render_with(problems: &Problems, source: &Source, renderer: &Renderer) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let texts = Text::all(source, problems);
    let mut reports: Vec<_> = located(problems, &texts)
        .iter()
        .map(|(place, problem)| report(problem, place.as_ref(), &texts, renderer))
        .collect();
    if !problems.unchecked().is_empty() {
        let text =
            format!("not checked because of these errors: {}", problems.unchecked().join("; "));
        reports.push(renderer.render(&[Group::with_title(Level::NOTE.primary_title(text))]));
    }
    reports.join("\n\n") + "\n"
}

/// The problems in the order of their lines. Those without a position come first: they are about
/// the whole text.
fn located<'p>(problems: &'p Problems, texts: &[Text<'_>]) -> Vec<(Option<Place>, &'p Problem)> {
    let place = |problem: &Problem| Lookup::of(problem).locate(texts);
    let mut located: Vec<_> = problems.iter().map(|problem| (place(problem), problem)).collect();
    located.sort_by_key(|(place, _)| {
        place.as_ref().map(|place| (place.text, place.line, place.columns.0))
    });
    located
}

/// A text of the source and its lines.
struct Text<'s> {
    document: &'s Document,
    lines: Vec<&'s str>,
    layout: Option<Layout<'s>>,
}

impl<'s> Text<'s> {
    fn all(source: &'s Source, problems: &Problems) -> Vec<Self> {
        source.documents().iter().map(|text| Self::of(text, problems)).collect()
    }

    fn of(document: &'s Document, problems: &Problems) -> Self {
        let text = document.readable();
        // A text that one parser rejected is not passed to the other.
        let broken = |problem: &Problem| {
            matches!(problem.spot, Spot::Unreadable { .. })
                && problem.document.as_ref() == Some(&document.name)
        };
        let layout = if problems.iter().any(broken) { None } else { Layout::of(text) };
        Self { document, lines: text.lines().collect(), layout }
    }
}

/// A range within one line.
struct Place {
    text: usize,
    /// From 1.
    line: usize,
    /// In characters, from 0; the end is exclusive.
    columns: (usize, usize),
}

fn report(
    problem: &Problem,
    place: Option<&Place>,
    texts: &[Text<'_>],
    renderer: &Renderer,
) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(problem.message.as_str()));
    match place.and_then(|place| place.snippet(texts, AnnotationKind::Primary, None)) {
        Some(snippet) => group = group.element(snippet),
        None => group = group.element(Origin::path(name_of_text(problem, texts))),
    }
    for related in &problem.related {
        let place = Lookup::of_related(problem, related).locate(texts);
        let label = Some(related.label.as_str());
        let kind = AnnotationKind::Context;
        group = group.elements(place.and_then(|place| place.snippet(texts, kind, label)));
    }
    let path = problem.path.to_string();
    if !path.is_empty() {
        group = group.element(Level::NOTE.message(format!("at {path}")));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn one_line(problem: &Problem, place: Option<&Place>, texts: &[Text<'_>]) -> String {
    let mut line = match place.and_then(|place| Some((texts.get(place.text)?, place))) {
        Some((text, place)) => {
            format!("{}:{}:{}: ", text.document.name, place.line, place.columns.0 + 1)
        }
        None => format!("{}: ", name_of_text(problem, texts)),
    };
    let path = problem.path.to_string();
    if !path.is_empty() {
        line += &format!("{path}: ");
    }
    line += &problem.message;
    if let Some(help) = &problem.help {
        line += &format!("; {help}");
    }
    line
}

/// The name of the text that a problem without a position is about.
fn name_of_text<'t>(problem: &'t Problem, texts: &[Text<'t>]) -> &'t str {
    let name = problem.document.as_deref();
    name.or_else(|| texts.first().map(|text| text.document.name.as_str()))
        .unwrap_or("configuration")
}

impl Place {
    /// The line, with a mark under the range.
    fn snippet<'s>(
        &self,
        texts: &[Text<'s>],
        kind: AnnotationKind,
        label: Option<&'s str>,
    ) -> Option<Snippet<'s, Annotation<'s>>> {
        let text = texts.get(self.text)?;
        let line = text.lines.get(self.line.saturating_sub(1)).copied().unwrap_or_default();
        let byte = |column| line.char_indices().nth(column).map_or(line.len(), |(i, _)| i);
        let span = byte(self.columns.0)..byte(self.columns.1);
        let snippet = Snippet::source(line).line_start(self.line);
        let snippet = snippet.path(text.document.name.as_str());
        Some(snippet.annotation(kind.span(span).label(label)))
    }
}

/// A position to find in the texts.
#[derive(Clone, Copy)]
struct Lookup<'p> {
    path: &'p Path,
    spot: &'p Spot,
    /// The only text to search.
    document: Option<&'p String>,
}

impl<'p> Lookup<'p> {
    fn of(problem: &'p Problem) -> Self {
        Self { path: &problem.path, spot: &problem.spot, document: problem.document.as_ref() }
    }

    fn of_related(problem: &'p Problem, related: &'p Related) -> Self {
        Self { path: &related.path, spot: &related.spot, document: problem.document.as_ref() }
    }

    fn locate(self, texts: &[Text<'_>]) -> Option<Place> {
        let (line, column, length) = match *self.spot {
            Spot::Nowhere | Spot::Unreadable { place: None } => return None,
            Spot::Text { line, column, length } => (line, column, length),
            Spot::Unreadable { place: Some((line, column)) } => (line, column, 1),
            Spot::Key | Spot::Value => return self.follow(texts),
        };
        let text = texts.iter().position(|text| self.is_in(text))?;
        let column = column.saturating_sub(1);
        Some(Place { text, line, columns: (column, column + length) })
    }

    /// The end of the path.
    fn follow(self, texts: &[Text<'_>]) -> Option<Place> {
        let wanted = self.path.segments();
        // Among several texts, the last one that has the value set it; otherwise, the one that has
        // most of the path.
        let mut path = Relative::to(self.path, self.document.is_some());
        let mut best: Option<(usize, Found)> = None;
        for (i, text) in texts.iter().enumerate() {
            let Some(layout) = &text.layout else { continue };
            if self.document.is_some() && !self.is_in(text) {
                continue;
            }
            let found = path.find_in(layout);
            if best.as_ref().is_none_or(|(_, best)| found.depth >= best.depth) {
                best = Some((i, found));
            }
        }
        let (text, found) = best?;
        let layout = texts.get(text)?.layout.as_ref()?;
        let complete = found.depth == wanted.len();
        let value = layout.value(&found);
        let key = layout.key(&found);
        let one_line =
            value.filter(|span| !span.is_empty() && span.start.line() == span.end.line());
        let span = match self.spot {
            Spot::Value if complete => one_line.or(key).or(value),
            _ if found.depth == 0 => return None,
            // A missing value is reported at the key of the message that lacks it.
            _ => key
                .filter(|_| {
                    !matches!(wanted.get(found.depth.saturating_sub(1)), Some(Segment::Index(_)))
                })
                .or(value),
        }?;
        let (start, end) = (span.start, span.end);
        let end = if start.line() == end.line() { end.col() } else { start.col() + 1 };
        let columns = (start.col(), end.max(start.col() + 1));
        Some(Place { text, line: start.line(), columns })
    }

    fn is_in(self, text: &Text<'_>) -> bool {
        self.document == Some(&text.document.name)
    }
}

/// A path in the merged configuration, made relative to one text after the other: list elements
/// from earlier texts are not counted in a later one.
struct Relative<'p> {
    segments: Vec<&'p Segment>,
    /// The number of elements from earlier texts, for each position in the path.
    before: HashMap<usize, usize>,
    fixed: bool,
}

impl<'p> Relative<'p> {
    fn to(path: &'p Path, fixed: bool) -> Self {
        Self { segments: path.segments(), before: HashMap::new(), fixed }
    }

    fn find_in(&mut self, layout: &Layout<'_>) -> Found {
        let mut shifted: Vec<Segment> = Vec::with_capacity(self.segments.len());
        for (i, segment) in self.segments.iter().enumerate() {
            let Segment::Index(index) = segment else {
                shifted.push((*segment).clone());
                continue;
            };
            let before = self.before.get(&i).copied().unwrap_or_default();
            let list = layout.find(&shifted.iter().collect::<Vec<_>>());
            if self.fixed || list.depth < shifted.len() {
                shifted.push((*segment).clone());
                continue;
            }
            self.before.insert(i, before + layout.length(&list));
            match index.checked_sub(before) {
                Some(index) => shifted.push(Segment::Index(index)),
                // An earlier text has this element, so this one has nothing of it.
                None => break,
            }
        }
        layout.find(&shifted.iter().collect::<Vec<_>>())
    }
}
