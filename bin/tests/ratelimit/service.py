"""A rate limit service: envoy.service.ratelimit.v3.RateLimitService, written with grpcio alone.

It prints its port, then one line of JSON for each call: what it was asked. What it answers is the value of
the last entry `do` in a descriptor.
"""

import json
import pathlib
import sys
import time
from concurrent import futures

import grpc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "support"))
from protobuf import fields, first, message, struct  # noqa: E402

OK, OVER_LIMIT = (1, 1), (1, 2)
SECOND, MINUTE, HOUR = 1, 2, 3


def limit(requests, unit, name=""):
    return message((3, name), (1, requests), (2, unit)) if name else message((1, requests), (2, unit))


def status(code, current, remaining, reset):
    return message((1, code), (2, current), (3, remaining), (4, message((1, reset))))


def header(key, value):
    return message((1, key), (2, value))


STATUSES = (
    (2, status(1, limit(10, SECOND, "per-ip"), 7, 1)),
    (2, status(1, limit(100, MINUTE), 3, 42)),
    (2, message((1, 1))),
)

ANSWERS = {
    "ok": message(OK),
    "unknown": message(),
    "limit": message(OVER_LIMIT),
    "statuses": message(OK, *STATUSES),
    "limit-statuses": message(
        OVER_LIMIT,
        *STATUSES,
        (2, status(2, limit(5, HOUR, "slow"), 0, 77)),
        (2, status(2, limit(6, SECOND), 0, 5)),
    ),
    "headers": message(
        OK,
        (3, header("x-answer", "1")),
        (3, header("x-answer", "2")),
        (4, header("x-asked", "1")),
        (4, header("x-mine", "theirs")),
        (6, struct("who", "me")),
    ),
    "limit-headers": message(
        OVER_LIMIT,
        (3, header("x-answer", "1")),
        (3, header("content-type", "text/html")),
        (4, header("x-asked", "1")),
        (5, b"<p>slow down</p>"),
        (6, struct("who", "me")),
    ),
    "inject": message(OK, (3, header("x-a", "b\r\nx-evil: 1")), (4, header("x-a", "b\r\nx-evil: 1"))),
    "garbage": b"\xff\xff",
}


def number(message, field):
    return next((value for at, value in fields(message) if at == field), 0)


def told(request):
    descriptors = []
    for at, value in fields(request):
        if at != 2:
            continue
        entries = [entry for number_, entry in fields(value) if number_ == 1]
        descriptor = {"entries": [[first(e, 1).decode(), first(e, 2).decode()] for e in entries]}
        override = first(value, 2)
        if override:
            descriptor["limit"] = [number(override, 1), number(override, 2)]
        hits = [v for number_, v in fields(value) if number_ == 3]
        if hits:
            descriptor["hits"] = number(hits[0], 1)
        if number(value, 4):
            descriptor["negative"] = True
        descriptors.append(descriptor)
    return {
        "domain": first(request, 1).decode(),
        "hits": number(request, 3),
        "descriptors": descriptors,
    }


def limit_rate(request, context):
    question = told(request)
    question["metadata"] = dict(context.invocation_metadata())
    print(json.dumps(question), flush=True)
    entries = [entry for each in question["descriptors"] for entry in each["entries"]]
    asked = next((value for key, value in reversed(entries) if key == "do"), "ok")
    if asked == "abort":
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    if asked == "hang":
        time.sleep(5)
    return ANSWERS.get(asked, ANSWERS["ok"])


def main():
    handler = grpc.method_handlers_generic_handler(
        "envoy.service.ratelimit.v3.RateLimitService",
        {"ShouldRateLimit": grpc.unary_unary_rpc_method_handler(limit_rate)},
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
