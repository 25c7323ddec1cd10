farmesh_fuzz(url SOURCES url_fuzz.cpp LINKS farmesh_http)
farmesh_fuzz(request SOURCES request_fuzz.cpp LINKS farmesh_http)
