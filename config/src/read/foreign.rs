//! Detects the configuration of another proxy.

/// The proxy that a configuration is for.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Foreign {
    pub(super) program: &'static str,
    /// The line that identifies it, from 1.
    pub(super) line: usize,
}

/// Recognizes nginx and HAProxy syntax in the first lines of a text that is not a YAML map.
pub(super) fn recognize(text: &str) -> Option<Foreign> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.take(LINES_MAX).find_map(|(i, line)| {
        let program = program(line)?;
        Some(Foreign { program, line: i + 1 })
    })
}

fn program(line: &str) -> Option<&'static str> {
    // A comment may follow.
    let line = line.split(" #").next().unwrap_or_default().trim_end();
    let word = line.split([' ', '\t', '{']).next().unwrap_or_default();
    if NGINX.contains(&word) && line.ends_with(['{', ';']) {
        return Some("nginx");
    }
    let alone = word == line;
    let sections = if alone { HAPROXY_ALONE } else { HAPROXY };
    let section = sections.contains(&word);
    (section && !line.ends_with(['{', ';', ':'])).then_some("HAProxy")
}

/// How far to search for a directive of the main level; preambles are shorter.
const LINES_MAX: usize = 10;

/// Directives at the start of an nginx file, or of one that it includes.
const NGINX: &[&str] = &[
    "daemon",
    "error_log",
    "events",
    "http",
    "include",
    "limit_req_zone",
    "load_module",
    "location",
    "map",
    "pid",
    "proxy_cache_path",
    "server",
    "stream",
    "upstream",
    "user",
    "worker_processes",
    "worker_rlimit_nofile",
];

/// HAProxy sections with a name.
const HAPROXY: &[&str] =
    &["backend", "cache", "defaults", "frontend", "listen", "peers", "resolvers", "userlist"];

/// HAProxy sections without a name.
const HAPROXY_ALONE: &[&str] = &["defaults", "global"];

#[cfg(test)]
mod tests {
    use super::{Foreign, recognize};

    fn program(text: &str) -> Option<&'static str> {
        recognize(text).map(|foreign| foreign.program)
    }

    #[test]
    fn a_file_of_nginx_is_recognized_by_its_directives() {
        let text = "# main\n\nuser  www-data;\nhttp {\n  server {}\n}\n";
        assert_eq!(recognize(text), Some(Foreign { program: "nginx", line: 3 }));
        for text in [
            "worker_processes auto; # all\n",
            "events {",
            "server{\n  listen 80;\n}",
            "upstream app {\n  server 10.0.0.1:80;\n}\n",
            "map $http_upgrade $connection {\n",
        ] {
            assert_eq!(program(text), Some("nginx"), "{text}");
        }
    }

    #[test]
    fn a_file_of_haproxy_is_recognized_by_its_sections() {
        for text in [
            "global\n    maxconn 100\n",
            "defaults\n  mode http\n",
            "# edge\nfrontend www\n  bind :80\n",
            "backend app\n  server a 10.0.0.1:80\n",
        ] {
            assert_eq!(program(text), Some("HAProxy"), "{text}");
        }
    }

    #[test]
    fn valid_yaml_and_json_are_not_foreign() {
        for text in [
            "static_resources: {}\n",
            "server: {\n",
            "{\n  \"http\": {}\n",
            "global: 1\n",
            "user: a;\n",
            "hello\n",
            "cache",
            "",
        ] {
            assert_eq!(program(text), None, "{text}");
        }
    }
}
