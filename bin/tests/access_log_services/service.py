"""Services that collect access logs: envoy.service.accesslog.v3.AccessLogService and OpenTelemetry's LogsService over
gRPC, written with grpcio alone, and the latter over HTTP too.

It prints its port, the port of HTTP as `{"http": PORT}`, then one line of JSON for each message: what the stories read of
it. A stream has a number.
"""

import http.server
import json
import pathlib
import sys
import threading
from concurrent import futures
from itertools import count

import grpc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "support"))
from protobuf import fields, first, mapped  # noqa: E402

STREAMS = count(1)


def text(message, *path):
    return first(message, *path).decode() if path else message.decode()


def number(message, *path):
    for at in path[:-1]:
        message = first(message, at)
    return next((value for at, value in fields(message) if at == path[-1]), 0)


def entries(message, kind):
    return [value for at, value in fields(first(message, kind)) if at == 1]


def request(entry):
    return {
        "type": number(entry, 1, 33),
        "cluster": text(entry, 1, 15),
        "flags": [at for at, _ in fields(first(entry, 1, 16))],
        "tags": mapped(first(entry, 1), 22),
        "state": list(mapped_keys(first(entry, 1), 21)),
        "client": text(entry, 1, 2, 1, 2),
        "method": number(entry, 3, 1),
        "path": text(entry, 3, 5),
        "sent": number(entry, 3, 12),
        "asked": mapped(first(entry, 3), 13),
        "status": number(entry, 4, 1, 1),
        "received": number(entry, 4, 3),
        "answered": mapped(first(entry, 4), 4),
        "details": text(entry, 4, 6),
        "tls": number(entry, 1, 4, 1),
        "sni": text(entry, 1, 4, 3),
    }


def mapped_keys(message, at):
    return (text(value, 1) for number, value in fields(message) if number == at)


def connection(entry):
    return {
        "type": number(entry, 1, 33),
        "cluster": text(entry, 1, 15),
        "received": number(entry, 2, 1),
        "sent": number(entry, 2, 2),
    }


def stream(messages, context):
    at = next(STREAMS)
    for message in messages:
        identifier = first(message, 1)
        tell(
            stream=at,
            metadata=dict(context.invocation_metadata()),
            node=text(identifier, 1, 1),
            log=text(identifier, 2),
            requests=[request(entry) for entry in entries(message, 2)],
            connections=[connection(entry) for entry in entries(message, 3)],
        )
    tell(ended=at)
    return b""


def any_value(value):
    for kind, content in fields(value):
        if kind == 1:
            return content.decode()
        if kind == 5:
            return [any_value(item) for _, item in fields(content)]
        return pairs(content, 1) if kind == 6 else content
    return None


def pairs(message, at):
    each = (value for number, value in fields(message) if number == at)
    return {text(pair, 1): any_value(first(pair, 2)) for pair in each}


def records(message):
    logs = first(message, 1)
    return {
        "resource": pairs(first(logs, 1), 1),
        "records": [
            {"body": any_value(first(record, 5)), "attributes": pairs(record, 6)}
            for at, record in fields(first(logs, 2))
            if at == 2
        ],
    }


def export(message, context):
    tell(metadata=dict(context.invocation_metadata()), **records(message))
    return b""


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = self.rfile.read(int(self.headers["content-length"]))
        tell(path=self.path, headers={k.lower(): v for k, v in self.headers.items()}, **records(message))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def tell(**what):
    print(json.dumps(what), flush=True)


def main():
    raw = lambda message: message  # noqa: E731
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler(
            "envoy.service.accesslog.v3.AccessLogService",
            {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(stream, raw, raw)},
        ),
        grpc.method_handlers_generic_handler(
            "opentelemetry.proto.collector.logs.v1.LogsService",
            {"Export": grpc.unary_unary_rpc_method_handler(export, raw, raw)},
        ),
    ])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    tell(http=collector.server_address[1])
    server.start()
    server.wait_for_termination()


main()
