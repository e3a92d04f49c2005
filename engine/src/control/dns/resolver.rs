//! Resolves a name to addresses, by the system's configuration.

use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;

use crate::upstream::discovery::{Answer, LookupFailed, LookupFamily, OwnResolver};

/// Resolves names to addresses: first `/etc/hosts`, then the servers of `/etc/resolv.conf`.
///
/// Nothing is cached: the cluster decides how often to query. Both files are read again when they
/// change.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: Option<Files>,
    names: RefCell<Rc<Names>>,
    /// Each lookup takes a socket: a thousand clusters must not use up the descriptors.
    lookups: Semaphore,
}

/// The files that configure name resolution.
#[derive(Debug)]
struct Files {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// Their stamps when they were read.
    read: RefCell<[Option<FileStamp>; 2]>,
}

/// The modification time of a file and its length, so that a change within one clock tick is detected.
type FileStamp = (SystemTime, u64);

/// The contents of the files.
#[derive(Debug)]
struct Names {
    hosts: Hosts,
    servers: TokioResolver,
}

impl Resolver {
    /// Uses the configuration of the system.
    ///
    /// # Errors
    /// When the resolver cannot be created; a missing or invalid file is not an error.
    pub(crate) fn system() -> Result<Self, NetError> {
        Self::of_files(HOSTS.into(), RESOLV_CONF.into())
    }

    fn of_files(hosts: PathBuf, resolv_conf: PathBuf) -> Result<Self, NetError> {
        let files = Files { hosts, resolv_conf, read: RefCell::default() };
        files.read.replace(files.stamps());
        let names = files.names(None)?;
        Ok(Self::new(Some(files), names))
    }

    /// The resolver that something has for itself, or this one.
    pub(crate) fn for_its(self: &Rc<Self>, own: Option<&OwnResolver>) -> Rc<Self> {
        match own.map(Self::own) {
            None => Rc::clone(self),
            Some(Ok(own)) => Rc::new(own),
            Some(Err(error)) => {
                tracing::error!("cannot use the DNS resolver of a cluster: {error}");
                Rc::clone(self)
            }
        }
    }

    fn own(own: &OwnResolver) -> Result<Self, NetError> {
        let system = fs::read(RESOLV_CONF).map_err(NetError::from).and_then(parse_resolv_conf);
        let (system, mut options) = system.unwrap_or_else(|_| {
            (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default())
        });
        let mut servers: Vec<NameServerConfig> =
            own.servers.iter().map(|address| name_server(*address)).collect();
        if servers.is_empty() {
            servers = system.name_servers().to_vec();
        }
        if own.only_tcp {
            for server in &mut servers {
                server.connections.retain(|it| matches!(it.protocol, ProtocolConfig::Tcp));
            }
        }
        let (domain, search) = match own.searches_domains {
            true => (system.domain().cloned(), system.search().to_vec()),
            false => (None, Vec::new()),
        };
        options.timeout = own.timeout;
        options.attempts = own.tries.saturating_sub(1);
        options.server_ordering_strategy = match own.rotates {
            true => ServerOrderingStrategy::RoundRobin,
            false => ServerOrderingStrategy::UserProvidedOrder,
        };
        let mut hosts = Hosts::default();
        if let Ok(file) = fs::File::open(HOSTS) {
            // What cannot be read is not known.
            drop(hosts.read_hosts_conf(file));
        }
        let config = ResolverConfig::from_parts(domain, search, servers);
        Ok(Self::new(None, Names::new(hosts, config, options)?))
    }

    fn new(files: Option<Files>, names: Names) -> Self {
        let names = RefCell::new(Rc::new(names));
        Self { files, names, lookups: Semaphore::new(DNS_LOOKUPS_MAX) }
    }

    /// The addresses of a name. An address resolves to itself, and `localhost` to this machine without
    /// a query.
    ///
    /// # Errors
    /// No server answered, or one refused.
    pub(crate) async fn lookup(
        &self,
        name: &str,
        family: LookupFamily,
    ) -> Result<Answer, LookupFailed> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Answer { addresses: vec![address], ttl: Duration::ZERO });
        }
        let name = Name::from_str_relaxed(name).map_err(|_| LookupFailed)?;
        let names = self.names();
        let v4 = || self.lookup_type(&names, &name, RecordType::A);
        let v6 = || self.lookup_type(&names, &name, RecordType::AAAA);
        match family {
            LookupFamily::V4Only => v4().await,
            LookupFamily::V6Only => v6().await,
            LookupFamily::Auto => first_with_addresses(v6().await, v4).await,
            LookupFamily::V4Preferred => first_with_addresses(v4().await, v6).await,
            LookupFamily::All => {
                let (v4, v6) = tokio::join!(v4(), v6());
                both(v4, v6)
            }
        }
    }

    async fn lookup_type(
        &self,
        names: &Names,
        name: &Name,
        kind: RecordType,
    ) -> Result<Answer, LookupFailed> {
        // Before the search list: the file has the name as it is written in the configuration.
        let query = Query::query(name.clone(), kind);
        if let Some(lookup) = names.hosts.lookup_static_host(&query) {
            return Ok(Answer { ttl: Duration::ZERO, ..answer(&lookup) });
        }
        if name.is_localhost() {
            let address: IpAddr = match kind {
                RecordType::AAAA => Ipv6Addr::LOCALHOST.into(),
                _ => Ipv4Addr::LOCALHOST.into(),
            };
            return Ok(Answer { addresses: vec![address], ttl: Duration::ZERO });
        }
        let _permit = self.lookups.acquire().await.map_err(|_| LookupFailed)?;
        match names.servers.lookup(name.clone(), kind).await {
            Ok(lookup) => Ok(answer(&lookup)),
            // The name has no such address, or does not exist: that is an answer too.
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { addresses: Vec::new(), ttl: Duration::ZERO })
            }
            Err(error) => {
                tracing::debug!("dns resolution for {name} failed: {error}");
                Err(LookupFailed)
            }
        }
    }

    /// The current contents of the files.
    fn names(&self) -> Rc<Names> {
        if let Some(files) = &self.files {
            let stamps = files.stamps();
            if files.read.replace(stamps) != stamps {
                let old = self.names.borrow().clone();
                match files.names(Some(&old)) {
                    Ok(names) => *self.names.borrow_mut() = Rc::new(names),
                    Err(error) => tracing::warn!("cannot reload the DNS configuration: {error}"),
                }
            }
        }
        self.names.borrow().clone()
    }
}

