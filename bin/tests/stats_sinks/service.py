"""Services that collect stats: envoy.service.metrics.v3.MetricsService and OpenTelemetry's MetricsService over gRPC,
written with grpcio alone.

It prints its port, then one line of JSON for each message: the families or metrics in it.
"""

import json
import pathlib
import struct
import sys
from concurrent import futures

import grpc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "support"))
from protobuf import fields, first  # noqa: E402


def double(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def fields_of(message):
    return dict(fields(message))


def family(message):
    metric = first(message, 4)
    parts = fields_of(metric)
    told = {
        "name": first(message, 1).decode(),
        "kind": fields_of(message).get(3, 0),
        "labels": dict(
            (first(label, 1).decode(), first(label, 2).decode()) for at, label in fields(metric) if at == 1
        ),
    }
    for at in (2, 3):
        if at in parts:
            told["value"] = double(fields_of(parts[at])[1])
    for at in (4, 7):
        if at in parts:
            told["count"] = fields_of(parts[at])[1]
            told["parts"] = sum(number == 3 for number, _ in fields(parts[at]))
    return told


def stream(messages, context):
    for message in messages:
        tell(
            node=first(message, 1, 1, 1).decode(),
            families=[family(value) for at, value in fields(message) if at == 2],
        )
    return b""


def metric(message):
    parts = fields_of(message)
    kind = next(at for at in (5, 7, 9) if at in parts)
    point = fields_of(first(parts[kind], 1))
    return {
        "name": parts[1].decode(),
        "kind": {5: "gauge", 7: "sum", 9: "histogram"}[kind],
        "deltas": fields_of(parts[kind]).get(2) == 1,
        "value": point.get(6 if kind != 9 else 4),
        "attributes": {
            first(pair, 1).decode(): first(pair, 2, 1).decode()
            for at, pair in fields(first(parts[kind], 1))
            if at == (7 if kind != 9 else 9)
        },
    }


def export(message, context):
    scope = first(message, 1, 2)
    tell(metrics=[metric(value) for at, value in fields(scope) if at == 2])
    return b""


def tell(**what):
    print(json.dumps(what), flush=True)


def main():
    raw = lambda message: message  # noqa: E731
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler(
            "envoy.service.metrics.v3.MetricsService",
            {"StreamMetrics": grpc.stream_unary_rpc_method_handler(stream, raw, raw)},
        ),
        grpc.method_handlers_generic_handler(
            "opentelemetry.proto.collector.metrics.v1.MetricsService",
            {"Export": grpc.unary_unary_rpc_method_handler(export, raw, raw)},
        ),
    ])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


main()
