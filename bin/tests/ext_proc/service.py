"""A processor: envoy.service.ext_proc.v3.ExternalProcessor, written with grpcio alone.

It prints its port, then one line of JSON for each message: what it was told. What it answers is said by the
metadata `do` of the stream; every part of a message that it does not mention is left as it is.
"""

import json
import pathlib
import sys
import time
from concurrent import futures

import grpc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "support"))
from protobuf import fields, first, message, struct  # noqa: E402

PARTS = {
    2: "request_headers",
    3: "response_headers",
    4: "request_body",
    5: "response_body",
    6: "request_trailers",
    7: "response_trailers",
}
NUMBERS = {name: number - 1 for number, name in PARTS.items()}


def header(key, value, *more):
    return message((1, message((1, key), (3, value.encode() if isinstance(value, str) else value))), *more)


def mutation(*headers, remove=()):
    return message(*((1, each) for each in headers), *((2, name) for name in remove))


def common(headers=None, body=None, clear_body=False, streamed=None, replace=False, clear_route=False):
    parts = []
    if replace:
        parts.append((1, 1))
    if headers is not None:
        parts.append((2, headers))
    if body is not None:
        parts.append((3, message((1, body))))
    if clear_body:
        parts.append((3, message((2, 1))))
    if streamed is not None:
        parts.append((3, message((3, streamed))))
    if clear_route:
        parts.append((5, 1))
    return message((1, message(*parts)))


def immediate(status, body="", headers=None, details="", grpc_status=None):
    parts = [(1, message((1, status)))]
    if headers is not None:
        parts.append((2, headers))
    if body:
        parts.append((3, body))
    if grpc_status is not None:
        parts.append((4, message((1, grpc_status))))
    if details:
        parts.append((5, details))
    return message((7, message(*parts)))


def mode(**parts):
    numbers = ["request_header", "response_header", "request_body", "response_body", "request_trailer", "response_trailer"]
    return message(*((1 + numbers.index(name), value) for name, value in parts.items()))


def upper(body):
    return {"body": body.upper()}


DENIED = immediate(
    429, "slow down", mutation(header("x-why", "you"), header("content-type", "text/html")), "too many of them"
)

# By what is to be done: the answers to parts, as arguments of `common`, or whole messages.
ANSWERS = {
    "change": {
        "request_headers": {
            "headers": mutation(
                header("x-set", "by-processor"),
                header("x-added", "2", (2, message((1, 1)))),
                header("x-absent", "1", (3, 1)),
                header("x-mine", "never", (3, 1)),
                remove=["x-gone"],
            )
        },
        "response_headers": {"headers": mutation(header("x-answer", "1"), remove=["server"])},
    },
    "path": {"request_headers": {"headers": mutation(header(":path", "/other")), "clear_route": True}},
    "route": {"request_headers": {"clear_route": True}},
    "value": {"request_headers": {"headers": mutation(message((1, message((1, "x-set"), (2, "text")))))}},
    "routing": {"request_headers": {"headers": mutation(header("host", "other"), header("x-envoy-a", "1"))}},
    "length": {"request_headers": {"headers": mutation(header("content-length", "3"))}},
    "inject": {"request_headers": {"headers": mutation(header("x-a", "b\r\nx-evil: 1"))}},
    "status": {"response_headers": {"headers": mutation(header(":status", "201"))}},
    "upper": {"request_body": upper, "response_body": upper},
    "clear": {"request_body": {"clear_body": True}, "response_body": {"clear_body": True}},
    "longer": {
        "request_headers": {"headers": mutation(remove=["content-length"])},
        "request_body": {"body": b"a longer body", "headers": mutation(header("x-body", "seen"))},
        "response_headers": {"headers": mutation(remove=["content-length"])},
        "response_body": {"body": b"a longer body", "headers": mutation(header("x-body", "seen"))},
    },
    "mismatch": {"request_body": {"body": b"a longer body"}},
    "trailers": {
        "request_trailers": mutation(header("x-trailer", "changed")),
        "response_trailers": mutation(header("x-trailer", "changed"), remove=["x-gone"]),
    },
    "replace": {
        "request_headers": {"replace": True, "body": b"another body"},
        "response_headers": {"replace": True, "body": b"another answer"},
    },
    "deny": {"request_headers": DENIED},
    "deny-grpc": {"request_headers": immediate(403, "no", grpc_status=7)},
    "deny-body": {"request_body": DENIED},
    "deny-response": {"response_headers": DENIED},
    "deny-response-body": {"response_body": DENIED},
    "plain": {"request_headers": immediate(0)},
    "spurious": {"request_headers": message((2, common()))},
    "nonsense": {"request_headers": b"\xff\xff"},
    "empty": {"request_headers": message()},
    "metadata": {
        "request_headers": message(
            (1, common()), (8, message((1, message((1, "mine"), (2, message((5, struct("who", "me")))))), (1, message((1, "theirs"), (2, message((5, struct("who", "them")))))))),
        )
    },
    "buffer": {"request_headers": message((1, common()), (9, mode(request_body=2, response_header=2)))},
    "blind": {"request_headers": message((1, common()), (9, mode(request_body=4)))},
    "partial": {
        "request_headers": message((1, common()), (9, mode(request_body=3, response_body=3))),
        "request_body": {"body": b"a longer body"},
        "response_headers": message((2, common()), (9, mode(response_body=3))),
        "response_body": {"body": b"a longer body"},
    },
    "partial-response": {
        "response_headers": message((2, common()), (9, mode(response_body=3))),
        "response_body": {"body": b"a longer body"},
    },
    "stretch": {"request_body": {"body": b"a longer body"}},
    "stretch-response": {"response_body": {"body": b"a longer body" * 100}},
    "head": {"request_headers": {"headers": mutation(header(":method", "HEAD")), "replace": True}},
    "get": {"request_headers": {"headers": mutation(header(":method", "GET")), "replace": True}},
    "blank": {"request_headers": {"headers": mutation(header(":path", "/a HTTP/1.1"))}},
    "no-path": {"request_headers": {"headers": mutation(header(":path", ""))}},
    "connection": {"request_headers": {"headers": mutation(header("connection", "x-a"), header("te", "gzip"))}},
    "say-3-and-abort": {"request_headers": {"headers": mutation(header("content-length", "3"))}},
    "say-3": {"request_headers": {"headers": mutation(header("content-length", "3"))}},
    "duplex": {"duplex": True},
}


