"""gRPC through a proxy, with the real client and the real server of `grpcio`: the cases of gRPC's own
interoperability tests, with plain bytes for messages.

`interop.py serve [CERTIFICATE KEY]` prints its port; `interop.py talk PORT [CERTIFICATE]` talks to that port.
The exit status is 0 if everything worked.
"""

import resource
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

SERVICE = "test.Interop"
LARGE_REQUEST, LARGE_ANSWER = 271_828, 314_159
SIZES_ASKED, SIZES_ANSWERED = (27_182, 8, 1_828, 45_904), (31_415, 9, 2_653, 58_979)
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
PARALLEL = 1000
PATIENCE = 20


# === The server ===


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    if "x-echo-initial" in metadata:
        context.send_initial_metadata((("x-echo-initial", metadata["x-echo-initial"]),))
    if "x-echo-trailing-bin" in metadata:
        trailing = (("x-echo-trailing-bin", metadata["x-echo-trailing-bin"]),)
        context.set_trailing_metadata(trailing)
    if "x-compress" in metadata:
        context.set_compression(grpc.Compression.Gzip)
    return answer(request, context)


def answer(request, context):
    """A request is a size to answer with, or `status CODE MESSAGE`, and padding."""
    words = request.rstrip(b".").decode()
    if words.startswith("status "):
        _, code, message = words.split(" ", 2)
        codes = {str(code.value[0]): code for code in grpc.StatusCode}
        context.abort(codes[code], message)
    return b"x" * int(words or 0)


def collect(requests, _):
    return str(sum(len(request) for request in requests)).encode()


def produce(request, context):
    for size in request.decode().split():
        yield b"x" * int(size)


def converse(requests, context):
    for request in requests:
        yield answer(request, context)


def sleep(requests, context):
    next(requests, None)
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(PATIENCE)
    yield b"late"


def serve(certificate=None, key=None):
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Produce": grpc.unary_stream_rpc_method_handler(produce),
        "Converse": grpc.stream_stream_rpc_method_handler(converse),
        "Sleep": grpc.stream_stream_rpc_method_handler(sleep),
    }
    # A stream that waits for its client takes a thread.
    server = grpc.server(futures.ThreadPoolExecutor(PARALLEL + 50))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    if certificate:
        pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


# === The client ===


class Client:
    def __init__(self, channel):
        def method(kind, name):
            return getattr(channel, kind)(f"/{SERVICE}/{name}")

        self.unary = method("unary_unary", "Unary")
        self.collect = method("stream_unary", "Collect")
        self.produce = method("unary_stream", "Produce")
        self.converse = method("stream_stream", "Converse")
        self.sleep = method("stream_stream", "Sleep")
        self.unknown = method("unary_unary", "Unknown")


def padded(size, length):
    return str(size).encode().ljust(length, b".")


def fails(call, code, details=None):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert details is None or error.details() == details, repr(error.details())
    else:
        raise AssertionError(f"it did not fail with {code}")


def empty_unary(client):
    assert client.unary(b"", timeout=PATIENCE) == b""


def large_unary(client):
    sent = padded(LARGE_ANSWER, LARGE_REQUEST)
    assert len(client.unary(sent, timeout=PATIENCE)) == LARGE_ANSWER


def client_streaming(client):
    requests = (b"x" * size for size in SIZES_ASKED)
    assert client.collect(requests, timeout=PATIENCE) == str(sum(SIZES_ASKED)).encode()


def server_streaming(client):
    asked = " ".join(map(str, SIZES_ANSWERED)).encode()
    sizes = tuple(len(piece) for piece in client.produce(asked, timeout=PATIENCE))
    assert sizes == SIZES_ANSWERED, sizes


