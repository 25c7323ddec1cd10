"""Streams a fixed number of one-word pieces to whoever asks, as fast as they are taken."""

import contextlib
import socket
import sys
import threading

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
END = (
    b'data: {"id":"r","choices":[{"text":"","finish_reason":"length"}]}\n\n'
    b'data: {"id":"r","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,'
    b'"cost_far":"0.01"}}\n\ndata: [DONE]\n\n'
)
count = int(sys.argv[1])
pieces = b"".join(
    b'data: {"id":"r","choices":[{"index":0,"text":" word","finish_reason":null}]}\nid: r:%d\n\n' % n
    for n in range(1, count + 1)
)


def answer(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):  # who has read the end is gone
        client.recv(65536)
        client.sendall(HEAD + pieces + END % count)


listening = socket.create_server(("127.0.0.1", 0))
print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
while True:
    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()
