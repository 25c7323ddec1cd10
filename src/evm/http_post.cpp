#include "evm/http_post.hpp"

#include <memory>
#include <utility>

namespace farmesh::evm {

HttpPost http_post(http::Cancellation cancellation) {
  http::ClientOptions options;
  options.connect_timeout = kRpcTimeout / 4;  // so that an address that is dead leaves time
  options.read_timeout = kRpcTimeout;
  options.total_timeout = kRpcTimeout;
  options.max_body_bytes = kMaxRpcAnswerBytes;
  const auto client = std::make_shared<http::Client>(std::move(options));
  return [client, cancellation = std::move(cancellation)](
             const std::string& url, const std::string& body) -> Result<HttpAnswer> {
    http::ClientRequest request;
    request.method = "POST";
    request.url = url;
    request.headers = {{"Content-Type", "application/json"}, {"Accept", "application/json"}};
    request.body = body;
    Result<http::ClientReply> reply = client->send(request, cancellation);
    if (!reply) return std::move(reply).error();
    return HttpAnswer{reply->status, std::move(reply->body)};
  };
}

}  // namespace farmesh::evm
