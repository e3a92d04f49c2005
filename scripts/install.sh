#!/bin/sh
# Installs Corvoy on this machine: the program, its systemd unit, an initial configuration, user, man
# page, completions and log rotation. Then it starts the service. Running it again upgrades: unchanged
# files are left alone, and a configuration is never overwritten.
#
#   scripts/install.sh                        build this checkout, and install it
#   scripts/install.sh --binary FILE          install FILE instead of building
#   scripts/install.sh --uninstall            remove it; configuration, logs and user are kept
#   scripts/install.sh --uninstall --purge    remove them too
#
#   --sha256 HEX     the checksum of FILE; by default read from FILE.sha256
#   --prefix DIR     where to put the program, man page and completions (default: /usr/local)
#   --root DIR       install into DIR as if it were /, for a package or an image: does not
#                    touch the running system, and does not need root
#   --with-sysctl    also install and apply kernel settings for many connections
#   --no-start       do not enable, start or restart the service
#   --dry-run        print what would be done, without doing it
#
# Installing uses sudo if needed; the build runs without it.
# `scripts/install.sh --binary "$(scripts/release)"` installs a profile-guided build, which takes
# longer to build and less CPU to run.
set -eu
umask 022
PATH=$PATH:/usr/sbin:/sbin # `su` without `-` does not add them

say() { printf '%s\n' "$*"; }
note() { printf 'note: %s\n' "$*" >&2; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Prints the next action.
act() {
    if [ "$dry_run" = yes ]; then say "would $*"; else say "$*"; fi
}

# Every command that changes the machine goes through here.
run() {
    [ "$dry_run" = yes ] || "$@"
}

main() {
    options "$@"
    layout
    temp=$(mktemp -d)
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ "$action" = install ] && [ ! -f "$package/corvoy.service" ]; then
        die "run this script from a checkout of Corvoy: it installs the files in scripts/package"
    elif needs_root; then
        continue_as_root "$@"
        return
    fi
    no_other_installation
    if [ "$action" = uninstall ]; then
        uninstall
        return
    fi
    machine
    program
    accepts_configuration
    install_files
    create_user
    tune
    save_manifest
    start_service
    next_steps
}

# After an error, --uninstall and the next run need to know what was installed before it.
leave() {
    [ ! -f "$temp/manifest" ] || save_manifest || note "$manifest is incomplete"
    rm -rf "$temp"
}

options() {
    action=install
    binary='' sha256='' root='' prefix=/usr/local
    dry_run=no purge=no start=yes with_sysctl=no
    while [ $# -gt 0 ]; do
        case $1 in
        --*=*)
            option=${1%%=*} value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            continue
            ;;
        --binary | --sha256 | --prefix | --root)
            [ -n "${2:-}" ] || die "$1 needs a value"
            case $1 in
            --binary) binary=$2 ;;
            --sha256) sha256=$2 ;;
            --prefix) prefix=${2%/} ;;
            --root)
                case $(cd "$2" 2>/dev/null && pwd -P) in
                / | //) die "--root $2 is the running system: leave out --root" ;;
                esac
                root=${2%/}
                ;;
            esac
            shift
            ;;
        --dry-run) dry_run=yes ;;
        --no-start) start=no ;;
        --purge) purge=yes ;;
        --uninstall) action=uninstall ;;
        --with-sysctl) with_sysctl=yes ;;
        -h | --help) usage && exit ;;
        *) die "unknown option $1; --help lists them" ;;
        esac
        shift
    done
    if [ "$purge" = yes ] && [ "$action" = install ]; then
        die "--purge requires --uninstall"
    elif [ -n "$sha256" ] && [ -z "$binary" ]; then
        die "--sha256 requires --binary"
    fi
}

usage() {
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p;}' "$0"
}

