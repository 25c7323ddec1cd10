// Files of this folder as they are compiled in: page.html and openapi.json.
#pragma once

#include <string_view>

namespace farmesh::gateway {

extern const std::string_view kPageHtml;
extern const std::string_view kOpenApiJson;

}  // namespace farmesh::gateway
