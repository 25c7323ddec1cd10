farmesh_fuzz(join_token SOURCES join_token_fuzz.cpp LINKS farmesh_identity)
