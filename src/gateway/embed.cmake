# cmake -DOUT=file.cpp -DPAGE=page.html -DOPENAPI=openapi.json -P embed.cmake: both as C++ text.
file(READ ${PAGE} page)
file(READ ${OPENAPI} openapi)
file(WRITE ${OUT} "#include \"gateway/embedded.hpp\"

namespace farmesh::gateway {

const std::string_view kPageHtml = R\"embedded(${page})embedded\";
const std::string_view kOpenApiJson = R\"embedded(${openapi})embedded\";

}  // namespace farmesh::gateway
")
