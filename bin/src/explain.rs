//! `corvoy explain`: what a configuration does with a request.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use corvoy_config::{Locator, Path, Problems, Source};
use corvoy_engine::compile;
use corvoy_engine::explain::{Asked, Place, Step, explain};
use corvoy_engine::stats::Registry;

use crate::report;

/// Show what a configuration does with a request, without sending it
///
/// Names the listener, filter chain, virtual host, route and cluster that the request gets, the routes
/// that were tried before and what they failed on, what is changed in its headers, and its timeouts and
/// retries. HTTP filters are named, but do not run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Explain {
    /// Method and URL: 'GET https://host/path'
    #[arg(value_name = "REQUEST")]
    request: String,

    /// Configuration file: .yaml, .yml or .json
    #[arg(short = 'c', long, value_name = "FILE")]
    config_path: PathBuf,

    /// A header of the request: 'name: value'
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,

    /// Name of the listener [default: the one with the port of the URL]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,

    /// IP address of the client
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: IpAddr,

    /// What fractions and weights are drawn by
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    random: u64,

    /// How the explanation is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How an explanation is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Explain {
    /// Writes the explanation to standard output.
    ///
    /// # Errors
    /// When the file cannot be read, or the request is not one.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let source = Source::file(&self.config_path).with_context(|| {
            format!("cannot read the configuration {}", self.config_path.display())
        })?;
        let mut problems = Problems::default();
        let loaded = corvoy_config::load(&source, &mut problems);
        let compiled = loaded
            .and_then(|it| compile::bootstrap(&it.bootstrap, &Registry::new(1), &mut problems));
        let Some(compiled) = compiled else {
            report::problems(&problems, &source);
            return Ok(ExitCode::FAILURE);
        };
        let asked = Asked {
            listener: self.listener.clone(),
            client: SocketAddr::new(self.client, Asked::CLIENT_PORT).into(),
            random: self.random,
            ..Asked::new(&self.request, &self.headers)?
        };
        let explanation = explain(&compiled.snapshot, &asked)?;
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(&explanation)?,
            Format::Text => {
                let locator = Locator::new(&source);
                explanation.to_text(&|place| locator.line(&path(place)))
            }
        };
        report::text(text.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The same place as a path of the configuration.
fn path(place: &Place) -> Path {
    place.0.iter().fold(Path::root(), |path, step| match step {
        Step::Field(name) => path.field(name),
        Step::Index(index) => path.index(*index),
    })
}
