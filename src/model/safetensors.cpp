// The safetensors header: names, dtypes, shapes and offsets, as a stranger wrote them.
//
// Parsed as a stream of events, so that a header of 100 MB costs its entries and no tree.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/model_folder.hpp"

namespace farmesh::model {
namespace {

constexpr std::size_t kMaxTensors = 1 << 20;
constexpr std::size_t kMaxNameBytes = 1024;
constexpr std::size_t kMaxRank = 8;

std::optional<DType> dtype_from(std::string_view name) {
  if (name == "F32") return DType::f32;
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::f16;
  if (name == "I8") return DType::i8;
  if (name == "U32") return DType::u32;
  return std::nullopt;
}

/// Handles nlohmann's parse events. The document is an object of tensors; "__metadata__" is an
/// object of strings, which are ignored.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<SafetensorsEntry> entries;
  Error error{Errc::model_malformed, "safetensors header is not JSON"};

  bool null() override { return unexpected(); }
  bool boolean(bool) override { return unexpected(); }
  bool number_integer(number_integer_t) override { return unexpected(); }
  bool number_float(number_float_t, const string_t&) override { return unexpected(); }
  bool binary(binary_t&) override { return unexpected(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (entry_.shape.size() == kMaxRank) return fail("has too many dimensions");
      entry_.shape.push_back(value);
      return true;
    }
    if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    return unexpected();
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::field || key_ != "dtype" || has_dtype_) return unexpected();
    const std::optional<DType> dtype = dtype_from(value);
    if (!dtype) {
      return fail("has dtype " + value.substr(0, 32) + ", which is not supported",
                  Errc::model_unsupported);
    }
    entry_.dtype = *dtype;
    has_dtype_ = true;
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::start) {
      place_ = Place::file;
      return true;
    }
    if (place_ != Place::file) return unexpected();
    place_ = key_ == "__metadata__" ? Place::metadata : Place::field;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::metadata) {
      place_ = Place::file;
    } else if (place_ == Place::field) {
      if (!has_dtype_ || !has_shape_ || offsets_ != 2) return fail("lacks a field");
      if (entries.size() == kMaxTensors) return fail("is one tensor too many");
      entries.push_back(std::move(entry_));
      place_ = Place::file;
    } else {
      place_ = Place::end;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::field) return unexpected();
    if (key_ == "shape" && !has_shape_) {
      place_ = Place::shape;
      has_shape_ = true;
      return true;
    }
    if (key_ == "data_offsets" && offsets_ == 0) {
      place_ = Place::offsets;
      return true;
    }
    return unexpected();
  }

  bool end_array() override {
    place_ = Place::field;
    return true;
  }

  bool key(string_t& key) override {
    key_ = key.substr(0, kMaxNameBytes + 1);
    if (place_ != Place::file) return true;
    entry_ = {};
    entry_.name = key_;
    has_dtype_ = has_shape_ = false;
    offsets_ = 0;
    return key_.size() <= kMaxNameBytes ? true : fail("has too long a name");
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  enum class Place { start, file, metadata, field, shape, offsets, end };

  bool fail(const std::string& problem, Errc code = Errc::model_malformed) {
    error = {code, "tensor '" + entry_.name.substr(0, 128) + "' " + problem};
    return false;
  }
  bool unexpected() { return fail("has a field that a safetensors header cannot hold"); }

  Place place_ = Place::start;
  std::string key_;
  SafetensorsEntry entry_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  int offsets_ = 0;
};

/// Elements times their size; nothing on overflow.
std::optional<std::uint64_t> byte_count(const SafetensorsEntry& entry) {
  std::uint64_t bytes = bytes_of(entry.dtype);
  for (const std::uint64_t size : entry.shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return bytes;
}

/// The tensors must fill the data section without gap or overlap.
Result<void> check_layout(const std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes) {
  const auto malformed = [](const SafetensorsEntry& entry, const char* problem) {
    return Error{Errc::model_malformed, "tensor '" + entry.name.substr(0, 128) + "' " + problem};
  };
  std::unordered_set<std::string_view> names;
  std::vector<const SafetensorsEntry*> by_place;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin > entry.end || entry.end > data_bytes) {
      return malformed(entry, "lies outside the file");
    }
    if (byte_count(entry) != entry.end - entry.begin) {
      return malformed(entry, "has a size that contradicts its dtype and shape");
    }
    if (!names.insert(entry.name).second) return malformed(entry, "is listed twice");
    by_place.push_back(&entry);
  }
  std::sort(by_place.begin(), by_place.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  std::uint64_t filled = 0;
  for (const SafetensorsEntry* entry : by_place) {
    if (entry->begin < filled) return malformed(*entry, "overlaps another tensor");
    if (entry->begin > filled) return malformed(*entry, "follows a hole in the file");
    filled = entry->end;
  }
  if (filled != data_bytes) {
    return {Errc::model_malformed, "the file goes on after its last tensor"};
  }
  return {};
}

}  // namespace

Result<std::vector<SafetensorsEntry>> parse_safetensors_header(std::string_view json,
                                                               std::uint64_t data_bytes) {
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    return {Errc::model_malformed, "safetensors header is too large"};
  }
  HeaderEvents events;
  if (!nlohmann::json::sax_parse(json, &events)) return events.error;
  if (Result<void> sound = check_layout(events.entries, data_bytes); !sound) return sound.error();
  return std::move(events.entries);
}

}  // namespace farmesh::model