def ping_pong(client):
    """Each request is sent when the answer to the one before has come."""
    go_on = threading.Semaphore(1)

    def requests():
        for size, length in zip(SIZES_ANSWERED, SIZES_ASKED):
            go_on.acquire(timeout=PATIENCE)
            yield padded(size, length)

    sizes = []
    for piece in client.converse(requests(), timeout=PATIENCE):
        sizes.append(len(piece))
        go_on.release()
    assert tuple(sizes) == SIZES_ANSWERED, sizes


def empty_stream(client):
    assert list(client.converse(iter(()), timeout=PATIENCE)) == []


def custom_metadata(client):
    metadata = (("x-echo-initial", "first"), ("x-echo-trailing-bin", b"\x00\xab\xff"))
    _, call = client.unary.with_call(b"1", metadata=metadata, timeout=PATIENCE)
    assert ("x-echo-initial", "first") in call.initial_metadata()
    assert ("x-echo-trailing-bin", b"\x00\xab\xff") in call.trailing_metadata()


def status_code_and_message(client):
    asked = b"status 2 test status message"
    fails(lambda: client.unary(asked, timeout=PATIENCE), grpc.StatusCode.UNKNOWN, "test status message")
    converse = lambda: list(client.converse(iter((b"3", asked)), timeout=PATIENCE))
    fails(converse, grpc.StatusCode.UNKNOWN, "test status message")


def special_status_message(client):
    asked = f"status 2 {SPECIAL}".encode()
    fails(lambda: client.unary(asked, timeout=PATIENCE), grpc.StatusCode.UNKNOWN, SPECIAL)


def unknown_method(client):
    fails(lambda: client.unknown(b"", timeout=PATIENCE), grpc.StatusCode.UNIMPLEMENTED)


def cancel_after_begin(client):
    waits = threading.Event()

    def requests():
        waits.wait(PATIENCE)
        yield from ()

    call = client.collect.future(requests(), timeout=PATIENCE)
    call.cancel()
    waits.set()
    assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED


def cancel_after_first_response(client):
    waits = threading.Event()

    def requests():
        yield padded(31_415, 27_182)
        waits.wait(PATIENCE)

    call = client.converse(requests(), timeout=PATIENCE)
    assert len(next(call)) == 31_415
    call.cancel()
    waits.set()
    fails(lambda: next(call), grpc.StatusCode.CANCELLED)


def timeout_on_sleeping_server(client):
    began = time.monotonic()
    call = lambda: list(client.sleep(iter((b"1",)), timeout=0.3))
    fails(call, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert time.monotonic() - began < PATIENCE / 2


def compressed(client):
    gzip, metadata = grpc.Compression.Gzip, (("x-compress", "yes"),)
    sent = padded(LARGE_ANSWER, LARGE_REQUEST)
    answered = client.unary(sent, compression=gzip, metadata=metadata, timeout=PATIENCE)
    assert len(answered) == LARGE_ANSWER


def many_streams_at_once(client):
    """All of them are open at the same time on one connection."""
    go_on = threading.Event()

    def requests():
        yield b"10"
        go_on.wait(3 * PATIENCE)
        yield b"20"

    calls = [client.converse(requests(), timeout=3 * PATIENCE) for _ in range(PARALLEL)]
    assert all(len(next(call)) == 10 for call in calls)
    go_on.set()
    assert all([len(piece) for piece in call] == [20] for call in calls)


STORIES = (
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unknown_method,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
    compressed,
    many_streams_at_once,
    empty_unary,  # the connection still works
)


def talk(port, certificate=None):
    target = f"127.0.0.1:{port}"
    if certificate:
        credentials = grpc.ssl_channel_credentials(Path(certificate).read_bytes())
        options = (("grpc.ssl_target_name_override", "a.test"),)
        channel = grpc.secure_channel(target, credentials, options)
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        client = Client(channel)
        for story in STORIES:
            began = time.monotonic()
            story(client)
            print(f"{story.__name__}: {time.monotonic() - began:.2f} s", flush=True)


_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
{"serve": serve, "talk": talk}[sys.argv[1]](*sys.argv[2:])