# Installation paths. systemd reads units from /usr/local/lib and /usr/lib; /etc is left to the
# operator, unless systemd does not read units in the prefix.
layout() {
    case $prefix in
    *[!A-Za-z0-9/._-]*) die "--prefix allows only letters, digits and / . _ -: $prefix" ;;
    /usr | /usr/local) lib=$prefix/lib ;;
    /*) lib=/etc ;;
    *) die "--prefix must be an absolute path: $prefix" ;;
    esac
    share=$prefix/share/corvoy
    unit=$lib/systemd/system/corvoy.service
    configuration=/etc/corvoy/envoy.yaml
    manifest=/var/lib/corvoy/manifest
    here=$(cd "$(dirname "$0")" && pwd)
    package=$here/package
}

needs_root() {
    [ -z "$root" ] && [ "$dry_run" = no ] && [ "$(id -u)" != 0 ]
}

# Everything but the build runs as root, including the tests for files: others may not be able to see
# what is in /etc/corvoy.
continue_as_root() {
    command -v sudo >/dev/null || die "installing needs root or sudo"
    if [ "$action" = install ] && [ -z "$binary" ]; then
        build
        set -- "$@" --binary "$temp/corvoy" --sha256 "$(sha256 "$temp/corvoy")"
    fi
    sudo sh "$here/$(basename "$0")" "$@"
}

# Two installations would share files: the unit of one would override the other's, and removing one
# would break the other.
no_other_installation() {
    if [ -z "$root" ] && [ "$(debian_package)" = installed ]; then
        die "the Debian package corvoy is installed: remove it first, with apt-get remove corvoy"
    fi
    [ "$action" = install ] || return 0
    other=$(sed -n 's|^file \(/.*/corvoy\.service\)$|\1|p' "$root$manifest" 2>/dev/null || true)
    if [ -z "$other" ] && has_systemd; then
        other=$(systemctl show --property FragmentPath --value corvoy 2>/dev/null || true)
    fi
    if [ -n "$other" ] && [ "$other" != "$unit" ]; then
        die "Corvoy is already installed, with the unit $other: remove it first, or use its --prefix"
    fi
}

debian_package() {
    # shellcheck disable=SC2016 # expanded by dpkg-query
    dpkg-query --show --showformat '${db:Status-Status}' corvoy 2>/dev/null || true
}

# --- the machine ----------------------------------------------------------------------------------

machine() {
    [ "$(uname -s)" = Linux ] || die "Corvoy needs Linux"
    [ -z "$root" ] || return 0 # Corvoy will run elsewhere
    say "This machine:"
    fact kernel "$(kernel)"
    fact io_uring "$(io_uring)"
    fact memlock "$(memlock)"
    fact cores "$(nproc), with one shard each"
    fact files "$(open_files)"
    fact ports "$(ports)"
    port_is_taken=no
    if [ ! -e $configuration ] && [ -n "$(taken_port)" ]; then port_is_taken=yes; fi
}

fact() {
    printf '  %-9s %s\n' "$1" "$2"
}

# kernel_is MAJOR MINOR: that version or later.
kernel_is() {
    release=$(uname -r)
    major=${release%%.*}
    minor=${release#*.}
    minor=${minor%%[!0-9]*}
    [ "$major" -gt "$1" ] || { [ "$major" -eq "$1" ] && [ "$minor" -ge "$2" ]; }
}

kernel() {
    if kernel_is 6 1; then
        say "Linux $(uname -r)"
    elif kernel_is 5 17; then
        say "Linux $(uname -r): 6.1 or later would be more efficient"
    else
        say "Linux $(uname -r): too old for io_uring, Corvoy will use epoll"
    fi
}

io_uring() {
    setting=/proc/sys/kernel/io_uring_disabled
    disabled=0
    if [ -r $setting ]; then
        disabled=$(cat $setting)
    elif kernel_is 6 6; then
        disabled=absent
    fi
    case $disabled in
    absent) say "not in this kernel, Corvoy will use epoll" ;;
    1) say "only for the group in kernel.io_uring_group: set it to the group corvoy" ;;
    2) say "disabled by kernel.io_uring_disabled, Corvoy will use epoll; --with-sysctl enables it" ;;
    *)
        if grep -q '^Seccomp:[[:space:]]*2' /proc/self/status; then
            say "enabled, but a seccomp filter is active (a container?) and may block it"
        else
            say "enabled"
        fi
        ;;
    esac
}

# Rings count as locked memory.
memlock() {
    limit=$(awk '/^Max locked memory/ { print $4 }' /proc/self/limits)
    say "no limit for the service; $limit for corvoy started in this shell"
}

open_files() {
    wanted=$(sed -n 's/^LimitNOFILE=//p' "$package/corvoy.service")
    possible=$(cat /proc/sys/fs/nr_open)
    if [ "$possible" -ge "$wanted" ]; then
        say "$wanted for the service"
    else
        say "fs.nr_open is $possible, but the unit requires $wanted: raise fs.nr_open or lower LimitNOFILE"
    fi
}

