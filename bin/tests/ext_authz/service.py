"""An authorization service: envoy.service.auth.v3.Authorization, written with grpcio alone.

It prints its port, then one line of JSON for each call: the metadata and the fields of the request that the
stories read. What it answers is what the request asks for with `x-do`.
"""

import json
import pathlib
import sys
import time
from concurrent import futures

import grpc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "support"))
from protobuf import first, mapped, message, struct  # noqa: E402


def header(key, value, *more):
    return message((1, message((1, key), (2, value))), *more)


OVERWRITE, ADD_IF_ABSENT = (3, 2), (3, 1)
ADDED = (2, message((1, 1)))  # append: true


def allowed():
    ok = message(
        (2, header("x-set", "by-service", OVERWRITE)),
        (2, header("x-joined", "two", ADDED)),
        (2, header("x-absent", "1", ADD_IF_ABSENT)),
        (5, "x-gone"),
        (6, header("x-answer", "1")),
        (7, message((1, "q"), (2, "a b"))),
        (8, "r"),
    )
    return message((1, message()), (3, ok), (4, struct("who", "me")))


def denied():
    response = message(
        (1, message((1, 429))),
        (2, header("x-why", "you")),
        (2, header("set-cookie", "a=b")),
        (2, header("set-cookie", "c=d")),
        (3, "not you"),
    )
    return message((1, message((1, 7))), (2, response))


ANSWERS = {
    "": message((1, message())),
    "change": allowed(),
    "deny": denied(),
    "deny-plainly": message((1, message((1, 16)))),
    "fail": message((1, message((1, 13))), (5, message((1, message((1, 503)))))),
    "inject": message((1, message()), (3, message((2, header("x-in", "a\r\nx-evil: 1"))))),
    "garbage": b"\xff\xff\xff",
}


def check(request, context):
    http = first(request, 1, 4, 2)
    headers = mapped(http, 3)
    source = first(request, 1, 1)
    print(
        json.dumps(
            {
                "metadata": {k: v for k, v in context.invocation_metadata() if k != "user-agent"},
                "method": first(http, 2).decode(),
                "path": first(http, 4).decode(),
                "host": first(http, 5).decode(),
                "scheme": first(http, 6).decode(),
                "protocol": first(http, 10).decode(),
                "body": first(http, 11).decode() or first(http, 12).hex(),
                "headers": headers,
                "extensions": mapped(first(request, 1), 10),
                "principal": first(source, 4).decode(),
                "address": first(source, 1, 1, 2).decode(),
            }
        ),
        flush=True,
    )
    what = headers.get("x-do", "")
    if what == "hang":
        time.sleep(3)
        what = ""
    if what == "abort":
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
    return ANSWERS[what]


class Service(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/envoy.service.auth.v3.Authorization/Check":
            return grpc.unary_unary_rpc_method_handler(check)
        return None


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Service(),))
print(server.add_insecure_port(f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 0}"), flush=True)
server.start()
server.wait_for_termination()
