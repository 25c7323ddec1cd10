farmesh_fuzz(frame SOURCES frame_fuzz.cpp LINKS farmesh_wire)
