//! The documentation page for a record: its summary up to the medians, and links to all records.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Marks where the page ends in a summary; invisible to readers.
pub(super) const END: &str = "<!-- the page of the documentation ends here -->\n";

/// The page, from the summary in `folder`. Both paths are relative to the root of the repository.
pub(super) fn of(summary: &str, folder: &Path, page: &Path) -> anyhow::Result<String> {
    let above = page.parent().context("a page in a folder")?.components().count();
    let up = "../".repeat(above);
    let here = folder.display().to_string();
    let here = here.trim_end_matches('/');
    let shown = summary.split(END).next().unwrap_or(summary);
    let shown = shown.replace("](plots/", &format!("]({up}{here}/plots/"));
    let mut text = format!(
        "# Benchmarks\n\nA claim without a record does not exist; losses stand here like wins. What the \
         figures mean, and how they\nare taken: [bench/README.md]({up}bench/README.md). \
         This page is written by `scripts/bench --publish`.\n\n"
    );
    for line in shown.lines() {
        let deeper = if line.starts_with('#') { "#" } else { "" };
        text.push_str(&format!("{deeper}{line}\n"));
    }
    text.push_str(
        "## All records\n\nWith the range of each figure, the ratios round by round, raw data, \
         commands and configurations.\n\n",
    );
    for name in records(folder.parent().unwrap_or(folder))? {
        let results = folder.parent().unwrap_or(folder).display();
        text.push_str(&format!("- [{name}]({up}{results}/{name}/summary.md)\n"));
    }
    Ok(text)
}

/// The folders of records, the newest first.
fn records(results: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(results).with_context(|| results.display().to_string())? {
        let path = entry?.path();
        if path.join("summary.md").exists() {
            names.extend(path.file_name().map(|name| name.display().to_string()));
        }
    }
    names.sort();
    names.reverse();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_work_from_the_page_and_titles_are_below_its_own() {
        let results = tempfile::tempdir().unwrap();
        let folder = results.path().join("2026-01-01-box");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("summary.md"), "").unwrap();
        let summary = format!("# Bench of today\n\n![a](plots/a.svg)\n{END}\n## get-1\n");
        let text = of(&summary, &folder, Path::new("docs/BENCHMARKS.md")).unwrap();
        assert!(text.contains("\n## Bench of today\n"), "{text}");
        assert!(text.contains(&format!("![a](../{}/plots/a.svg)", folder.display())), "{text}");
        assert!(text.contains("- [2026-01-01-box](../"), "{text}");
        assert!(!text.contains("get-1"), "{text}");
    }
}
