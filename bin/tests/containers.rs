//! The proxy in a container: checks the files of `scripts/package` against the kernel and the
//! source tree. No container engine is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Config, Origin, Proxy, is_oracle};

/// `config`, under the container's seccomp profile; `None` if its filter cannot be built here.
fn contained(config: Config, without: &[&str]) -> Option<Config> {
    let script = repository().join("bin/tests/containers/under_seccomp.py");
    let profile = repository().join("scripts/package/seccomp.json");
    let (script, profile) = (script.to_str().unwrap(), profile.to_str().unwrap());
    let is_possible = Command::new("python3").args([script, profile, "--", "/bin/true"]).status();
    if is_oracle() || !is_possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: the filter needs x86_64, python3 and the kernel's headers");
        return None;
    }
    let launcher = [&["python3", script, profile][..], without, &["--"]].concat();
    Some(config.launched_by(&launcher))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_seccomp_profile_allows_everything_that_a_proxy_does() {
    let origin = Origin::that_answers();
    let config = Config::to(&origin).shards(2).cluster("type: STRICT_DNS");
    let Some(config) = contained(config, &[]) else { return };
    let proxy = Proxy::with(config);
    assert_eq!(proxy.get("/").status(), 200);
    assert!(proxy.log().contains("2 shards on io_uring"), "{}", proxy.log());
    proxy.signal(crate::support::Signal::Term);
    assert!(proxy.exit().success());
}

#[test]
fn without_io_uring_in_the_profile_epoll_serves_and_the_log_says_so() {
    let origin = Origin::that_answers();
    let without = ["--without", "io_uring_setup"];
    let Some(config) = contained(Config::to(&origin), &without) else { return };
    let proxy = Proxy::with(config);
    assert_eq!(proxy.get("/").status(), 200);
    let log = proxy.log();
    assert!(log.contains("io_uring is refused (Operation not permitted"), "{log}");
    assert!(log.contains("a seccomp profile forbids it"), "{log}");
    assert!(log.contains("1 shard on epoll"), "{log}");
}

#[test]
fn the_profile_forbids_calls_that_can_escape_a_container() {
    let text = fs::read_to_string(repository().join("scripts/package/seccomp.json")).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut actions = BTreeMap::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        for name in rule["names"].as_array().unwrap() {
            let before = actions.insert(name.as_str().unwrap(), rule["action"].as_str().unwrap());
            assert_eq!(before, None, "{name} is named twice");
        }
    }
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert_eq!(actions.get(call), Some(&"SCMP_ACT_ALLOW"), "{call}");
    }
    for call in
        ["mount", "ptrace", "bpf", "unshare", "setns", "keyctl", "open_by_handle_at", "kexec_load"]
    {
        assert_eq!(actions.get(call), None, "{call}");
    }
}

#[test]
fn the_container_file_names_existing_files_and_valid_instructions() {
    const INSTRUCTIONS: [&str; 8] =
        ["FROM", "WORKDIR", "COPY", "RUN", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
    let text = fs::read_to_string(repository().join("scripts/package/Containerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (instruction, rest) = line.split_once(' ').unwrap();
        assert!(INSTRUCTIONS.contains(&instruction), "{line}");
        match instruction {
            "COPY" if !rest.starts_with("--from=") => {
                let (sources, _) = rest.trim().rsplit_once(' ').unwrap();
                for source in sources.split_whitespace() {
                    assert!(repository().join(source).exists(), "{line}");
                }
            }
            "ENTRYPOINT" | "CMD" => {
                let words: Vec<String> = serde_json::from_str(rest).unwrap();
                assert!(!words.is_empty(), "{line}");
            }
            _ => {}
        }
    }
}
