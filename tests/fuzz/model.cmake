farmesh_fuzz(safetensors SOURCES safetensors_fuzz.cpp LINKS farmesh_model)
farmesh_fuzz(model_config SOURCES model_config_fuzz.cpp LINKS farmesh_model)
farmesh_fuzz(manifest SOURCES manifest_fuzz.cpp LINKS farmesh_model)
