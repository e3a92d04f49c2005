"""Talks WebSocket through a proxy, with the real client and the real server of `websockets`.

`talk.py serve` prints its port; `talk.py talk PORT` talks to that port.
The exit status is 0 if everything worked.
"""

import asyncio
import resource
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

MEGABYTE = 1 << 20
CONNECTIONS = 1000
AT_A_TIME = 100


async def answer(socket):
    try:
        async for message in socket:
            if message == "close with 4321":
                await socket.close(4321, "as you wish")
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass  # with a code of its own: the client looks at it


async def serve_forever():
    async with serve(answer, "127.0.0.1", 0, max_size=2 * MEGABYTE) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def echoes(socket, message):
    await socket.send(message)
    came = await socket.recv()
    assert came == message, f"{len(came)} of {len(message)} came back, or others"


async def all_kinds(uri):
    async with connect(uri, max_size=2 * MEGABYTE) as socket:
        await echoes(socket, "text, äöü ☃")
        await echoes(socket, b"")
        await echoes(socket, bytes(range(256)))
        for _ in range(5):
            await echoes(socket, b"\xa5" * MEGABYTE)
            await echoes(socket, "x" * MEGABYTE)
        latency = await asyncio.wait_for(await socket.ping(b"are you there"), 5)
        assert latency > 0


async def closed_by_the_server(uri):
    async with connect(uri) as socket:
        await socket.send("close with 4321")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4321, "as you wish"), closed
        else:
            raise AssertionError("it is still open")


async def closed_by_the_client(uri):
    socket = await connect(uri)
    await echoes(socket, "hello")
    await socket.close(4000, "enough")
    assert socket.close_code == 4000, socket.close_code


async def many_at_once(uri):
    sockets = []
    while len(sockets) < CONNECTIONS:
        sockets += await asyncio.gather(*(connect(uri) for _ in range(AT_A_TIME)))
    for message in ("I am {}", "I am still {}"):
        await asyncio.gather(*(echoes(s, message.format(i)) for i, s in enumerate(sockets)))
    await asyncio.gather(*(s.close() for s in sockets))
    assert all(s.close_code == 1000 for s in sockets)


async def talk(port):
    uri = f"ws://127.0.0.1:{port}/chat"
    for story in (all_kinds, closed_by_the_server, closed_by_the_client, many_at_once):
        await asyncio.wait_for(story(uri), 60)


_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
asyncio.run(serve_forever() if sys.argv[1] == "serve" else talk(int(sys.argv[2])))
