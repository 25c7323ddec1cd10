// The fields of an object of options, each with the type it must have.
#pragma once

#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "binding.hpp"

namespace farlabs {

/// Those that are undefined are left as they are. Throws TypeError.
class Fields {
 public:
  explicit Fields(const Napi::Value& value) : object_(value.As<Napi::Object>()) {}

  void read(const char* name, std::string& field) const {
    if (const auto value = given(name, &Napi::Value::IsString, "a string")) {
      field = value->As<Napi::String>();
    }
  }
  void read(const char* name, bool& field) const {
    if (const auto value = given(name, &Napi::Value::IsBoolean, "a boolean")) {
      field = value->As<Napi::Boolean>();
    }
  }
  void read(const char* name, std::vector<std::string>& field) const;
  void read(const char* name, float& field) const {
    if (const auto value = number(name)) field = float(*value);
  }
  void read(const char* name, std::chrono::milliseconds& field) const {
    std::int32_t value = std::int32_t(field.count());
    read_whole(name, value);
    field = std::chrono::milliseconds(value);
  }
  template <class Integer>
  void read_whole(const char* name, Integer& field) const {
    const auto value = number(name);
    if (!value) return;
    if (*value != std::floor(*value) || *value < double(std::numeric_limits<Integer>::min()) ||
        *value > double(std::numeric_limits<Integer>::max())) {
      refuse(name, "a whole number in its bounds");
    }
    field = Integer(*value);
  }
  void read(const char* name, std::optional<farmesh::Precision>& precision) const;

  [[noreturn]] void refuse(const char* name, const std::string& wanted) const {
    throw Napi::TypeError::New(object_.Env(), std::string(name) + " must be " + wanted);
  }

  const Napi::Object& object() const { return object_; }

 private:
  std::optional<Napi::Value> given(const char* name, bool (Napi::Value::*is)() const,
                                   const char* wanted) const {
    const Napi::Value value = object_.Get(name);
    if (value.IsUndefined()) return std::nullopt;
    if (!(value.*is)()) refuse(name, wanted);
    return value;
  }
  std::optional<double> number(const char* name) const {
    const auto value = given(name, &Napi::Value::IsNumber, "a number");
    if (!value) return std::nullopt;
    return double(value->As<Napi::Number>());
  }

  const Napi::Object object_;
};

/// Of a question to a FarMesh, as src/native.ts writes them.
farmesh::AskOptions ask_options(const Napi::Value& given);
/// Of a model that is opened here.
farmesh::ModelOptions model_options(const Napi::Value& given);

}  // namespace farlabs
