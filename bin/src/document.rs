//! Documents about the command line: the man page and shell completions.
//!
//! Both are generated from the flags, so they always match what the program accepts.

use std::io::{self, Write};

use clap::{Command, Subcommand, ValueEnum};
use clap_complete::shells;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::flags::{ENVIRONMENT, EXIT_STATUS, SIGNALS, VERSION};

/// A document that a sub-command prints.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Document {
    /// Print the man page
    Man,
    /// Print completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// A shell that has completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Document {
    /// Writes the document about `command`.
    ///
    /// # Errors
    /// The errors of `out`.
    pub(crate) fn write(self, command: Command, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Man => man_page(command, out),
            Self::Completions { shell } => completions(shell, &command, out),
        }
    }
}

const FILES: [(&str, &str); 2] = [
    ("/etc/corvoy/envoy.yaml", "The configuration of the systemd unit."),
    ("/etc/default/corvoy", "CORVOY_OPTS: additional flags for the systemd unit."),
];

/// `clap_mangen` would refer to a page of its own for each sub-command, and has no sections for
/// the rest.
fn man_page(command: Command, out: &mut impl Write) -> io::Result<()> {
    let commands: Vec<(String, String)> = command
        .get_subcommands()
        .map(|sub| (sub.get_name().into(), sub.get_about().unwrap_or_default().to_string()))
        .collect();
    let page = Man::new(command).section("8").manual("Corvoy");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;

    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]);
    for (name, about) in commands {
        rest.control("TP", []).text([bold(name)]).text([roman(about)]);
    }
    rest.control("SH", ["EXIT STATUS"]).text([roman(EXIT_STATUS)]);
    rest.control("SH", ["SIGNALS"]).text([roman(SIGNALS)]);
    rest.control("SH", ["ENVIRONMENT"]).text([roman(ENVIRONMENT)]);
    rest.control("SH", ["FILES"]);
    for (path, what) in FILES {
        rest.control("TP", []).text([bold(path)]).text([roman(what)]);
    }
    out.write_all(rest.to_roff().as_bytes())
}

/// Without the flags of Envoy that are accepted without effect: they are not completed.
fn without_hidden(command: &Command) -> Command {
    let visible = command.get_arguments().filter(|argument| !argument.is_hide_set());
    Command::new("corvoy")
        .version(VERSION)
        .disable_help_subcommand(true)
        .args(visible.cloned())
        .subcommands(command.get_subcommands().cloned())
}

/// `clap_complete` panics where it cannot write, so it writes to memory.
fn completions(shell: Shell, command: &Command, out: &mut impl Write) -> io::Result<()> {
    let mut command = without_hidden(command);
    let mut script = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "corvoy", &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "corvoy", &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "corvoy", &mut script),
    }
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::flags::Flags;

    const ALL: [Document; 4] = [
        Document::Man,
        Document::Completions { shell: Shell::Bash },
        Document::Completions { shell: Shell::Fish },
        Document::Completions { shell: Shell::Zsh },
    ];

    fn written(document: Document) -> String {
        let mut out = Vec::new();
        document.write(Flags::command(), &mut out).unwrap();
        String::from_utf8(out).unwrap().replace("\\-", "-")
    }

    #[test]
    fn every_flag_with_an_effect_is_in_every_document() {
        for document in ALL {
            let text = written(document);
            for argument in Flags::command().get_arguments().filter(|flag| !flag.is_hide_set()) {
                let flag = argument.get_long().unwrap_or_default();
                assert!(text.contains(flag), "{document:?} lacks --{flag}");
            }
        }
    }

    #[test]
    fn a_flag_without_effect_is_in_no_document() {
        let command = Flags::command();
        for document in ALL {
            let text = written(document);
            let hidden = command.get_arguments().filter(|flag| flag.is_hide_set());
            for flag in hidden.filter_map(|flag| flag.get_long()) {
                assert!(!text.contains(flag), "{document:?} has --{flag}");
            }
        }
    }
}
