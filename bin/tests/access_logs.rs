//! Access logs: how they are written. What is in them is compared with Envoy by the parity cases with a
//! step `access log`.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Config, Origin, Proxy, Refusing, Signal, corvoy, is_oracle, wait_until};

const FILE: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT: &str =
    "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

/// A folder for log files.
struct Logs(TempDir);

impl Logs {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn has_lines(&self, name: &str, count: usize) {
        wait_until(&format!("{count} lines in {name}"), || self.lines(name).len() == count);
    }
}

/// A manager's field: logs to these files, in this format.
fn logs_to(paths: &[PathBuf], format: &str) -> String {
    let logs = paths.iter().map(|path| {
        format!("{{ name: log, typed_config: {{ \"@type\": {FILE}, path: {path:?}{format} }} }}")
    });
    format!("access_log: [{}]", logs.collect::<Vec<_>>().join(", "))
}

/// The format of a text.
fn text(format: &str) -> String {
    format!(", log_format: {{ text_format_source: {{ inline_string: {format:?} }} }}")
}

/// Flags with which lines are written soon.
const SOON: [&str; 2] = ["--file-flush-interval-msec", "50"];

#[test]
fn each_request_is_a_line_in_envoys_default_format() {
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let config = Config::to(&origin).manager(&logs_to(&[logs.path("log")], "")).flags(&SOON);
    let proxy = Proxy::with(config);
    proxy.get("/a?b=c");
    proxy.get("/d");
    logs.has_lines("log", 2);
    let lines = logs.lines("log");
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert!(time.starts_with("[20") && time.ends_with("Z]") && time.len() == 26, "{time}");
    assert!(rest.starts_with("\"GET /a?b=c HTTP/1.1\" 200 - 0 2 "), "{rest}");
    let host = format!("\"{}\"", origin.address());
    assert!(rest.ends_with(&host), "{rest}");
    assert!(lines[1].contains("\"GET /d HTTP/1.1\""), "{}", lines[1]);
}

#[test]
fn a_host_that_refused_the_last_attempt_has_no_connection_in_the_log() {
    let (origin, refusing, logs) = (Origin::that_replies(503), Refusing::new(), Logs::new());
    let format = text("%UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_CONNECTION_ID%\n");
    let config = Config::to_addresses(&[origin.address(), refusing.address()])
        .retry("5xx", 2)
        .manager(&logs_to(&[logs.path("log")], &format))
        .flags(&SOON);
    let proxy = Proxy::with(config);
    // Three attempts each, on the hosts in turn: the last one is at either.
    for _ in 0..8 {
        assert_eq!(proxy.get("/").status(), 503);
    }
    logs.has_lines("log", 8);
    let (refused, answered): (Vec<_>, Vec<_>) = logs
        .lines("log")
        .into_iter()
        .partition(|line| line.starts_with(&format!("{} ", refusing.address())));
    assert!(!refused.is_empty() && !answered.is_empty(), "{refused:?} {answered:?}");
    assert!(refused.iter().all(|line| line.ends_with(" - 0")), "{refused:?}");
    assert!(answered.iter().all(|line| !line.ends_with(" - 0")), "{answered:?}");
}

