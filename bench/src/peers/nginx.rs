//! nginx, as a keep-alive reverse proxy.

use std::fmt::Write;
use std::path::Path;

use super::{Addresses, Downstream, Shape, Upstream};
use crate::tls::Files;

/// Answers and bodies are streamed through memory; nothing is written to disk.
pub(super) fn config(shape: Shape, at: Addresses, files: Option<&Files>) -> String {
    let Shape {
        routes,
        hosts,
        clusters,
        retries,
        shards,
        downstream,
        upstream,
        // It has none: such scenarios are skipped.
        filters: _,
    } = shape;
    let Addresses { origin, proxy, .. } = at;
    let reuse_port = if shards > 1 { " reuseport" } else { "" };
    let main = main(shards, downstream);
    if downstream == Downstream::Tcp {
        return main + &stream(at, reuse_port);
    }
    let (ssl, certificate) = match files {
        Some(files) => (" ssl", certificate(files)),
        None => ("", String::new()),
    };
    let http2 = if downstream.is_http2() { " http2" } else { "" };
    // Each cluster allocates this many idle connections when the configuration is read.
    let idle = if clusters == 1 { 1024 } else { 16 };
    let next = if retries {
        "proxy_next_upstream error timeout http_500 http_502 http_503 http_504;\n    \
         proxy_next_upstream_tries 4;"
    } else {
        "proxy_next_upstream off;"
    };
    let upstreams = upstreams(clusters, idle, origin);
    let locations = match upstream {
        Upstream::Http => locations(routes, clusters),
        Upstream::H2c => "        location / { grpc_pass grpc://c0; }\n".to_owned(),
    };
    let listen = format!("{proxy} backlog=4096{reuse_port}{ssl}{http2}");
    let servers = servers(shape, &listen, &format!("{certificate}{locations}"));
    // As nginx asks for with so many names.
    let hash = if hosts > 1 { "server_names_hash_max_size 262144;" } else { "" };
    format!(
        "{main}http {{
    {hash}
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path nginx-body;
    proxy_temp_path nginx-proxy;
    fastcgi_temp_path nginx-fastcgi;
    uwsgi_temp_path nginx-uwsgi;
    scgi_temp_path nginx-scgi;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Connection \"\";
    proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_connect_timeout 5s;
    proxy_read_timeout 15s;
    proxy_send_timeout 15s;
    proxy_request_buffering off;
    proxy_buffer_size 16k;
    proxy_buffers 8 32k;
    proxy_busy_buffers_size 64k;
    proxy_max_temp_file_size 0;
    {next}
{upstreams}{servers}}}
"
    )
}

/// One for each virtual host; what belongs to the socket is said once.
fn servers(shape: Shape, listen: &str, content: &str) -> String {
    let mut text = String::new();
    let address = listen.split(' ').next().unwrap_or_default();
    for (index, host) in shape.hosts().enumerate() {
        let listen = if index == 0 { listen } else { address };
        let name =
            if shape.hosts == 1 { String::new() } else { format!("        server_name {host};\n") };
        writeln!(text, "    server {{\n        listen {listen};\n{name}{content}    }}").ok();
    }
    text
}

fn main(shards: usize, downstream: Downstream) -> String {
    let module = if downstream == Downstream::Tcp { stream_module() } else { String::new() };
    format!(
        "{module}daemon off;
worker_processes {shards};
pid nginx.pid;
error_log nginx.log crit;
events {{
    worker_connections 20000;
    multi_accept on;
    accept_mutex off;
}}
"
    )
}

fn certificate(files: &Files) -> String {
    let Files { certificate, key, both: _ } = files;
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        "        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
"
    )
}

fn stream(at: Addresses, reuse_port: &str) -> String {
    let Addresses { origin, proxy, .. } = at;
    format!(
        "stream {{
    access_log off;
    server {{
        listen {proxy} backlog=4096{reuse_port};
        tcp_nodelay on;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
        proxy_pass {origin};
    }}
}}
"
    )
}

/// Debian's nginx loads its TCP proxy as a module; others have it built in.
fn stream_module() -> String {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if Path::new(module).exists() { format!("load_module {module};\n") } else { String::new() }
}

fn upstreams(clusters: usize, idle: usize, origin: std::net::SocketAddr) -> String {
    let mut text = String::new();
    for cluster in 0..clusters {
        writeln!(
            text,
            "    upstream c{cluster} {{ server {origin}; keepalive {idle}; \
             keepalive_requests 1000000000; keepalive_timeout 1h; }}"
        )
        .ok();
    }
    text
}

fn locations(routes: usize, clusters: usize) -> String {
    if routes == 1 {
        return "        location / { proxy_pass http://c0; }\n".to_owned();
    }
    let mut text = String::new();
    for route in 0..routes {
        let cluster = route % clusters;
        writeln!(text, "        location /r{route}/ {{ proxy_pass http://c{cluster}; }}").ok();
    }
    text
}
