#include "http/url.hpp"

#include <algorithm>
#include <charconv>

#include <arpa/inet.h>

namespace farmesh::http {
namespace {

constexpr std::size_t kMaxUrlBytes = 8 * 1024;
constexpr std::size_t kMaxParameters = 256;

bool is_alphanumeric(char c) noexcept {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// -1 for anything but a hexadecimal digit.
int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_host_name(std::string_view host) noexcept {
  return !host.empty() && host.size() <= 253 && std::ranges::all_of(host, [](char c) {
    return is_alphanumeric(c) || c == '-' || c == '.' || c == '_';
  });
}

Error bad_url(std::string detail) { return {Errc::invalid_argument, "URL: " + std::move(detail)}; }

/// Takes "host[:port]" apart into `url`.
Result<void> read_authority(std::string_view text, Url& url) {
  if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
    const auto user = percent_decode(text.substr(0, at));
    if (!user) return bad_url("the user's name cannot be decoded");
    url.user_info = *user;
    text.remove_prefix(at + 1);
  }
  std::size_t host_end = text.find(':');
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return bad_url("an address lacks its bracket");
    url.host = text.substr(1, bracket - 1);
    in6_addr address;
    if (inet_pton(AF_INET6, url.host.c_str(), &address) != 1) return bad_url("no IPv6 address");
    host_end = bracket + 1;
    if (host_end < text.size() && text[host_end] != ':') return bad_url("text after the address");
  } else {
    url.host = text.substr(0, host_end);
    if (!is_host_name(url.host)) return bad_url("no host name");
  }
  std::ranges::transform(url.host, url.host.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  url.port = url.secure() ? 443 : 80;
  if (host_end >= text.size()) return {};
  const std::string_view port = text.substr(host_end + 1);
  const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), url.port);
  if (problem != std::errc() || end != port.data() + port.size() || url.port == 0) {
    return bad_url("no port number");
  }
  return {};
}

/// The path without its last segment, for references relative to it.
std::string_view folder_of(std::string_view path) { return path.substr(0, path.rfind('/') + 1); }

}  // namespace

std::string Url::authority() const {
  std::string text = host.find(':') == std::string::npos ? host : "[" + host + "]";
  if (port != (secure() ? 443 : 80)) text += ":" + std::to_string(port);
  return text;
}

std::string Url::target() const { return query.empty() ? path : path + "?" + query; }

std::string Url::to_string() const { return scheme + "://" + authority() + target(); }

Result<Url> parse_url(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return bad_url("longer than 8 KB");
  Url url;
  const std::size_t colon = text.find("://");
  if (colon == std::string_view::npos) return bad_url("it must begin with http:// or https://");
  const std::string_view scheme = text.substr(0, colon);
  for (const char* known : {"http", "https"}) {
    const std::string_view name = known;
    const bool same = std::ranges::equal(
        scheme, name, [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
    if (same) url.scheme = name;
  }
  if (url.scheme.empty()) return bad_url("it must begin with http:// or https://");
  text.remove_prefix(colon + 3);
  text = text.substr(0, text.find('#'));

  const std::size_t authority_end = std::min(text.find_first_of("/?"), text.size());
  if (const auto read = read_authority(text.substr(0, authority_end), url); !read) {
    return read.error();
  }
  text.remove_prefix(authority_end);
  const std::size_t mark = std::min(text.find('?'), text.size());
  url.path = text.substr(0, mark);
  if (url.path.empty()) url.path = "/";
  if (mark < text.size()) url.query = text.substr(mark + 1);
  if (!is_sendable(url.path) || !is_sendable(url.query)) {
    return bad_url("a character that must be escaped, or a damaged escape");
  }
  return url;
}

Result<Url> resolve(const Url& base, std::string_view reference) {
  if (reference.find("://") < reference.find_first_of("/?#")) return parse_url(reference);
  if (reference.starts_with("//")) return parse_url(base.scheme + ":" + std::string(reference));
  const std::string root = base.scheme + "://" + base.authority();
  if (reference.starts_with('/')) return parse_url(root + std::string(reference));
  if (reference.starts_with('?')) return parse_url(root + base.path + std::string(reference));
  if (reference.empty() || reference.starts_with('#')) return base;
  return parse_url(root + std::string(folder_of(base.path)) + std::string(reference));
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < ' ' && c != '\t' && c != '\n') || byte == 127) return std::nullopt;
    out.push_back(c);
  }
  if (!is_utf8(out)) return std::nullopt;
  return out;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (is_alphanumeric(c) || std::string_view("-._~").find(c) != std::string_view::npos) {
      out.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
  }
  return out;
}

std::optional<std::string_view> Query::get(std::string_view name) const noexcept {
  for (const auto& [key, value] : parameters) {
    if (key == name) return value;
  }
  return std::nullopt;
}

std::optional<Query> parse_query(std::string_view text) {
  Query query;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    if (part.empty()) continue;
    if (query.parameters.size() == kMaxParameters) return std::nullopt;
    const std::size_t equals = std::min(part.find('='), part.size());
    auto name = percent_decode(part.substr(0, equals), true);
    auto value = percent_decode(part.substr(std::min(equals + 1, part.size())), true);
    if (!name || !value) return std::nullopt;
    query.parameters.emplace_back(std::move(*name), std::move(*value));
  }
  return query;
}

bool is_sendable(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] <= ' ' || text[i] >= 127) return false;
    if (text[i] != '%') continue;
    if (i + 2 >= text.size() || hex_value(text[i + 1]) < 0 || hex_value(text[i + 2]) < 0) {
      return false;
    }
  }
  return true;
}

bool is_utf8(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(text[i]));
  };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || i + length > text.size()) return false;
    unsigned code = lead & (0x7FU >> length);
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) return false;
      code = code << 6 | (byte(i + k) & 0x3F);
    }
    constexpr unsigned kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      return false;
    }
    i += length;
  }
  return true;
}

}  // namespace farmesh::http
