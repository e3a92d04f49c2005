//! `scripts/install.sh` with a folder in place of `/`: its effect on files. `scripts/test-install`
//! tests its effect on a running system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_corvoy");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");
const CONFIGURATION: &str = "etc/corvoy/envoy.yaml";
const MANIFEST: &str = "var/lib/corvoy/manifest";

/// A folder to install into.
struct Root(TempDir);

impl Root {
    fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A root with these files.
    fn that_has(files: &[(&str, &str)]) -> Self {
        let root = Self::empty();
        for (path, content) in files {
            root.write(path, content);
        }
        root
    }

    #[track_caller]
    fn with_corvoy() -> Self {
        let root = Self::empty();
        root.install(&[]);
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Runs the installer on this root.
    fn installer(&self, script: &Path, args: &[&str]) -> Output {
        self.command(script).args(args).output().unwrap()
    }

    fn command(&self, script: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg(script).arg("--root").arg(self.0.path());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) {
        let output = self.installer(&script(), args);
        assert!(output.status.success(), "{output:?}");
    }

    #[track_caller]
    fn install(&self, args: &[&str]) {
        self.run(&[&["--binary", PROGRAM], args].concat());
    }

    /// Runs the installer, which fails, and returns the reason.
    #[track_caller]
    fn refuses(&self, args: &[&str]) -> String {
        let output = self.installer(&script(), args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Every file and folder, and when each was written.
    fn content(&self) -> BTreeMap<PathBuf, (u64, SystemTime)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let about = fs::symlink_metadata(&path).unwrap();
                if about.is_dir() {
                    folders.push(path.clone());
                }
                let name = path.strip_prefix(self.0.path()).unwrap().to_owned();
                let written =
                    if about.is_dir() { SystemTime::UNIX_EPOCH } else { about.modified().unwrap() };
                found.insert(name, (about.ino(), written));
            }
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.content().is_empty()
    }
}

/// A folder for the front of PATH, with this shell script as a command.
fn command_that(name: &str, does: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, format!("#!/bin/sh\n{does}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    (folder, path)
}

fn script() -> PathBuf {
    Path::new(SCRIPTS).join("install.sh")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn everything_is_where_systemd_man_and_the_shells_expect_it() {
    let root = Root::with_corvoy();
    for (path, expected) in [
        ("usr/local/lib/systemd/system/corvoy.service", "ExecStart=/usr/local/bin/corvoy -c "),
        ("usr/local/lib/sysusers.d/corvoy.conf", "corvoy"),
        ("usr/local/share/man/man8/corvoy.8", ".SH SIGNALS"),
        ("usr/local/share/bash-completion/completions/corvoy", "complete -F _corvoy"),
        ("usr/local/share/fish/vendor_completions.d/corvoy.fish", "complete -c corvoy"),
        ("usr/local/share/zsh/site-functions/_corvoy", "#compdef corvoy"),
        ("etc/corvoy/envoy.yaml", "static_resources:"),
        ("etc/default/corvoy", "CORVOY_OPTS="),
        ("etc/logrotate.d/corvoy", "USR1"),
    ] {
        assert!(root.read(path).contains(expected), "{path}");
    }
    let program = root.path("usr/local/bin/corvoy");
    let configuration = root.path(CONFIGURATION);
    let output = Command::new(program).arg("-t").arg("-c").arg(configuration).output().unwrap();
    assert!(text(&output).ends_with(" OK\n"), "{output:?}");
}

#[test]
fn kernel_settings_are_installed_only_on_request() {
    let settings = "usr/local/lib/sysctl.d/90-corvoy.conf";
    let root = Root::with_corvoy();
    assert!(!root.path(settings).exists());
    root.install(&["--with-sysctl"]);
    assert!(root.read(settings).contains("net.core.somaxconn = "));
    root.run(&["--uninstall"]);
    assert!(!root.path(settings).exists());
}

#[test]
fn the_unit_starts_the_program_in_the_prefix_and_is_where_systemd_expects_it() {
    for (prefix, unit) in [
        ("/usr", "usr/lib/systemd/system/corvoy.service"),
        ("/opt/corvoy/", "etc/systemd/system/corvoy.service"),
    ] {
        let root = Root::empty();
        root.install(&["--prefix", prefix]);
        let program = format!("{}/bin/corvoy ", prefix.trim_end_matches('/'));
        assert_eq!(root.read(unit).matches(&program).count(), 3, "validate, serve, reload");
        assert!(root.path(program[1..].trim_end()).exists());
    }
}

#[test]
fn installing_again_changes_nothing() {
    let root = Root::with_corvoy();
    let manifest = Path::new(MANIFEST);
    let lines = root.read(MANIFEST);
    let mut before = root.content();
    root.install(&[]);
    let mut after = root.content();
    assert!(before.remove(manifest).is_some() && after.remove(manifest).is_some());
    assert_eq!(after, before);
    assert_eq!(root.read(MANIFEST), lines);
}

#[test]
fn a_dry_run_prints_its_actions_and_changes_nothing() {
    let root = Root::empty();
    for program in [&["--binary", PROGRAM][..], &[]] {
        let output = root.installer(&script(), &[program, &["--dry-run"]].concat());
        assert!(text(&output).contains("would install /usr/local/bin/corvoy\n"), "{output:?}");
        assert!(root.is_empty());
    }
    let root = Root::with_corvoy();
    let before = root.content();
    let output = root.installer(&script(), &["--uninstall", "--purge", "--dry-run"]);
    assert!(text(&output).contains("would remove /etc/corvoy/envoy.yaml\n"), "{output:?}");
    assert_eq!(root.content(), before);
}

#[test]
fn an_existing_configuration_is_never_overwritten() {
    let own = "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } }\n";
    let root = Root::that_has(&[
        (CONFIGURATION, own),
        ("etc/default/corvoy", "CORVOY_OPTS=\"-l warn\"\n"),
    ]);
    root.install(&[]);
    assert_eq!(root.read(CONFIGURATION), own);
    assert_eq!(root.read("etc/default/corvoy"), "CORVOY_OPTS=\"-l warn\"\n");
    assert!(root.read("etc/corvoy/envoy.yaml.new").contains("static_resources:"));
    assert!(root.read("etc/default/corvoy.new").contains("CORVOY_OPTS="));
}

#[test]
fn a_configuration_that_is_a_link_to_a_missing_file_stays_one() {
    let root = Root::that_has(&[("etc/corvoy/key.pem", "")]);
    symlink("/not/mounted/envoy.yaml", root.path(CONFIGURATION)).unwrap();
    root.install(&[]);
    assert!(root.path(CONFIGURATION).is_symlink());
}

#[test]
fn a_program_that_rejects_the_flags_of_the_service_is_not_installed() {
    let root = Root::with_corvoy();
    root.write("etc/default/corvoy", "CORVOY_OPTS='--no-such-flag 1'\n");
    let before = root.content();
    let reason = root.refuses(&["--binary", PROGRAM, "--prefix", "/usr/local"]);
    assert!(reason.contains("--no-such-flag"), "{reason}");
    assert_eq!(root.content(), before);
    // The drain time is in the unit; the operator's is the last.
    root.write("etc/default/corvoy", "CORVOY_OPTS='--drain-time-s 60 --drain-time-s 5'\n");
    root.install(&[]);
}

#[test]
fn another_prefix_needs_an_uninstallation_first() {
    let root = Root::with_corvoy();
    let before = root.content();
    let reason = root.refuses(&["--binary", PROGRAM, "--prefix", "/opt/corvoy"]);
    assert!(reason.contains("/usr/local/lib/systemd/system/corvoy.service"), "{reason}");
    assert_eq!(root.content(), before);
    root.run(&["--uninstall"]);
    root.install(&["--prefix", "/opt/corvoy"]);
}

#[test]
fn a_build_for_another_target_by_default_is_still_one_for_this_machine() {
    let (_folder, path) = command_that(
        "cargo",
        r#"[ "$1" = build ] || { echo "host: this-machine"; exit; }
        target=$CARGO_BUILD_TARGET
        while [ $# -gt 0 ]; do
            case $1 in --target) target=$2 ;; --target-dir) folder=$2 ;; esac
            shift
        done
        mkdir -p "$folder/$target/release" && cp "$PROGRAM" "$folder/$target/release/corvoy""#,
    );
    let (root, built) = (Root::empty(), TempDir::new().unwrap());
    let output = root
        .command(&script())
        .env("PATH", path)
        .env("PROGRAM", PROGRAM)
        .env("CARGO_TARGET_DIR", built.path())
        .env("CARGO_BUILD_TARGET", "another-machine")
        .env_remove("SUDO_USER")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(root.path("usr/local/bin/corvoy").exists());
    assert!(built.path().join("this-machine").exists());
}

#[test]
fn an_upgrade_installs_a_new_default_only_if_it_has_changed() {
    let root = Root::with_corvoy();
    root.write(CONFIGURATION, "node: { id: own }\n");
    root.install(&[]);
    assert!(!root.path("etc/corvoy/envoy.yaml.new").exists(), "the default is the same");
    root.write("usr/local/share/corvoy/envoy.yaml", "# the default of an older version\n");
    root.install(&[]);
    assert!(root.path("etc/corvoy/envoy.yaml.new").exists());
    assert_eq!(root.read(CONFIGURATION), "node: { id: own }\n");
}

#[test]
fn a_program_that_rejects_the_configuration_is_not_installed() {
    let root = Root::that_has(&[(CONFIGURATION, "static_resources: { no_such_field: 1 }\n")]);
    let before = root.content();
    let reason = root.refuses(&["--binary", PROGRAM]);
    assert!(reason.contains("no_such_field") && reason.contains("Nothing was changed"), "{reason}");
    assert_eq!(root.content(), before);
}

#[test]
fn the_checksum_of_a_program_is_verified() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("corvoy");
    symlink(PROGRAM, &program).unwrap();
    let program = program.to_str().unwrap();
    let output = Command::new("sha256sum").arg(PROGRAM).output().unwrap();
    let right = text(&output).split_once(' ').unwrap().0.to_owned();
    let wrong = "0".repeat(64);

    let root = Root::empty();
    let reason = root.refuses(&["--binary", program, "--sha256", &wrong]);
    assert!(reason.contains(&right), "{reason}");
    fs::write(format!("{program}.sha256"), format!("{wrong}  corvoy\n")).unwrap();
    root.refuses(&["--binary", program]);
    assert!(root.is_empty());

    root.run(&["--binary", program, "--sha256", &right.to_uppercase()]);
    fs::write(format!("{program}.sha256"), format!("{right}  corvoy\n")).unwrap();
    let output = root.installer(&script(), &["--binary", program]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn uninstalling_keeps_the_operators_files_and_purging_keeps_nothing() {
    let root = Root::with_corvoy();
    root.run(&["--uninstall"]);
    for gone in ["usr", "etc/systemd"] {
        assert!(!root.path(gone).exists(), "{gone}");
    }
    for kept in [CONFIGURATION, "etc/default/corvoy", "etc/logrotate.d/corvoy"] {
        assert!(root.path(kept).exists(), "{kept}");
    }
    root.run(&["--uninstall", "--purge"]);
    assert!(root.is_empty(), "{:?}", root.content());
    root.run(&["--uninstall", "--purge"]); // nothing left to do
}

#[test]
fn purging_keeps_files_and_folders_of_others() {
    let files = [("usr/local/bin/other", ""), ("usr/local/share/man/man8/other.8", "")];
    let root = Root::that_has(&files);
    fs::create_dir(root.path("usr/local/lib")).unwrap();
    let before = root.content();
    root.install(&[]);
    root.write("etc/corvoy/key.pem", "");
    root.run(&["--uninstall", "--purge"]);
    assert!(root.path("etc/corvoy/key.pem").exists());
    fs::remove_dir_all(root.path("etc")).unwrap();
    assert_eq!(root.content(), before);
}

#[test]
fn an_installation_that_failed_halfway_can_be_repeated_and_removed() {
    let root = Root::that_has(&[("etc/logrotate.d", "a file where a folder should be")]);
    let before = root.content();
    root.refuses(&["--binary", PROGRAM]);
    assert!(root.path("usr/local/bin/corvoy").exists(), "the first half");
    root.run(&["--uninstall", "--purge"]);
    assert_eq!(root.content().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());

    root.refuses(&["--binary", PROGRAM]);
    fs::remove_file(root.path("etc/logrotate.d")).unwrap();
    root.install(&[]);
    root.run(&["--uninstall", "--purge"]);
    assert_eq!(root.content().keys().collect::<Vec<_>>(), [Path::new("etc")]);
}

#[test]
fn what_cannot_be_removed_is_left_for_the_next_time() {
    let root = Root::with_corvoy();
    let page = root.path("usr/local/share/man/man8/corvoy.8");
    fs::remove_file(&page).unwrap();
    fs::create_dir(&page).unwrap();
    let output = root.installer(&script(), &["--uninstall", "--purge"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("corvoy.8"), "{output:?}");
    assert!(root.read(MANIFEST).contains("file /usr/local/share/man/man8/corvoy.8\n"));
    assert!(!root.path("usr/local/bin/corvoy").exists() && !root.path(CONFIGURATION).exists());

    fs::remove_dir(page).unwrap();
    root.run(&["--uninstall", "--purge"]);
    assert!(root.is_empty(), "{:?}", root.content());
}

#[test]
fn purging_another_root_keeps_the_users_of_this_machine() {
    let root = Root::with_corvoy();
    let manifest = root.read(MANIFEST) + "user corvoy\n";
    root.write(MANIFEST, &manifest);
    let (folder, path) = command_that("userdel", r#"echo "$@" >>"$0.called""#);
    let mut command = root.command(&script());
    let output = command.args(["--uninstall", "--purge"]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!folder.path().join("userdel.called").exists());
    assert!(root.read(MANIFEST).contains("user corvoy\n"));
}

#[test]
fn a_truncated_script_does_nothing() {
    let whole = fs::read_to_string(script()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for end in (1..lines.len()).step_by(7) {
        let root = Root::empty();
        let cut = TempDir::new().unwrap();
        symlink(Path::new(SCRIPTS).join("package"), cut.path().join("package")).unwrap();
        let half = cut.path().join("install.sh");
        fs::write(&half, lines[..end].join("\n")).unwrap();
        root.installer(&half, &["--binary", PROGRAM]);
        assert!(root.is_empty(), "the first {end} lines");
    }
}

#[test]
fn outside_a_checkout_it_says_what_it_needs() {
    let root = Root::empty();
    let piped = Command::new("sh")
        .args(["-s", "--", "--binary", PROGRAM, "--root"])
        .arg(root.0.path())
        .current_dir(root.0.path())
        .stdin(Stdio::from(fs::File::open(script()).unwrap()))
        .output()
        .unwrap();
    assert_eq!(piped.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("from a checkout"), "{piped:?}");
    assert!(root.is_empty());
}

#[test]
fn wrong_usage_is_an_error() {
    let root = Root::empty();
    for args in [
        &["--no-such-option"][..],
        &["--binary"],
        &["--binary", "/no/such/file"],
        &["--binary", "/etc/passwd"],
        &["--sha256", "0"],
        &["--purge"],
        &["--prefix", "relative"],
        &["--prefix", "/a b"],
        &["--dry-run=yes"],
        &["--root", "/", "--dry-run"],
        &["--root", "/usr/..", "--dry-run"],
    ] {
        let output = root.installer(&script(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(root.is_empty());
}

#[test]
fn the_debian_package_has_the_installers_files() {
    let root = Root::empty();
    root.install(&["--prefix", "/usr"]);
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let staged =
        manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"../target/deb/staged/"));
    let mut packaged: Vec<&str> = staged.filter_map(|rest| rest.split('"').next()).collect();
    packaged.sort_unstable();
    let files = root.content().into_keys().filter(|path| root.0.path().join(path).is_file());
    let files = files.map(|path| path.to_str().unwrap().to_owned());
    // dpkg removes the files that it installed: no copy of the installer, no list of its files.
    let files =
        files.filter(|path| !path.starts_with("usr/share/corvoy/") && !path.starts_with("var/"));
    // Debian's policy: manual pages are compressed.
    let files = files.map(|path| if path.ends_with(".8") { path + ".gz" } else { path });
    assert_eq!(packaged, files.collect::<Vec<_>>());
}