#[test]
fn standard_output_is_a_log_like_any_other() {
    let origin = Origin::that_answers();
    let log = format!("access_log: [{{ name: log, typed_config: {{ \"@type\": {STDOUT} }} }}]");
    let proxy = Proxy::with(Config::to(&origin).manager(&log).flags(&SOON));
    proxy.get("/to-stdout");
    wait_until("the line", || proxy.log().contains("\"GET /to-stdout HTTP/1.1\" 200 - "));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_of_the_configuration() {
    let missing = Path::new("/no/such/folder/log").to_owned();
    let yaml = Config::to_addresses(&[]).manager(&logs_to(&[missing], "")).yaml();
    let output = corvoy().args(["--mode", "validate", "--config-yaml", &yaml]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("unable to open file '/no/such/folder/log': No such file"), "{said}");
}

#[test]
fn what_was_logged_is_written_before_the_process_ends() {
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let proxy = Proxy::with(Config::to(&origin).manager(&logs_to(&[logs.path("log")], "")));
    for _ in 0..10 {
        proxy.get("/");
    }
    assert_eq!(logs.read("log"), "", "it is flushed every 10 seconds");
    proxy.signal(Signal::Term);
    assert!(proxy.exit().success());
    assert_eq!(logs.lines("log").len(), 10);
}

/// envoyproxy/envoy#4060, #8249
#[test]
fn a_rotation_under_load_loses_no_line_and_lets_go_of_every_old_file() {
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let names: Vec<String> = (0..10).map(|number| format!("log-{number}")).collect();
    let paths: Vec<PathBuf> = names.iter().map(|name| logs.path(name)).collect();
    let config = Config::to(&origin).manager(&logs_to(&paths, &text("%REQ(:PATH)%\n")));
    let proxy = Proxy::with(config.flags(&SOON).shards(2));
    let mut sent = 0;
    for rotation in 0..3 {
        let mut client = proxy.connect();
        for _ in 0..50 {
            assert_eq!(client.get(&format!("/{sent}")).status(), 200);
            sent += 1;
        }
        for name in &names {
            fs::rename(logs.path(name), logs.path(&format!("{name}.{rotation}"))).unwrap();
        }
        match rotation {
            0 => drop(proxy.admin_post("/reopen_logs")),
            _ => proxy.signal(Signal::Usr1),
        }
        wait_until("all files to be opened again", || {
            names.iter().all(|name| logs.path(name).exists())
        });
    }
    let is_old =
        |path: &PathBuf| path.to_string_lossy().contains("log-") && path.extension().is_some();
    wait_until("the old files to be closed", || !proxy.open_files().iter().any(is_old));
    proxy.signal(Signal::Term);
    assert!(proxy.exit().success());
    for name in &names {
        let parts = (0..3).map(|rotation| format!("{name}.{rotation}")).chain([name.clone()]);
        let mut found: Vec<u32> = parts
            .flat_map(|part| logs.lines(&part))
            .map(|line| line.trim_start_matches('/').parse().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, (0..sent).collect::<Vec<u32>>(), "{name}");
    }
}

/// Nobody reads the pipe: the shards go on, and what does not fit is counted.
#[test]
fn a_pipe_that_nobody_reads_stops_nobody() {
    if is_oracle() {
        return; // Envoy waits for a reader when it starts.
    }
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let pipe = logs.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let line = format!("%REQ(:PATH)% {}\n", "x".repeat(50_000));
    let both = [pipe.clone(), logs.path("log")];
    let config = Config::to(&origin).manager(&logs_to(&both, &text(&line))).flags(&SOON);
    let proxy = Proxy::with(config);
    let mut client = proxy.connect();
    let count = 600;
    for request in 0..count {
        assert_eq!(client.get(&format!("/{request}")).status(), 200);
    }
    logs.has_lines("log", count);
    // The queue has 16 MiB.
    let dropped = proxy.stat("access_log.lines_dropped");
    assert!(dropped > 100, "{dropped}");

    let mut reader =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    let (mut read, mut lines) = (Vec::new(), 0);
    let expected = count - usize::try_from(dropped).unwrap();
    wait_until("the lines that were kept", || {
        let before = read.len();
        drop(reader.read_to_end(&mut read));
        lines += read[before..].iter().filter(|byte| **byte == b'\n').count();
        lines == expected
    });
    let text = String::from_utf8(read).unwrap();
    assert!(text.lines().all(|line| line.ends_with(&"x".repeat(50_000))), "a line is split");
    assert_eq!(proxy.stat("access_log.lines_dropped"), dropped);
    proxy.stat_becomes("filesystem.write_total_buffered", 0);
}

/// A disk of 64 KiB: lines that do not fit are dropped whole and counted, and writing goes on when there
/// is room again.
#[test]
fn a_full_disk_drops_whole_lines_and_recovers() {
    if is_oracle() {
        return; // Envoy splits lines.
    }
    let mounts = Command::new("unshare").args(["-m", "true"]).status();
    if !mounts.is_ok_and(|status| status.success()) {
        return; // The machine allows no mounts.
    }
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let folder = logs.0.path().to_str().unwrap();
    let mount = format!("mount -t tmpfs -o size=64k none {folder} && exec \"$@\"");
    let line = format!("%REQ(:PATH)% {}\n", "x".repeat(3000));
    let config = Config::to(&origin)
        .manager(&logs_to(&[logs.path("log")], &text(&line)))
        .flags(&SOON)
        .launched_by(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    let proxy = Proxy::with(config);
    let written = proxy.root().join(logs.path("log").strip_prefix("/").unwrap());
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(&written).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let mut client = proxy.connect();
    let mut sent = 0;
    let mut ask = |count| {
        for _ in 0..count {
            assert_eq!(client.get(&format!("/{sent}")).status(), 200);
            sent += 1;
        }
    };
    ask(60);
    wait_until("the disk to be full", || proxy.log().contains("lines are dropped"));
    proxy.stat_becomes_at_least("filesystem.write_failed", 1);
    wait_until("the rest to be dropped", || {
        proxy.stat("access_log.lines_dropped") + lines().len() as u64 >= 60
    });
    // The line at the end may have begun.
    let begun = lines();
    assert!(begun.len() >= 20, "{}", begun.len());
    // There is room again.
    File::options().write(true).open(&written).unwrap().set_len(0).unwrap();
    ask(3);
    wait_until("writing to work again", || proxy.log().contains("writing works again"));
    wait_until("the new lines", || lines().iter().any(|line| line.starts_with("/62 ")));
    let dropped = proxy.stat("access_log.lines_dropped");
    let after = lines();
    let is_whole = |line: &&String| line.starts_with('/') && line.ends_with(&"x".repeat(3000));
    // The file was cut off by us, so the rest of the line that had begun is its first one.
    let whole_before = begun.iter().filter(is_whole).count() as u64;
    let rest = u64::from(!is_whole(&&after[0]));
    assert_eq!(whole_before + rest + dropped + 3, 63, "every line is written or counted");
    assert_eq!(proxy.log().matches("lines are dropped").count(), 1);
}

/// envoyproxy/envoy#15020
#[test]
fn whatever_bytes_a_request_has_its_line_is_json_and_is_one_line() {
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let json = ", log_format: { json_format: { path: \"%REQ(:PATH)%\", x: \"%REQ(X)%\", \
                both: \"<%REQ(X)%>\", answer: \"%RESP(X)%\" } }";
    let plain = format!(
        "{{ name: log, typed_config: {{ \"@type\": {FILE}, path: {:?}{} }} }}",
        logs.path("text"),
        text("%REQ(:PATH)% %REQ(X)%\n")
    );
    let log = logs_to(&[logs.path("json")], json)
        .replace("access_log: [", &format!("access_log: [{plain}, "));
    let proxy = Proxy::with(Config::to(&origin).manager(&log).flags(&SOON));
    for byte in 0..=255_u8 {
        for place in 0..2 {
            let mut client = proxy.connect();
            let mut request = b"GET /a".to_vec();
            let odd = [b'<', byte, b'>'];
            request.extend_from_slice(if place == 0 { &odd } else { b"" });
            request.extend_from_slice(b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: ");
            request.extend_from_slice(if place == 1 { &odd } else { b"" });
            request.extend_from_slice(b"\r\n\r\n");
            client.send(&request).until_close();
        }
    }
    logs.has_lines("text", 512);
    logs.has_lines("json", 512);
    let bytes = fs::read(logs.path("json")).unwrap();
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    assert_eq!(text.lines().count(), 512);
    for line in text.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(value.is_object(), "{line}");
    }
}

/// A listener's field: logs to this file, in this format.
fn listener_log(path: &Path, format: &str) -> String {
    logs_to(&[path.to_owned()], &text(format))
}

#[test]
fn a_listener_logs_each_connection_when_it_ends() {
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let format = "%CONNECTION_ID% %DOWNSTREAM_REMOTE_ADDRESS% %FILTER_CHAIN_NAME% %RESPONSE_CODE% \
                  %ACCESS_LOG_TYPE%\n";
    let config = Config::to(&origin)
        .chain("name: chain\n      ")
        .listener(&listener_log(&logs.path("log"), format))
        .flags(&SOON);
    let proxy = Proxy::with(config);
    let mut client = proxy.connect();
    client.get("/a");
    client.get("/b");
    assert_eq!(logs.read("log"), "");
    client.cut();
    logs.has_lines("log", 1);
    let line = logs.read("log");
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert!(fields[1].starts_with("127.0.0.1:"), "{line}");
    assert_eq!(fields[2..], ["chain", "0", "NotSet"], "{line}");
}

#[test]
fn a_listener_logs_a_connection_without_a_filter_chain() {
    let (origin, logs) = (Origin::that_answers(), Logs::new());
    let config = Config::to(&origin)
        .chain("filter_chain_match: { destination_port: 1 }\n      ")
        .listener(&listener_log(&logs.path("log"), "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"))
        .flags(&SOON);
    let proxy = Proxy::with(config);
    proxy.connect().is_closed();
    logs.has_lines("log", 1);
    assert_eq!(logs.read("log"), "NR filter_chain_not_found\n");
}

/// A slow request has periodic entries and one for its end; `prefix` is that of their types.
fn slow_request_is_logged(logs: &Logs, config: Config, prefix: &str, periodic: &str) {
    let proxy = Proxy::with(config.flags(&SOON));
    let mut client = proxy.connect();
    client.ask("/");
    wait_until("two entries", || logs.lines("log").len() >= 2);
    client.cut();
    let end = format!("{prefix}End");
    wait_until("the last entry", || logs.read("log").contains(&end));
    let lines = logs.lines("log");
    assert!(lines[..2].iter().all(|line| line == periodic), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with(&end)).count(), 1);
}

const SLOW: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

#[test]
fn a_slow_request_has_periodic_entries() {
    let (origin, logs) = (Origin::that_says(SLOW), Logs::new());
    let format = text("%ACCESS_LOG_TYPE% %RESPONSE_CODE_DETAILS% %BYTES_SENT%\n");
    let config = Config::to(&origin)
        .manager(&logs_to(&[logs.path("log")], &format))
        .manager("access_log_options: { access_log_flush_interval: 0.1s }");
    slow_request_is_logged(&logs, config, "Downstream", "DownstreamPeriodic via_upstream 4");
}

#[test]
fn a_slow_request_to_a_host_has_periodic_entries() {
    let (origin, logs) = (Origin::that_says(SLOW), Logs::new());
    let format = text("%ACCESS_LOG_TYPE% %RESPONSE_CODE% %BYTES_RECEIVED%\n");
    let log = logs_to(&[logs.path("log")], &format).replacen("access_log", "upstream_log", 1);
    let config = Config::to(&origin)
        .router(&log)
        .router("upstream_log_options: { upstream_log_flush_interval: 0.1s }");
    slow_request_is_logged(&logs, config, "Upstream", "UpstreamPeriodic 200 4");
}