# An operator's own configuration determines its ports; those of the default should be free.
ports() {
    if [ -e $configuration ]; then
        say "those of $configuration"
    elif [ -n "$(taken_port)" ]; then
        say "$(taken_port) is in use: change it in $configuration, then systemctl enable --now corvoy"
    else
        say "$(default_ports | xargs) are free"
    fi
}

# A port that is already in use.
taken_port() {
    for port in $(default_ports); do
        if listening "$port"; then
            say "$port"
            return
        fi
    done
}

default_ports() {
    sed -n '/^ *#/d; s/.*port_value: *\([0-9]*\).*/\1/p' "$package/envoy.yaml"
}

listening() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        grep -q "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$1") [0-9A-F:]* 0A "
}

# --- the program ----------------------------------------------------------------------------------

# Leaves the program and its documents in $temp.
program() {
    if [ -n "$binary" ]; then
        [ -f "$binary" ] || die "no such file: $binary"
        cp "$binary" "$temp/corvoy"
        verify
    elif [ "$dry_run" = yes ]; then
        act "build Corvoy with cargo"
        touch "$temp/corvoy" "$temp/corvoy.8" "$temp/bash" "$temp/fish" "$temp/zsh"
        return
    else
        build
    fi
    chmod 755 "$temp/corvoy"
    "$temp/corvoy" --version || die "the program does not run here. If /tmp is mounted noexec, set TMPDIR"
    "$temp/corvoy" man >"$temp/corvoy.8"
    for shell in bash fish zsh; do
        "$temp/corvoy" completions "$shell" >"$temp/$shell"
    done
}

# The copy is verified, so that it cannot be exchanged afterwards.
verify() {
    if [ -z "$sha256" ] && [ -f "$binary.sha256" ]; then
        sha256=$(cut -d ' ' -f 1 "$binary.sha256")
    fi
    if [ -z "$sha256" ]; then
        note "no --sha256 and no $binary.sha256: $binary is not verified"
        return
    fi
    found=$(sha256 "$temp/corvoy")
    [ "$found" = "$(printf %s "$sha256" | tr A-F a-f)" ] ||
        die "the SHA-256 of $binary is $found, not $sha256. Nothing was changed"
}

sha256() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# Leaves the program in $temp. With an explicit --target, cargo's output is in the same place whatever
# its configuration says.
build() {
    as_user cargo --version >/dev/null 2>&1 ||
        die "building needs Rust 1.95 or later with cargo; --binary installs a program built elsewhere"
    for tool in cc make; do
        command -v "$tool" >/dev/null ||
            die "building needs a C compiler and make: on Debian, apt-get install gcc libc6-dev make"
    done
    target=${CARGO_TARGET_DIR:-$here/../target}
    say "Building. This takes a few minutes"
    host=$(as_user cargo --version --verbose | sed -n 's/^host: //p')
    as_user cargo build --release --locked --package corvoy --target "$host" \
        --manifest-path "$here/../Cargo.toml" --target-dir "$target"
    cp "$target/$host/release/corvoy" "$temp/corvoy"
}

# Under sudo, cargo runs as the calling user, who also owns its files.
as_user() {
    if [ "$(id -u)" = 0 ] && [ "${SUDO_USER:-root}" != root ]; then
        # shellcheck disable=SC2016 # expanded by the user's shell
        sudo -u "$SUDO_USER" -H sh -c 'PATH=$HOME/.cargo/bin:$PATH exec "$@"' sh "$@"
    else
        "$@"
    fi
}

# A version that rejects the present configuration, or the flags of the service, is not installed, and
# the old program stays.
accepts_configuration() {
    if [ -d "$root/etc/corvoy" ] && [ ! -x "$root/etc/corvoy" ] ||
        [ -f "$root$configuration" ] && [ ! -r "$root$configuration" ]; then
        note "$configuration is not checked: it cannot be read" # in a dry run without root
        return
    fi
    [ -f "$root$configuration" ] && [ -s "$temp/corvoy" ] || return 0
    # The log file would belong to root. One word per flag, as systemd splits them:
    # shellcheck disable=SC2046
    "$temp/corvoy" --mode validate -c "$root$configuration" $(service_flags) --log-path /dev/null >/dev/null ||
        die "this version does not accept $configuration and the flags in /etc/default/corvoy. Nothing was changed"
}

