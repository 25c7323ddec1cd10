"""server.py PIECES: streams so many one-word pieces to whoever asks for the model "m", as fast as they are
taken; whoever asks for "paced" gets one each millisecond, which tells when it was sent."""

import contextlib
import socket
import sys
import threading
import time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
PIECE = b'data: {"id":"r","choices":[{"index":0,"text":"%s","finish_reason":null}]}\nid: r:%d\n\n'
END = (
    b'data: {"id":"r","choices":[{"text":"","finish_reason":"length"}]}\n\n'
    b'data: {"id":"r","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,'
    b'"cost_far":"0.01"}}\n\ndata: [DONE]\n\n'
)
PACED = 1000
count = int(sys.argv[1])
pieces = b"".join(PIECE % (b" word", n) for n in range(1, count + 1))


def pace(client: socket.socket) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for n in range(1, PACED + 1):
        time.sleep(0.001)
        client.sendall(PIECE % (b"%d" % time.monotonic_ns(), n))


def answer(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):  # who has read the end is gone
        paced = b'"paced"' in client.recv(65536)
        client.sendall(HEAD)
        if paced:
            pace(client)
        else:
            client.sendall(pieces)
        client.sendall(END % (PACED if paced else count))


listening = socket.create_server(("127.0.0.1", 0))
print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
while True:
    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()
