"""As reader.cpp; `reader.py async URL` reads the paced pieces in an event loop."""

import asyncio
import statistics
import sys
import time

from farlabs import DistributedModel, FarMesh


def computed(stream) -> int:
    pieces = 0
    began = time.thread_time_ns()
    for _ in stream:
        pieces += 1
    return (time.thread_time_ns() - began) // pieces


def made_before(folder: str):
    session = DistributedModel.open(folder, local=True).open_session(buffer_tokens=500)
    stream = session.generate("Once", max_tokens=400, ignore_eos=True)
    while stream.usage()["finish_reason"] == "none":
        time.sleep(0.01)
    return stream


def late(url: str) -> int:
    stream = FarMesh(base_url=url, model="paced").generate("x")
    return int(statistics.median([time.monotonic_ns() - int(text) for text in stream]))


async def late_in_a_loop(url: str) -> int:
    stream = FarMesh(base_url=url, model="paced").generate("x")
    return int(statistics.median([time.monotonic_ns() - int(text) async for text in stream]))


what, where = sys.argv[1:]
if what == "text":
    print(computed(FarMesh(base_url=where, model="m").generate("x")))
elif what == "tokens":
    print(computed(made_before(where)))
elif what == "late":
    print(late(where))
else:
    print(asyncio.run(late_in_a_loop(where)))
