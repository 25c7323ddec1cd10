farmesh_fuzz(hub_answer SOURCES hub_answer_fuzz.cpp LINKS farmesh_weights)
