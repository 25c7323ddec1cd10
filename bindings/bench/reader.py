"""As reader.cpp: nanoseconds of the reading thread for each piece."""

import sys
import time

from farlabs import FarMesh

stream = FarMesh(base_url=sys.argv[1], model="m").generate("x")
pieces = 0
began = time.thread_time_ns()
for _ in stream:
    pieces += 1
print((time.thread_time_ns() - began) // pieces)
