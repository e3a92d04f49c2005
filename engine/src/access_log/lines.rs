//! Lines of an access log in one buffer, each of which is written whole or not at all.

/// Lines one after the other. A line is one entry, whatever its format: it may have several line ends,
/// or none.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Lines {
    /// No lines, with room for this many bytes and lines.
    pub(super) fn with_capacity(bytes: usize, lines: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(lines) }
    }

    /// Appends a line; returns its length.
    #[inline]
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.bytes.len() - before
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many lines there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where the last line ends that is at most `most` bytes from `start`; if there is none, where the
    /// line at `start` ends.
    #[must_use]
    pub fn end_within(&self, start: usize, most: usize) -> usize {
        let limit = start.saturating_add(most);
        let fitting = self.ends.partition_point(|end| *end <= limit);
        let last = fitting.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        let fits = last.filter(|end| *end > start);
        fits.or_else(|| self.ends.get(fitting).copied()).unwrap_or(start)
    }

    /// Where the line ends of which a part is written, when the first `written` bytes are; `written` itself
    /// if no line is begun.
    #[must_use]
    pub fn end_of_begun(&self, written: usize) -> usize {
        if written == 0 {
            return 0;
        }
        let line = self.ends.partition_point(|end| *end < written);
        self.ends.get(line).copied().unwrap_or(written)
    }

    /// Keeps the lines that have begun when the first `written` bytes are written; returns how many
    /// were removed.
    pub fn keep_begun(&mut self, written: usize) -> usize {
        let whole = self.ends.partition_point(|end| *end <= written);
        let starts_here = whole.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        let kept = if starts_here.unwrap_or(0) == written { whole } else { whole + 1 };
        let removed = self.ends.len().saturating_sub(kept);
        self.ends.truncate(kept);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Lines {
        let mut lines = Lines::default();
        for text in texts {
            lines.append(|out| out.extend_from_slice(text.as_bytes()));
        }
        lines
    }

    #[test]
    fn what_fits_ends_with_a_line() {
        let lines = lines(&["one\n", "two\n", "a long line\n"]);
        assert_eq!(lines.end_within(0, 8), 8);
        assert_eq!(lines.end_within(0, 9), 8);
        assert_eq!(lines.end_within(4, 3), 8);
        assert_eq!(lines.end_within(8, 3), 20);
        assert_eq!(lines.end_within(20, 3), 20);
    }

    #[test]
    fn a_begun_line_ends_where_the_next_one_starts() {
        let lines = lines(&["one\n", "two\n", "a long line\n"]);
        for (written, end) in [(0, 0), (1, 4), (4, 4), (5, 8), (8, 8), (9, 20), (20, 20)] {
            assert_eq!(lines.end_of_begun(written), end, "{written}");
        }
    }

    #[test]
    fn a_line_that_has_begun_is_kept_and_the_others_are_not() {
        for (written, kept, removed) in
            [(0, "", 3), (1, "one\n", 2), (4, "one\n", 2), (5, "one\ntwo\n", 1), (20, "all", 0)]
        {
            let mut lines = lines(&["one\n", "two\n", "a long line\n"]);
            assert_eq!(lines.keep_begun(written), removed, "{written}");
            let kept = if kept == "all" { "one\ntwo\na long line\n" } else { kept };
            assert_eq!(lines.bytes(), kept.as_bytes());
        }
    }
}
