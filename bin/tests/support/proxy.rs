//! The proxy under test: the real binary, as a process.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use super::wire::{Message, Wire};
use super::{Client, Config, Tls, wait_for, wait_until};

/// A running proxy. It is killed when the story ends.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Mutex<Child>,
    admin: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    folder: TempDir,
}

/// A signal that an operator sends to the process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Hup,
    Int,
    Quit,
    Term,
    Usr1,
    Usr2,
    /// Stops the process until [`Self::Cont`].
    Stop,
    Cont,
}

/// Whether the stories run against the real Envoy.
pub(crate) fn is_oracle() -> bool {
    env::var_os("CORVOY_ORACLE").is_some()
}

/// The command that starts the binary.
pub(crate) fn corvoy() -> Command {
    match env::var_os("CORVOY_ORACLE") {
        None => Command::new(env!("CARGO_BIN_EXE_corvoy")),
        Some(envoy) => {
            let mut command = Command::new(envoy);
            command.arg("--disable-hot-restart");
            command
        }
    }
}

impl Proxy {
    /// Starts the binary with this configuration and waits until it is live.
    #[track_caller]
    pub(crate) fn with(config: impl AsRef<Config>) -> Self {
        let config = config.as_ref();
        let folder = TempDir::new().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("config.yaml"), config.yaml()).unwrap();
        let mut command = config.launched(corvoy());
        command.arg("-c").arg(file("config.yaml"));
        command.arg("--admin-address-path").arg(file("admin"));
        command.args(config.command_line()).envs(config.variables());
        let log = File::create(file("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().unwrap();

        let admin = wait_for("the proxy to start", || {
            if let Some(status) = process.try_wait().unwrap() {
                let log = fs::read_to_string(file("log")).unwrap_or_default();
                panic!("the proxy did not start: {status}\n{log}");
            }
            fs::read_to_string(file("admin")).ok()?.trim().parse().ok()
        });
        let process = Mutex::new(process);
        let mut proxy = Self { process, admin, listeners: Vec::new(), folder };
        wait_until("the proxy to be live", || {
            proxy.try_admin("GET", "/ready").is_some_and(|ready| ready.status() == 200)
        });
        proxy.listeners = proxy.ask_for_listeners();
        proxy
    }

    /// The file that its configuration is in.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// Replaces its configuration and makes the proxy read it again; the answer of the admin endpoint.
    #[track_caller]
    pub(crate) fn reload(&mut self, config: impl AsRef<Config>) -> Message {
        fs::write(self.config_path(), config.as_ref().yaml()).unwrap();
        let answer = self.admin_post("/reload");
        self.listeners = self.ask_for_listeners();
        answer
    }

    /// The address of the only listener.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        let [(_, address)] = self.listeners.as_slice() else {
            panic!("there is not one listener but {:?}", self.listeners);
        };
        *address
    }

    /// The names of all listeners and their addresses.
    pub(crate) fn named_addresses(&self) -> Vec<(String, SocketAddr)> {
        self.listeners.clone()
    }

    /// The addresses of all listeners, in the order of their names.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let mut listeners = self.listeners.clone();
        listeners.sort();
        listeners.into_iter().map(|(_, address)| address).collect()
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    #[track_caller]
    pub(crate) fn connect_tls(&self, tls: &Tls) -> Client {
        Client::connect_tls(self.address(), tls)
    }

    /// A GET on a new connection.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Message {
        self.connect().get(path)
    }

    /// The admin endpoint's response to a GET.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> Message {
        self.try_admin("GET", path).expect("admin to answer")
    }

    /// The admin endpoint's response to a POST.
    #[track_caller]
    pub(crate) fn admin_post(&self, path: &str) -> Message {
        self.try_admin("POST", path).expect("admin to answer")
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Counters and gauges by name.
    #[track_caller]
    pub(crate) fn stats(&self) -> BTreeMap<String, u64> {
        let text = self.admin("/stats").text();
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// One counter or gauge.
    #[track_caller]
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        *stats.get(name).unwrap_or_else(|| panic!("there is no stat {name}"))
    }

    /// Waits until a stat has this value: some are updated after the response is sent.
    #[track_caller]
    pub(crate) fn stat_becomes(&self, name: &str, value: u64) {
        wait_until(&format!("{name} to be {value}, it is {:?}", self.stats().get(name)), || {
            self.stats().get(name) == Some(&value)
        });
    }

    /// Waits until a counter has reached a value.
    #[track_caller]
    pub(crate) fn stat_becomes_at_least(&self, name: &str, value: u64) {
        wait_until(&format!("{name} to be {value}"), || {
            self.stats().get(name).is_some_and(|counted| *counted >= value)
        });
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Hup => "HUP",
            Signal::Int => "INT",
            Signal::Quit => "QUIT",
            Signal::Term => "TERM",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
            Signal::Stop => "STOP",
            Signal::Cont => "CONT",
        };
        let pid = self.process.lock().unwrap().id();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the process to exit.
    #[track_caller]
    pub(crate) fn exit(&self) -> ExitStatus {
        wait_for("the proxy to exit", || self.process.lock().unwrap().try_wait().unwrap())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Resident memory of the process, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let pid = self.process.lock().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The number of ends of pipes that the process has open.
    pub(crate) fn pipes(&self) -> usize {
        let pid = self.process.lock().unwrap().id();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let target = |entry: io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
        let is_pipe = |target: &PathBuf| target.to_string_lossy().starts_with("pipe:");
        open.filter_map(target).filter(is_pipe).count()
    }

    /// The files that the process has open, by name.
    pub(crate) fn open_files(&self) -> Vec<PathBuf> {
        let pid = self.process.lock().unwrap().id();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    /// The root of its file system, as seen from here.
    pub(crate) fn root(&self) -> PathBuf {
        let pid = self.process.lock().unwrap().id();
        PathBuf::from(format!("/proc/{pid}/root"))
    }

    /// CPU time of the process.
    pub(crate) fn processor_time(&self) -> Duration {
        let pid = self.process.lock().unwrap().id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        // utime and stime, in hundredths of a second on every Linux.
        let ticks = fields.split_ascii_whitespace().skip(11).take(2);
        Duration::from_millis(10 * ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
    }

    /// The proxy is idle and uses no CPU.
    #[track_caller]
    pub(crate) fn stays_idle(&self) {
        let (before, look) = (self.processor_time(), Duration::from_millis(400));
        std::thread::sleep(look);
        let used = self.processor_time().saturating_sub(before);
        assert!(used < look / 4, "an idle proxy used {used:?} of CPU in {look:?}");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn try_admin(&self, method: &str, path: &str) -> Option<Message> {
        let mut wire = Wire::connect(self.admin).ok()?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n\r\n");
        wire.send(request.as_bytes()).ok()?;
        wire.response(method).ok()
    }

    fn ask_for_listeners(&self) -> Vec<(String, SocketAddr)> {
        let text = self.admin("/listeners").text();
        let lines = text.lines().filter_map(|line| line.split_once("::"));
        // A unix socket has no such address: who uses it knows its path.
        lines.filter_map(|(name, address)| Some((name.to_owned(), address.parse().ok()?))).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.split_at(lines.len().saturating_sub(20)).1.join("\n");
            eprintln!("--- the end of the proxy's log\n{end}\n---");
        }
        if let Ok(process) = self.process.get_mut() {
            drop((process.kill(), process.wait()));
        }
    }
}

impl AsRef<Self> for Config {
    fn as_ref(&self) -> &Self {
        self
    }
}
