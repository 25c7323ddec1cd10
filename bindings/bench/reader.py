"""As reader.cpp: nanoseconds of the reading thread for each piece."""

import sys
import time

from farlabs import DistributedModel, FarMesh

if len(sys.argv) == 2:
    stream = FarMesh(base_url=sys.argv[1], model="m").generate("x")
else:
    session = DistributedModel.open(sys.argv[2], local=True).open_session(buffer_tokens=500)
    stream = session.generate("Once", max_tokens=400, ignore_eos=True)
    while stream.usage()["finish_reason"] == "none":
        time.sleep(0.01)
pieces = 0
began = time.thread_time_ns()
for _ in stream:
    pieces += 1
print((time.thread_time_ns() - began) // pieces)