# The operator's CORVOY_OPTS.
service_flags() (
    CORVOY_OPTS=''
    # shellcheck disable=SC1091 # does not exist before the installation
    [ ! -r "$root/etc/default/corvoy" ] || . "$root/etc/default/corvoy"
    printf '%s\n' "$CORVOY_OPTS"
)

# --- files ----------------------------------------------------------------------------------------

install_files() {
    is_first=no
    [ -e "$root$unit" ] || is_first=yes
    sed "s|/usr/local/bin/|$prefix/bin/|" "$package/corvoy.service" >"$temp/corvoy.service"

    changed=no
    put 755 "$temp/corvoy" "$prefix/bin/corvoy"
    put 644 "$temp/corvoy.service" "$unit"
    needs_restart=$changed
    put 644 "$package/corvoy.sysusers" "$lib/sysusers.d/corvoy.conf"
    put 644 "$temp/corvoy.8" "$prefix/share/man/man8/corvoy.8"
    put 644 "$temp/bash" "$prefix/share/bash-completion/completions/corvoy"
    put 644 "$temp/fish" "$prefix/share/fish/vendor_completions.d/corvoy.fish"
    put 644 "$temp/zsh" "$prefix/share/zsh/site-functions/_corvoy"
    put 755 "$here/install.sh" "$share/install.sh"
    keep "$package/envoy.yaml" "$configuration"
    keep "$package/corvoy.default" /etc/default/corvoy
    keep "$package/corvoy.logrotate" /etc/logrotate.d/corvoy
}

# put MODE SOURCE TARGET: replaces the target atomically, unless it is the same.
put() {
    record file "$3"
    if cmp -s "$2" "$root$3"; then
        return
    fi
    act "install $3"
    place "$1" "$2" "$3"
    changed=yes
}

# keep SOURCE TARGET: a configuration, which belongs to the operator once it exists. A copy of each
# default stays in $share; a default that has changed since is installed beside the operator's file.
keep() {
    default=$share/$(basename "$1")
    record config "$2"
    if [ ! -e "$root$2" ] && [ ! -L "$root$2" ]; then
        act "install $2"
        place 644 "$1" "$2"
    elif ! cmp -s "$1" "$root$2" && ! cmp -s "$1" "$root$default"; then
        act "keep $2, and install the new default as $2.new"
        record file "$2.new"
        place 644 "$1" "$2.new"
    fi
    put 644 "$1" "$default"
}

place() {
    folder "$(dirname "$3")"
    run install -m "$1" "$2" "$root$3.part"
    run mv -f "$root$3.part" "$root$3"
}

folder() {
    if [ -d "$root$1" ]; then
        return
    elif [ "$1" = / ]; then
        run mkdir -p "$root/"
        return
    fi
    folder "$(dirname "$1")"
    record folder "$1"
    run mkdir "$root$1"
}

# --- the rest of the system -----------------------------------------------------------------------

create_user() {
    if [ -n "$root" ] || id -u corvoy >/dev/null 2>&1; then
        return # in an image, sysusers.d creates the user
    fi
    act "create the user corvoy"
    record user corvoy
    run useradd --system --user-group --no-create-home --home-dir / \
        --shell /usr/sbin/nologin --comment "Corvoy proxy" corvoy
}

# Prints the old value of each setting, so that it can be restored.
tune() {
    [ "$with_sysctl" = yes ] || return 0
    put 644 "$package/corvoy.sysctl" "$lib/sysctl.d/90-corvoy.conf"
    [ -z "$root" ] || return 0
    sed -n 's/^-\{0,1\}\([a-z][a-z0-9_.]*\) *= */\1 /p' "$package/corvoy.sysctl" |
        while read -r key value; do
            setting=/proc/sys/$(printf %s "$key" | tr . /)
            [ -e "$setting" ] || continue
            before=$(tr '\t' ' ' <"$setting")
            [ "$before" != "$value" ] || continue
            act "set $key = $value (was $before)"
            printf '%s\n' "$value" | run tee "$setting" >/dev/null || note "$key cannot be set"
        done
}

# Whether to use the systemd of this machine.
has_systemd() {
    [ -z "$root" ] && [ -d /run/systemd/system ]
}

start_service() {
    has_systemd || return 0
    run systemctl daemon-reload
    if [ "$start" = no ]; then
        return
    elif [ "$is_first" = no ]; then
        if [ "$needs_restart" = yes ] && systemctl --quiet is-active corvoy; then
            act "restart corvoy"
            run systemctl restart corvoy || failed
        fi
    elif [ "$port_is_taken" = no ]; then
        act "enable and start corvoy"
        run systemctl enable --quiet --now corvoy || failed
    fi
}

