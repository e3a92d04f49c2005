//! User-space instructions of a proxy under callgrind.
//!
//! Includes start-up; the difference of two runs does not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// True if valgrind is installed.
pub(crate) fn is_installed() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The command prefix that counts instructions into `folder`.
pub(crate) fn prefix(folder: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}/callgrind.%p", folder.display());
    let fixed = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--vgdb=no", "-q"];
    fixed.into_iter().chain([out.as_str()]).map(str::to_owned).collect()
}

/// The instructions of every process that wrote a report to `folder`.
pub(crate) fn instructions(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind.")) {
            sum += total(&text).with_context(|| format!("{}: no total", path.display()))?;
        }
    }
    Ok(sum)
}

/// Callgrind writes `summary:` at the start, or `totals:` at the end of its data.
fn total(text: &str) -> Option<u64> {
    let number = |name: &str| {
        let line = text.lines().rev().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    number("totals:").or_else(|| number("summary:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_either_line() {
        assert_eq!(total("events: Ir\nsummary: 123\nfn=(1)\ntotals: 456\n"), Some(456));
        assert_eq!(total("events: Ir\nsummary: 123\n"), Some(123));
        assert_eq!(total("events: Ir\n"), None);
    }
}
