farmesh_fuzz(node_record SOURCES node_record_fuzz.cpp LINKS farmesh_discovery)
farmesh_fuzz(bootstrap SOURCES bootstrap_fuzz.cpp LINKS farmesh_discovery)