failed() {
    die "corvoy is installed but does not start: see journalctl -u corvoy"
}

next_steps() {
    [ "$dry_run" = no ] && [ -z "$root" ] || return 0
    say
    if has_systemd && systemctl --quiet is-active corvoy; then
        say "Corvoy is installed and runs on $(driver)."
    elif has_systemd; then
        say "Corvoy is installed. To start it: systemctl enable --now corvoy"
    else
        say "Corvoy is installed. There is no systemd: start it with corvoy -c $configuration"
    fi
    if cmp -s "$package/envoy.yaml" $configuration; then
        say "  try it      curl http://127.0.0.1:10000/"
    fi
    say "  configure   $configuration, then systemctl restart corvoy"
    say "  watch       http://127.0.0.1:9901/, journalctl -u corvoy, man corvoy"
    say "  remove      sh $share/install.sh --uninstall"
}

driver() {
    pid=$(systemctl show --property MainPID --value corvoy)
    if readlink "/proc/$pid/fd/"* 2>/dev/null | grep -q io_uring; then
        say io_uring
    else
        say "epoll: see journalctl -u corvoy"
    fi
}

# --- uninstalling ---------------------------------------------------------------------------------

# The manifest has a line for everything that was installed: `file PATH`, `config PATH`,
# `folder PATH` and `user NAME`.
record() {
    printf '%s %s\n' "$1" "$2" >>"$temp/manifest"
}

save_manifest() {
    folder "$(dirname $manifest)"
    cat "$root$manifest" 2>/dev/null >>"$temp/manifest" || true
    LC_ALL=C sort -u "$temp/manifest" >"$temp/sorted"
    place 644 "$temp/sorted" $manifest
    rm "$temp/manifest"
}

# The manifest is the last file to be removed. Whatever cannot be removed stays recorded.
uninstall() {
    if [ ! -f "$root$manifest" ]; then
        say "Corvoy is not installed here."
        return
    fi
    if has_systemd; then
        act "stop corvoy"
        run systemctl disable --quiet --now corvoy || true # it may not have been started
    fi
    cp "$root$manifest" "$temp/installed"
    remove_all file config
    if [ "$purge" = yes ]; then
        act "remove the logs"
        run rm -rf "$root/var/log/corvoy"
    fi
    remove_all user
    run rm -f "$root$manifest"
    remove_all folder
    if [ -f "$temp/manifest" ]; then
        save_manifest
    fi
    if [ "$purge" = no ]; then
        say "Configuration, logs and user are kept; --uninstall --purge removes them too."
    fi
    if has_systemd; then
        run systemctl daemon-reload
    fi
}

# remove_all KIND...: what the manifest lists of these kinds. The content of a folder comes before the
# folder.
remove_all() {
    for wanted in "$@"; do
        LC_ALL=C sort -r "$temp/installed" | while read -r kind name; do
            [ "$kind" != "$wanted" ] || remove "$kind" "$name" </dev/null
        done
    done
}

# Removes what one line of the manifest names, or keeps the line if it stays.
remove() {
    case $1:$purge in
    file:* | config:yes)
        act "remove $2"
        try rm -f "$root$2" || record "$1" "$2"
        ;;
    user:yes)
        remove_user "$2" || record "$1" "$2"
        ;;
    folder:*)
        if [ -n "$(ls -A "$root$2" 2>/dev/null)" ]; then
            [ "$purge" = no ] || act "keep $2: it is not empty"
            # After a purge, what is in it belongs to others, unless something could not be removed.
            if [ "$purge" = no ] || [ -f "$temp/manifest" ]; then record "$1" "$2"; fi
        elif [ -d "$root$2" ]; then
            try rmdir "$root$2" || record "$1" "$2"
        fi
        ;;
    *) record "$1" "$2" ;;
    esac
}

remove_user() {
    if [ -n "$root" ]; then
        note "the user $1 is kept: --root does not change users"
        return 1
    fi
    act "remove the user $1"
    ! id -u "$1" >/dev/null 2>&1 || try userdel "$1"
}

# try COMMAND...: a failure is not the end.
try() {
    run "$@" || {
        note "this failed, and is left for the next --uninstall: $*"
        return 1
    }
}

# The last line, so that a truncated script does nothing.
main "$@"
