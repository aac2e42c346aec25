// Tensors of ONNX files: types, and elements in any of the places where they may stand.

#include <sys/stat.h>

#include <bit>
#include <cstring>
#include <filesystem>

#include "graph/onnx/file.h"
#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

static_assert(std::endian::native == std::endian::little, "raw data is read without byte swaps");

struct TypeRow {
  OnnxType type;
  const char* name;
  int num_bytes;
};

constexpr TypeRow kTypes[] = {
    {OnnxType::float32, "float32", 4},  {OnnxType::uint8, "uint8", 1},   {OnnxType::int8, "int8", 1},
    {OnnxType::uint16, "uint16", 2},    {OnnxType::int16, "int16", 2},   {OnnxType::int32, "int32", 4},
    {OnnxType::int64, "int64", 8},      {OnnxType::boolean, "bool", 1},  {OnnxType::float16, "float16", 2},
    {OnnxType::float64, "float64", 8},  {OnnxType::uint32, "uint32", 4}, {OnnxType::uint64, "uint64", 8},
    {OnnxType::bfloat16, "bfloat16", 2}};

// Of those that solder does not read, by number; the first is string.
constexpr const char* kOtherTypes[] = {
    "string",     nullptr,      nullptr,        nullptr,          nullptr,      nullptr,          "complex64",
    "complex128", nullptr,      "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",
    "int4",       "float4e2m1", "float8e8m0",   "uint2",          "int2"};

const TypeRow* find(OnnxType type) {
  for (const TypeRow& row : kTypes)
    if (row.type == type) return &row;
  return nullptr;
}

template <class T>
T load_at(const std::vector<std::byte>& bytes, int64_t idx) {
  T value;
  std::memcpy(&value, bytes.data() + idx * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

int64_t integer_at(const std::vector<std::byte>& bytes, OnnxType type, int64_t idx) {
  switch (type) {
    case OnnxType::uint8: return load_at<uint8_t>(bytes, idx);
    case OnnxType::int8: return load_at<int8_t>(bytes, idx);
    case OnnxType::uint16: return load_at<uint16_t>(bytes, idx);
    case OnnxType::int16: return load_at<int16_t>(bytes, idx);
    case OnnxType::int32: return load_at<int32_t>(bytes, idx);
    case OnnxType::uint32: return load_at<uint32_t>(bytes, idx);
    case OnnxType::boolean: return load_at<uint8_t>(bytes, idx) != 0;
    default: return load_at<int64_t>(bytes, idx);
  }
}

double real_at(const std::vector<std::byte>& bytes, OnnxType type, int64_t idx) {
  if (type == OnnxType::float64) return load_at<double>(bytes, idx);
  return load_as_float(bytes.data(), *dtype_of(type), idx);
}

// Inside the folder of the model, as named or where links lead.
bool lies_beside(const std::filesystem::path& file, const std::filesystem::path& model) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path real = fs::canonical(file, error);
  if (error) return true;  // opening it says why
  const fs::path folder = model.has_parent_path() ? model.parent_path() : fs::path(".");
  for (const fs::path& allowed : {fs::canonical(folder, error), fs::canonical(model, error).parent_path()}) {
    if (error) return false;
    const fs::path inside = real.lexically_relative(allowed);
    if (!inside.empty() && *inside.begin() != "..") return true;
  }
  return false;
}

}  // namespace

std::string to_string(OnnxType type) {
  if (const TypeRow* const row = find(type)) return row->name;
  const auto idx = static_cast<size_t>(type) - static_cast<size_t>(OnnxType::string);
  const char* const name = idx < std::size(kOtherTypes) ? kOtherTypes[idx] : nullptr;
  return name != nullptr ? name : str("type ", static_cast<int>(type));
}

std::optional<DType> dtype_of(OnnxType type) {
  if (type == OnnxType::float32) return DType::float32;
  if (type == OnnxType::float16) return DType::float16;
  if (type == OnnxType::bfloat16) return DType::bfloat16;
  return {};
}

OnnxType onnx_type(DType dtype) {
  return dtype == DType::float32   ? OnnxType::float32
         : dtype == DType::float16 ? OnnxType::float16
                                   : OnnxType::bfloat16;
}

