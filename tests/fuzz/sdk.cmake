farmesh_fuzz(sdk_reply SOURCES sdk_reply_fuzz.cpp LINKS farmesh_sdk)
