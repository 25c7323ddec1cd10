farmesh_fuzz(tokenizer_json SOURCES tokenizer_json_fuzz.cpp LINKS farmesh_text)
farmesh_fuzz(chat_template SOURCES chat_template_fuzz.cpp LINKS farmesh_text)