bool is_real(OnnxType type) { return dtype_of(type).has_value() || type == OnnxType::float64; }

bool is_integer(OnnxType type) { return find(type) != nullptr && !is_real(type); }

OnnxTensor OnnxFile::read_tensor(ByteRange message, const std::string& tensor_name) {
  OnnxTensor tensor{.message = message};
  WireReader fields(window_, message);
  while (fields.next()) {
    if (fields.field() == 1)
      fields.each_integer([&](int64_t extent) {
        SOLDER_REQUIRE(extent >= 0 && tensor.shape.size() < kMaxFileRank, io, name(), ": tensor ",
                       quote_name(tensor_name), " has an extent of ", extent, " or more than ", kMaxFileRank,
                       " axes");
        tensor.shape.push_back(extent);
      });
    if (fields.field() == 2) tensor.type = static_cast<OnnxType>(fields.integer());
    SOLDER_REQUIRE(fields.field() != 3, unsupported, name(), ": tensor ", quote_name(tensor_name),
                   " is stored in segments");
  }
  SOLDER_REQUIRE(find(tensor.type) != nullptr, unsupported, name(), ": tensor ", quote_name(tensor_name),
                 " is ", to_string(tensor.type));
  tensor.num_bytes = claimed_bytes(tensor.shape, int64_t{8} * find(tensor.type)->num_bytes,
                                   str(name(), ": tensor ", quote_name(tensor_name)));
  return tensor;
}

// Where a tensor's elements stand.
struct OnnxFile::Elements {
  int64_t num_elems = 0, num_bytes = 0;
  const ByteSource* source = nullptr;  // of those that lie as in memory; null: in fields, one by one
  int64_t offset_bytes = 0;
};

OnnxFile::Elements OnnxFile::find_elements(const OnnxTensor& tensor, const std::string& tensor_name) {
  const std::string where = str(name(), ": tensor ", quote_name(tensor_name));
  Elements found;
  found.num_bytes = tensor.num_bytes;
  found.num_elems = found.num_bytes / find(tensor.type)->num_bytes;
  WireReader fields(window_, tensor.message);
  std::map<std::string, std::string> external;
  bool is_external = false, has_raw = false;
  int64_t stored_bytes = 0;
  while (fields.next()) {
    if (fields.field() == 14) is_external = fields.integer() == 1;
    if (fields.field() == 13) {
      WireReader entry(window_, fields.bytes());
      std::string key, value;
      while (entry.next()) {
        if (entry.field() == 1) key = entry.text();
        if (entry.field() == 2) value = entry.text();
      }
      external[key] = value;
      SOLDER_REQUIRE(external.size() <= 16, io, where, ": has more than 16 words on its external data");
    }
    if (fields.field() != 9) continue;
    SOLDER_REQUIRE(!has_raw, io, where, ": has raw_data twice");
    has_raw = true;
    stored_bytes = fields.bytes().size();
    found.offset_bytes = fields.bytes().begin;
  }
  if (is_external) {
    find_external(external, where, &found);
  } else if (has_raw) {
    SOLDER_REQUIRE(stored_bytes == found.num_bytes, io, where, ": ", to_string(tensor.type), " ",
                   to_string(tensor.shape), " takes ", found.num_bytes, " bytes and raw_data has ",
                   stored_bytes);
    found.source = &window_.source();
  } else {
    SOLDER_REQUIRE(found.num_elems <= tensor.message.size(), io, where, ": ", to_string(tensor.shape),
                   " has ", found.num_elems, " elements; there are fewer");
  }
  return found;
}