impl Files {
    fn stamps(&self) -> [Option<FileStamp>; 2] {
        [&self.hosts, &self.resolv_conf].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        })
    }

    /// Reads the files. If the name servers cannot be read, the previous ones stay in use; without any,
    /// one on this machine is queried.
    fn names(&self, old: Option<&Names>) -> Result<Names, NetError> {
        let mut hosts = Hosts::default();
        if let Ok(file) = fs::File::open(&self.hosts)
            && let Err(error) = hosts.read_hosts_conf(file)
        {
            tracing::warn!("{}: {error}", self.hosts.display());
        }
        let resolv_conf =
            fs::read(&self.resolv_conf).map_err(NetError::from).and_then(parse_resolv_conf);
        match (resolv_conf, old) {
            (Ok((config, options)), _) => Names::new(hosts, config, options),
            (Err(error), Some(old)) => {
                tracing::warn!("{}: {error}; servers not changed", self.resolv_conf.display());
                Ok(Names { hosts, servers: old.servers.clone() })
            }
            (Err(error), None) => {
                let path = self.resolv_conf.display();
                tracing::warn!("{path}: {error}; asking a name server on this machine");
                let this_machine = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                let config = ResolverConfig::from_name_servers(vec![this_machine]);
                Names::new(hosts, config, ResolverOpts::default())
            }
        }
    }
}

impl Names {
    fn new(hosts: Hosts, config: ResolverConfig, options: ResolverOpts) -> Result<Self, NetError> {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                .with_options(options);
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { hosts, servers: builder.build()? })
    }
}

/// A name server at this address, over UDP and TCP.
fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut it| {
        it.port = address.port();
        it
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

/// The addresses of an answer, and the least time to live on the way to them.
fn answer(lookup: &Lookup) -> Answer {
    let records = lookup.answers();
    let addresses = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or_default();
    Answer { addresses, ttl: Duration::from_secs(ttl.into()) }
}

/// The first answer if it has addresses, otherwise the second.
///
/// No address from either is an answer only if neither failed: a partly broken server must not
/// remove a cluster's hosts.
async fn first_with_addresses<F>(
    first: Result<Answer, LookupFailed>,
    second: impl FnOnce() -> F,
) -> Result<Answer, LookupFailed>
where
    F: Future<Output = Result<Answer, LookupFailed>>,
{
    match first {
        Ok(answer) if !answer.addresses.is_empty() => Ok(answer),
        first => both(first, second().await),
    }
}

/// The addresses of both, unless there are none because one failed.
fn both(
    first: Result<Answer, LookupFailed>,
    second: Result<Answer, LookupFailed>,
) -> Result<Answer, LookupFailed> {
    match (first, second) {
        (Ok(mut first), Ok(second)) => {
            first.ttl = match (first.addresses.is_empty(), second.addresses.is_empty()) {
                (false, false) => first.ttl.min(second.ttl),
                (false, true) => first.ttl,
                (true, _) => second.ttl,
            };
            first.addresses.extend(second.addresses);
            Ok(first)
        }
        (Ok(answer), Err(LookupFailed)) | (Err(LookupFailed), Ok(answer))
            if !answer.addresses.is_empty() =>
        {
            Ok(answer)
        }
        (_, _) => Err(LookupFailed),
    }
}

/// Lookups at once; the others wait.
const DNS_LOOKUPS_MAX: usize = 256;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

#[cfg(test)]
impl Resolver {
    /// Queries one server, with this timeout and one repetition; knows the hosts of this file.
    pub(super) fn asking(server: SocketAddr, timeout: Duration, hosts: &str) -> Self {
        let server = name_server(server);
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.attempts = 1;
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut known = Hosts::default();
        known.read_hosts_conf(hosts.as_bytes()).unwrap();
        Self::new(None, Names::new(known, config, options).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_again_when_they_change() {
        let folder = std::env::temp_dir().join(format!("corvoy-dns-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let hosts = folder.join("hosts");
        fs::write(&hosts, "127.0.0.1 web").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let resolver = Resolver::of_files(hosts.clone(), folder.join("missing")).unwrap();
        let web = || runtime.block_on(resolver.lookup("web", LookupFamily::V4Only)).unwrap();
        assert_eq!(web().addresses, [IpAddr::from([127, 0, 0, 1])]);
        fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.22 web # moved").unwrap();
        assert_eq!(web().addresses, [IpAddr::from([127, 0, 0, 22])]);
        fs::remove_dir_all(folder).unwrap();
    }
}