def told(request, context):
    for number, value in fields(request):
        if number in PARTS:
            part = PARTS[number]
            break
    line = {"part": part, "metadata": dict(context.invocation_metadata())}
    if part.endswith("body"):
        line["body"] = first(value, 1).decode()
        line["size"] = len(line["body"])
    else:
        headers = [each for at, each in fields(first(value, 1)) if at == 1]
        line["headers"] = {first(each, 1).decode(): first(each, 3).decode() for each in headers}
        line["values"] = {first(each, 1).decode(): first(each, 2).decode() for each in headers if first(each, 2)}
    line["end"] = any(at == (2 if part.endswith("body") else 3) and each for at, each in fields(value))
    for name, number in (("attributes", 9), ("context", 8), ("protocol", 11)):
        found = [each for at, each in fields(request) if at == number]
        if found:
            line[name] = found[0].decode(errors="replace") if name != "protocol" else list(fields(found[0]))
    if any(at == 10 for at, _ in fields(request)):
        line["observes"] = True
    return line


def answer(line, asked):
    part = line["part"]
    found = ANSWERS.get(asked, {}).get(part, {})
    if callable(found):
        found = found(line["body"].encode())
    if isinstance(found, bytes):
        if part.endswith("trailers"):
            return message((NUMBERS[part], message((1, found))))
        return found
    if part.endswith("trailers"):
        return message((NUMBERS[part], message()))
    return message((NUMBERS[part], common(**found)))


def duplex(line):
    """In full duplex: the body, in upper case, and its end, whenever it likes."""
    part = line["part"]
    if not part.endswith("body"):
        return answer(line, "")
    streamed = message((1, line["body"].upper().encode()), (2, 1 if line["end"] else 0))
    return message((NUMBERS[part], common(streamed=streamed)))


def process(requests, context):
    asked = dict(context.invocation_metadata()).get("do", "")
    answered = False
    if asked == "deaf":
        time.sleep(60)
        return
    for request in requests:
        line = told(request, context)
        # A long line that nobody reads would fill the pipe.
        print(json.dumps(line | {"body": line.get("body", "")[:100]}), flush=True)
        part = line["part"]
        if asked == "abort":
            context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        if asked == "close":
            return
        if asked == "hang" or asked == f"hang-{part}":
            time.sleep(5)
        if asked == f"abort-{part}" or (asked == "say-3-and-abort" and part == "request_body"):
            context.abort(grpc.StatusCode.INTERNAL, "no more")
        if asked == "more-time":
            yield message((10, message((2, 900_000_000))))
            time.sleep(0.5)
        # These answer the headers when the body has begun, and nothing of the body.
        if asked in ("give-back", "let-go") and part.startswith("request"):
            if part == "request_body" and not answered:
                answered = True
                free = (common(), (9, mode())) if asked == "give-back" else (common(replace=True),)
                yield message((1, free[0]), *free[1:])
            continue
        if asked == "endless" and part == "request_body":
            if line["end"]:
                yield message((3, common(streamed=message((1, b"a"), (2, 1)))))
                for _ in range(200):
                    yield message((3, common(streamed=message((1, b"b")))))
            continue
        if asked == "last-word":
            yield answer(line, "change")
            return
        yield duplex(line) if asked == "duplex" else answer(line, asked)


def main():
    handler = grpc.method_handlers_generic_handler(
        "envoy.service.ext_proc.v3.ExternalProcessor",
        {"Process": grpc.stream_stream_rpc_method_handler(process)},
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
