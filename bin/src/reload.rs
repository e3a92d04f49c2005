//! `corvoy reload`: asks a running proxy to read its configuration again, and says what has become of it.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use corvoy_config::{Problems, Source};
use corvoy_engine::address::Address;
use corvoy_engine::compile;
use corvoy_engine::stats::Registry;
use hyper::body::Body as _;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::report;

/// Make a running proxy read its configuration again, and say what has changed
///
/// Exits with 0 when the new configuration is in force, and with 1 when it is refused: then nothing has
/// changed. The proxy must have an admin endpoint.
#[derive(Clone, Debug, Args)]
#[command(long_about = None)]
pub(crate) struct Reload {
    /// The configuration file of the proxy: it says where the admin endpoint is
    #[arg(short = 'c', long, value_name = "FILE", required_unless_present = "admin_address")]
    config_path: Option<PathBuf>,

    /// Where the admin endpoint is
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config_path")]
    admin_address: Option<SocketAddr>,
}

impl Reload {
    /// Writes what has changed to standard output, or why the configuration is refused to standard error.
    ///
    /// # Errors
    /// When the proxy cannot be asked.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let address = match (self.admin_address, &self.config_path) {
            (Some(address), _) => Address::Ip(address),
            (None, Some(path)) => match admin_address(path)? {
                Some(address) => address,
                None => return Ok(ExitCode::FAILURE),
            },
            (None, None) => bail!("neither a configuration file nor an address"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(ask(address));
        let (status, text) = asked.with_context(|| format!("cannot ask the proxy at {address}"))?;
        if status == 200 {
            report::text(text.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        report::complaint(&text);
        Ok(ExitCode::FAILURE)
    }
}

/// Where the admin endpoint of this configuration is; none if the configuration has an error, which is
/// printed.
fn admin_address(path: &std::path::Path) -> anyhow::Result<Option<Address>> {
    let source = Source::file(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let mut problems = Problems::default();
    let loaded = corvoy_config::load(&source, &mut problems);
    let compiled =
        loaded.and_then(|it| compile::bootstrap(&it.bootstrap, &Registry::new(1), &mut problems));
    let Some(compiled) = compiled else {
        report::problems(&problems, &source);
        return Ok(None);
    };
    let Some(listening) = compiled.admin else {
        bail!("{} has no admin endpoint: send SIGHUP to the proxy instead", path.display());
    };
    Ok(Some(match listening.address {
        Address::Ip(address) if address.ip().is_unspecified() => {
            let loopback = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            Address::Ip(SocketAddr::new(loopback, address.port()))
        }
        address => address,
    }))
}

/// The status and the body of the answer.
async fn ask(address: Address) -> anyhow::Result<(u16, String)> {
    let response = match address {
        Address::Ip(address) => post(TcpStream::connect(address).await?).await?,
        Address::Pipe(pipe) => post(UnixStream::connect(pipe.name()).await?).await?,
    };
    let status = response.status().as_u16();
    Ok((status, text(response.into_body()).await?))
}

async fn post(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    drop(tokio::spawn(connection));
    let request = Request::post("/reload").header(HOST, "admin").body(String::new())?;
    Ok(sender.send_request(request).await?)
}

async fn text(mut body: Incoming) -> anyhow::Result<String> {
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        text.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