void OnnxFile::find_external(const std::map<std::string, std::string>& entries, const std::string& where,
                             Elements* found) {
  namespace fs = std::filesystem;
  SOLDER_REQUIRE(!path_.empty(), unsupported, where, ": lies in another file, and this one is in memory");
  int64_t numbers[2] = {0, found->num_bytes};
  const char* const kNumbers[] = {"offset", "length"};
  for (int i = 0; i < 2; ++i) {
    const auto entry = entries.find(kNumbers[i]);
    if (entry == entries.end()) continue;
    const std::string& text = entry->second;
    SOLDER_REQUIRE(
        !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos, io,
        where, ": external ", kNumbers[i], " ", quote_name(text), " is no number");
    numbers[i] = std::stoll(text);
  }
  const auto location = entries.find("location");
  SOLDER_REQUIRE(location != entries.end() && !location->second.empty(), io, where,
                 ": external data without a location");
  const fs::path relative(location->second);
  bool climbs = relative.is_absolute() || location->second.find('\0') != std::string::npos;
  for (const fs::path& part : relative) climbs |= part == "..";
  const fs::path file = fs::path(path_).parent_path() / relative;
  SOLDER_REQUIRE(!climbs && lies_beside(file, path_), io, where, ": external data in ",
                 quote_name(location->second), ", which is not in the model's folder");
  std::unique_ptr<FileSource>& source = external_[relative.lexically_normal().string()];
  if (source == nullptr) source = std::make_unique<FileSource>(file.string());
  SOLDER_REQUIRE(numbers[1] == found->num_bytes, io, where, ": takes ", found->num_bytes,
                 " bytes; its external length is ", numbers[1]);
  SOLDER_REQUIRE(numbers[0] <= source->num_bytes() && found->num_bytes <= source->num_bytes() - numbers[0],
                 io, where, ": ", found->num_bytes, " bytes at byte ", numbers[0], " of ",
                 quote_name(location->second), ", which has ", source->num_bytes());
  found->source = source.get();
  found->offset_bytes = numbers[0];
}

// Elements in fields of their own type: float_data, int32_data, int64_data, double_data, uint64_data.
void OnnxFile::read_elements(const OnnxTensor& tensor, const Elements& found, const std::string& tensor_name,
                             void* out) {
  if (found.source != nullptr) return found.source->read(found.offset_bytes, out, found.num_bytes);
  const int elem_bytes = find(tensor.type)->num_bytes;
  const int field = tensor.type == OnnxType::float32                                     ? 4
                    : tensor.type == OnnxType::int64                                     ? 7
                    : tensor.type == OnnxType::float64                                   ? 10
                    : tensor.type == OnnxType::uint32 || tensor.type == OnnxType::uint64 ? 11
                                                                                         : 5;
  auto* to = static_cast<std::byte*>(out);
  int64_t count = 0;
  const auto too_many = [&] {
    fail(ErrorKind::io, str(name(), ": tensor ", quote_name(tensor_name), ": has more elements than ",
                            to_string(tensor.shape)));
  };
  WireReader fields(window_, tensor.message);
  while (fields.next()) {
    if (fields.field() != field) continue;
    if (field == 4 || field == 10) {
      const ByteRange bytes = fields.fixed_elements(elem_bytes);
      if (bytes.size() / elem_bytes > found.num_elems - count) too_many();
      window_.source().read(bytes.begin, to + count * elem_bytes, bytes.size());
      count += bytes.size() / elem_bytes;
    } else {
      fields.each_integer([&](int64_t each) {
        if (count == found.num_elems) too_many();
        std::memcpy(to + count++ * elem_bytes, &each, static_cast<size_t>(elem_bytes));
      });
    }
  }
  SOLDER_REQUIRE(count == found.num_elems, io, name(), ": tensor ", quote_name(tensor_name), ": ",
                 to_string(tensor.shape), " has ", found.num_elems, " elements; there are ", count);
}

Tensor OnnxFile::load(const OnnxTensor& tensor, const std::string& tensor_name) {
  const Elements found = find_elements(tensor, tensor_name);
  Tensor result = Tensor::empty(tensor.shape, *dtype_of(tensor.type));
  read_elements(tensor, found, tensor_name, result.data());
  return result;
}

OnnxConstant OnnxFile::load_constant(const OnnxTensor& tensor, const std::string& tensor_name) {
  const Elements found = find_elements(tensor, tensor_name);
  std::vector<std::byte> bytes(static_cast<size_t>(found.num_bytes));
  read_elements(tensor, found, tensor_name, bytes.data());
  OnnxConstant constant{.type = tensor.type, .shape = tensor.shape};
  for (int64_t i = 0; i < found.num_elems; ++i)
    if (constant.is_real())
      constant.reals.push_back(real_at(bytes, tensor.type, i));
    else
      constant.ints.push_back(integer_at(bytes, tensor.type, i));
  return constant;
}

}  // namespace solder
