farmesh_fuzz(product SOURCES product_fuzz.cpp LINKS farmesh_kernels)
