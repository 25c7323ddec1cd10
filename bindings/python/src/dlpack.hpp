// How tensors lie in memory for programs that hand them on, as https://dmlc.github.io/dlpack has
// it: in the form without a version, and in that of version 1.
#pragma once

#include <cstdint>

namespace farlabs::dlpack {

struct Device {
  std::int32_t type;
  std::int32_t id;
};
inline constexpr std::int32_t kCpu = 1;
inline constexpr std::int32_t kPinned = 3;  // main memory that a GPU may read

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
inline constexpr std::uint8_t kFloat = 2;
inline constexpr std::uint8_t kBfloat = 4;

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: one row after the other
  std::uint64_t byte_offset;
};

struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};
inline constexpr const char* kName = "dltensor";
inline constexpr const char* kUsedName = "used_dltensor";

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};
inline constexpr const char* kVersionedName = "dltensor_versioned";
inline constexpr std::uint64_t kReadOnly = 1;

}  // namespace farlabs::dlpack
