"""A management server that does what it is told: `server.py PORT [CERTIFICATE KEY]`.

It prints what arrives, one JSON object a line, and reads what it is to do from its standard input, likewise:

    {"port": 1234}                                                  printed when it listens
    {"opened": 1, "method": "StreamSecrets", "metadata": {...}}     printed: a stream, with its number
    {"request": 1, "message": {...}}                                printed: a request on stream 1
    {"closed": 1}                                                   printed: stream 1 has ended
    {"send": 1, "message": {...}}                                   a response on stream 1
    {"end": 1, "code": "UNAVAILABLE", "text": "..."}                ends stream 1
    {"stopped": true}                                               printed: there are no streams any more
    {"stop": true}, {"start": true}                                 closes the port with all streams; opens it again

Messages are in protobuf's JSON. A resource with an `@type` that is not known is given as `{"type_url", "value"}`.
"""

import json
import queue
import sys
import threading
from concurrent import futures
from importlib import import_module
from itertools import count
from pathlib import Path
from pkgutil import walk_packages

import grpc
from google.protobuf import json_format

from envoy.service.discovery.v3 import discovery_pb2

SOTW = (discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse)
DELTA = (discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse)
SERVICES = {
    "discovery.v3.AggregatedDiscoveryService": "AggregatedResources",
    "cluster.v3.ClusterDiscoveryService": "Clusters",
    "endpoint.v3.EndpointDiscoveryService": "Endpoints",
    "listener.v3.ListenerDiscoveryService": "Listeners",
    "route.v3.RouteDiscoveryService": "Routes",
    "runtime.v3.RuntimeDiscoveryService": "Runtime",
    "secret.v3.SecretDiscoveryService": "Secrets",
}
END = object()

# So that the types in an Any are known.
PACKAGES = (
    "envoy.config.cluster",
    "envoy.config.endpoint",
    "envoy.config.listener",
    "envoy.config.route",
    "envoy.extensions.filters",
    "envoy.extensions.transport_sockets",
    "envoy.extensions.upstreams",
    "envoy.service.runtime",
)


def import_types():
    for name in PACKAGES:
        package = import_module(name)
        for module in walk_packages(package.__path__, f"{name}."):
            if module.name.endswith("_pb2"):
                import_module(module.name)


def say(event):
    with saying:
        print(json.dumps(event), flush=True)


def as_json(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def parse(message, kind):
    """Fills a response. A type that is not known comes with its bytes."""
    resources = message.pop("resources", [])
    response = json_format.ParseDict(message, kind())
    for resource in resources:
        any_resource = response.resources.add()
        if "type_url" in resource:
            any_resource.type_url = resource["type_url"]
            any_resource.value = bytes.fromhex(resource["value"])
        else:
            json_format.ParseDict(resource, any_resource)
    return response


class Streams(grpc.GenericRpcHandler):
    """Hands each stream to whoever holds the other end of the pipes."""

    def __init__(self):
        self.outgoing = {}

    def service(self, details):
        _, service, method = details.method.split("/")
        kind = SERVICES.get(service.removeprefix("envoy.service."))
        for prefix, (request, response) in (("Stream", SOTW), ("Delta", DELTA)):
            if kind and method == prefix + kind:
                return grpc.stream_stream_rpc_method_handler(
                    lambda requests, context: self.talk(method, response, requests, context),
                    request_deserializer=request.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
        return None

    def talk(self, method, response, requests, context):
        number = next(numbers)
        outgoing = self.outgoing[number] = queue.Queue()
        metadata = {name: value for name, value in context.invocation_metadata()}
        say({"opened": number, "method": method, "metadata": metadata})
        context.add_callback(lambda: outgoing.put(END))
        threading.Thread(target=self.listen, args=(number, requests), daemon=True).start()
        while (next_one := outgoing.get()) is not END:
            if "send" in next_one:
                yield parse(next_one["message"], response)
            else:
                context.abort(grpc.StatusCode[next_one["code"]], next_one["text"])
        say({"closed": number})

    def listen(self, number, requests):
        try:
            for request in requests:
                say({"request": number, "message": as_json(request)})
        except grpc.RpcError:
            pass  # The stream has ended.
        self.outgoing[number].put(END)


def start(streams, port, files):
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=64),
        handlers=[streams],
        options=[("grpc.so_reuseport", 0)],
    )
    address = f"127.0.0.1:{port}"
    if files:
        certificate, key = (Path(file).read_bytes() for file in files)
        port = server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port(address)
    server.start()
    return server, port


def main(port, *files):
    import_types()
    streams = Streams()
    server, port = start(streams, port, files)
    say({"port": port})
    for line in sys.stdin:
        order = json.loads(line)
        if "stop" in order:
            server.stop(None).wait()
            say({"stopped": True})
        elif "start" in order:
            server, _ = start(streams, port, files)
        else:
            streams.outgoing[order.get("send", order.get("end"))].put(order)
    server.stop(None)


numbers = count(1)
saying = threading.Lock()

if __name__ == "__main__":
    main(*sys.argv[1:])
