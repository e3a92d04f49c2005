"""Parses what origins received with h11 and httptools (llhttp); both must agree with our reader.

The file has a line for each connection: its bytes and the requests in them, one character per byte.
"""

import json
import sys

import h11
import httptools


def by_h11(data):
    """The requests of a connection; the last may lack a part of its body."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    requests = []
    while True:
        event = connection.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED):
            return requests
        if isinstance(event, h11.Request):
            fields = [[bytes(name).decode("latin-1"), bytes(value).decode("latin-1")]
                      for name, value in event.headers]
            requests.append(request(event.method, event.target, fields))
        elif isinstance(event, h11.Data):
            requests[-1]["body"] += bytes(event.data).decode("latin-1")
        elif isinstance(event, h11.EndOfMessage):
            requests[-1]["whole"] = True
            if connection.our_state is h11.SEND_RESPONSE:
                answer = h11.Response(status_code=200, headers=[("content-length", "0")])
                connection.send(answer)
                connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return requests
            connection.start_next_cycle()


class ByLlhttp:
    """The same with httptools."""

    def __init__(self, data):
        self.requests = []
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass

    def on_message_begin(self):
        self.requests.append(request(b"", b"", []))

    def on_url(self, url):
        self.requests[-1]["target"] += url.decode("latin-1")

    def on_header(self, name, value):
        self.requests[-1]["fields"].append([name.decode("latin-1"), value.decode("latin-1")])

    def on_headers_complete(self):
        self.requests[-1]["method"] = self.parser.get_method().decode("latin-1")

    def on_body(self, body):
        self.requests[-1]["body"] += body.decode("latin-1")

    def on_message_complete(self):
        self.requests[-1]["whole"] = True


def request(method, target, fields):
    return {
        "method": method.decode("latin-1"),
        "target": target.decode("latin-1"),
        "fields": fields,
        "body": "",
        "whole": False,
    }


def normal(requests):
    """Field names in lower case, and without a request whose head is not complete."""
    normal = []
    for one in requests:
        if one["method"]:
            fields = [[name.lower(), value.strip(" \t")] for name, value in one["fields"]]
            normal.append({**one, "fields": fields})
    return normal


def main(file):
    streams = requests = 0
    wrong = []
    for line in open(file, encoding="utf-8"):
        stream = json.loads(line)
        data = stream["bytes"].encode("latin-1")
        ours = normal(stream["requests"])
        streams += 1
        requests += len(ours)
        for name, read in (("h11", by_h11), ("httptools", lambda data: ByLlhttp(data).requests)):
            try:
                theirs = normal(read(data))
            except Exception as error:
                wrong.append(f"{name} refuses: {error!r}: {data[-600:]!r}")
                continue
            for place in range(max(len(ours), len(theirs))):
                if ours[place:place + 1] != theirs[place:place + 1]:
                    wrong.append(f"{name} differs: {ours[place:place + 1]} {theirs[place:place + 1]}")
                    break
    print(f"{requests} requests on {streams} connections read again: {len(wrong)} differ")
    for one in wrong:
        print(one)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
