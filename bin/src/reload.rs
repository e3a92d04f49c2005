//! `corvoy reload`: asks a running proxy to read its configuration again, and says what has become of it.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use corvoy_config::{Problems, Source};
use corvoy_engine::address::{Address, Pipe};
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
    let Some(loaded) = loaded.filter(|_| !problems.has_errors()) else {
        report::problems(&problems, &source);
        return Ok(None);
    };
    let address = loaded.bootstrap.admin.and_then(|admin| admin.address);
    let without = || format!("{} has no admin endpoint: send SIGHUP to the proxy", path.display());
    let address = address.with_context(without)?;
    if let Some(pipe) = address.pipe {
        return Ok(Some(Address::Pipe(Pipe::new(&pipe.path).context("admin.address")?)));
    }
    let socket = address.socket_address.with_context(without)?;
    let port = socket.port_value.and_then(|port| u16::try_from(port).ok());
    let ip: IpAddr = socket.address.parse().context("admin.address")?;
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(Some(SocketAddr::new(ip, port.unwrap_or(0)).into()))
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
