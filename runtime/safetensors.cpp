#include "runtime/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <functional>
#include <iterator>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "runtime/check.h"
#include "runtime/file.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

static_assert(std::endian::native == std::endian::little,
              "both formats are read and written without byte swaps");

// | header length 8 | header: JSON, {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
// | data |
constexpr int64_t kPrefixBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::string_view kMetadata = "__metadata__";

struct FileDType {
  std::string_view name;
  int64_t bits;
  std::optional<DType> dtype = {};  // what solder reads it as
};

// clang-format off
constexpr FileDType kFileDTypes[] = {
    {"F32", 32, DType::float32}, {"F16", 16, DType::float16}, {"BF16", 16, DType::bfloat16},
    {"F64", 64}, {"C64", 64}, {"I64", 64}, {"U64", 64}, {"I32", 32}, {"U32", 32}, {"I16", 16}, {"U16", 16},
    {"I8", 8}, {"U8", 8}, {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
// clang-format on

// One tensor of the header. Kept small, and pointing into the header, so that a header full of empty tensors
// costs little more than its own bytes.
struct Entry {
  std::string_view name;
  const FileDType* dtype = nullptr;
  size_t shape_position = 0;
  int64_t begin_bytes = 0, end_bytes = 0;  // in the data section
};

std::string where(const ByteSource& source, const Entry& entry) {
  return str(source.name(), ": tensor ", quote_name(entry.name));
}

const FileDType* find_dtype(std::string_view name, const std::string& where) {
  const auto* const found = std::ranges::find(kFileDTypes, name, &FileDType::name);
  SOLDER_REQUIRE(found != std::end(kFileDTypes), io, where, ": ", quote_name(name),
                 " is not a safetensors dtype");
  return found;
}

Shape parse_shape(TextReader& text, const std::string& where) {
  Shape shape;
  text.expect("[");
  if (text.consume("]")) return shape;
  do {
    SOLDER_REQUIRE(shape.size() < kMaxFileRank, io, where, ": shape has more than ", kMaxFileRank, " axes");
    shape.push_back(text.integer());
  } while (text.more("]"));
  return shape;
}

// What stands after the tensor's name and colon.
void parse_entry(TextReader& text, const ByteSource& source, int64_t data_bytes, Entry* entry) {
  const std::string at = where(source, *entry);
  constexpr std::array<std::string_view, 3> kKeys = {"dtype", "shape", "data_offsets"};
  std::array<bool, 3> seen = {};
  Shape shape;
  text.expect("{");
  do {
    const std::string_view key = text.json_string();
    const size_t idx = std::ranges::find(kKeys, key) - kKeys.begin();
    SOLDER_REQUIRE(idx < kKeys.size(), io, at, ": unknown member ", quote_name(key),
                   "; dtype, shape and data_offsets belong there");
    SOLDER_REQUIRE(!seen[idx], io, at, ": ", key, " is given twice");
    seen[idx] = true;
    text.expect(":");
    if (idx == 0) {
      entry->dtype = find_dtype(text.json_string(), at);
    } else if (idx == 1) {
      entry->shape_position = text.position();
      shape = parse_shape(text, at);
    } else {
      text.expect("[");
      entry->begin_bytes = text.integer();
      text.expect(",");
      entry->end_bytes = text.integer();
      text.expect("]");
    }
  } while (text.more("}"));
  for (size_t idx = 0; idx < kKeys.size(); ++idx)
    SOLDER_REQUIRE(seen[idx], io, at, ": ", kKeys[idx], " is missing");

  const int64_t begin = entry->begin_bytes, end = entry->end_bytes;
  SOLDER_REQUIRE(begin <= end, io, at, ": data_offsets [", begin, ", ", end, "] end before they begin");
  SOLDER_REQUIRE(end <= data_bytes, io, at, ": data_offsets [", begin, ", ", end,
                 "] leave the file, whose data has ", data_bytes, " bytes: it is truncated or lies");
  const int64_t expected_bytes = claimed_bytes(shape, entry->dtype->bits, at);
  SOLDER_REQUIRE(end - begin == expected_bytes, io, at, ": shape ", to_string(shape), " of ",
                 entry->dtype->name, " takes ", expected_bytes, " bytes and its data_offsets [", begin, ", ",
                 end, "] span ", end - begin);
}

std::deque<Entry> parse_header(TextReader& text, const ByteSource& source, int64_t data_bytes) {
  std::deque<Entry> entries;  // not a vector: growing it would hold everything twice
  bool has_metadata = false;
  text.expect("{");
  if (!text.consume("}")) {
    do {
      Entry entry{.name = text.json_string()};
      text.expect(":");
      if (entry.name != kMetadata) {
        parse_entry(text, source, data_bytes, &entry);
        entries.push_back(entry);
        continue;
      }
      SOLDER_REQUIRE(!has_metadata, io, source.name(), ": __metadata__ is given twice");
      has_metadata = true;
      text.expect("{");
      if (text.consume("}")) continue;
      do {
        text.json_string();
        text.expect(":");
        text.json_string();
      } while (text.more("}"));
    } while (text.more("}"));
  }
  text.expect_end();
  return entries;
}

// Names are unique, and the tensors fill the data section one after the other. Leaves `entries` in that
// order.
void check_layout(std::deque<Entry>& entries, const ByteSource& source, int64_t data_bytes) {
  std::ranges::sort(entries, {}, &Entry::name);
  const auto twin = std::ranges::adjacent_find(entries, {}, &Entry::name);
  SOLDER_REQUIRE(twin == entries.end(), io, where(source, *twin), ": the name is given twice");
  // An empty tensor shares its offset with the one that follows it.
  std::ranges::sort(entries, {},
                    [](const Entry& entry) { return std::tuple(entry.begin_bytes, entry.end_bytes); });
  int64_t covered_bytes = 0;
  for (const Entry& entry : entries) {
    SOLDER_REQUIRE(entry.begin_bytes >= covered_bytes, io, where(source, entry), ": data_offsets [",
                   entry.begin_bytes, ", ", entry.end_bytes, "] overlap another tensor, which ends at ",
                   covered_bytes);
    SOLDER_REQUIRE(entry.begin_bytes == covered_bytes, io, where(source, entry),
                   ": a hole in front of it: bytes [", covered_bytes, ", ", entry.begin_bytes,
                   ") of the data belong to no tensor");
    covered_bytes = entry.end_bytes;
  }
  SOLDER_REQUIRE(covered_bytes == data_bytes, io, source.name(), ": ", data_bytes - covered_bytes,
                 " trailing bytes belong to no tensor: the header describes ", covered_bytes,
                 " bytes of data");
}

TensorMap read_safetensors(const ByteSource& source) {
  const std::string& path = source.name();
  SOLDER_REQUIRE(source.num_bytes() >= kPrefixBytes, io, path,
                 ": truncated: a .safetensors file has at least ", kPrefixBytes, " bytes, not ",
                 source.num_bytes());
  uint64_t claimed_header_bytes = 0;
  source.read(0, &claimed_header_bytes, kPrefixBytes);
  SOLDER_REQUIRE(claimed_header_bytes <= static_cast<uint64_t>(source.num_bytes() - kPrefixBytes), io, path,
                 ": truncated, or no .safetensors file: the header length says ", claimed_header_bytes,
                 " bytes and ", source.num_bytes() - kPrefixBytes, " follow it");
  const int64_t header_bytes = claimed_header_bytes;
  SOLDER_REQUIRE(header_bytes <= kMaxHeaderBytes, io, path, ": the header length says ", header_bytes,
                 " bytes; the format allows ", kMaxHeaderBytes);

  std::string header(header_bytes, '\0');
  source.read(kPrefixBytes, header.data(), header_bytes);
  SOLDER_REQUIRE(header.starts_with('{'), io, path, ": the header does not start with '{'");
  TextReader text(header, path, kPrefixBytes);
  const int64_t data_offset_bytes = kPrefixBytes + header_bytes;
  std::deque<Entry> entries = parse_header(text, source, source.num_bytes() - data_offset_bytes);
  check_layout(entries, source, source.num_bytes() - data_offset_bytes);

  TensorMap tensors;
  for (const Entry& entry : entries) {
    if (!entry.dtype->dtype) {
      tensors.left_out.emplace(entry.name, entry.dtype->name);
      continue;
    }
    text.seek(entry.shape_position);
    Tensor tensor = Tensor::empty(parse_shape(text, path), *entry.dtype->dtype);
    source.read(data_offset_bytes + entry.begin_bytes, tensor.data(), tensor.num_bytes());
    tensors.emplace(entry.name, std::move(tensor));
  }
  return tensors;
}

TensorMap read_checkpoint(std::span<const std::string> paths, const CheckpointOptions& options) {
  TensorMap tensors;
  for (const std::string& path : paths) tensors.merge(read_safetensors(FileSource(path)));
  tensors.strip_prefix(options.strip_prefix);
  return tensors;
}

}  // namespace

TensorMap load_safetensors(const std::string& path, const CheckpointOptions& options) try {
  return read_checkpoint({&path, 1}, options);
}
SOLDER_HOST_MEMORY("load_safetensors()")

TensorMap load_safetensors(const std::vector<std::string>& paths, const CheckpointOptions& options) try {
  return read_checkpoint(paths, options);
}
SOLDER_HOST_MEMORY("load_safetensors()")

TensorMap load_safetensors(std::initializer_list<std::string> paths, const CheckpointOptions& options) try {
  return read_checkpoint({paths.begin(), paths.size()}, options);
}
SOLDER_HOST_MEMORY("load_safetensors()")

TensorMap parse_safetensors(std::span<const std::byte> bytes, const std::string& name) try {
  return read_safetensors(MemorySource(bytes, name));
}
SOLDER_HOST_MEMORY("parse_safetensors()")

void save_safetensors(const std::string& path, const TensorMap& tensors) try {
  std::vector<TensorMap::const_pointer> ordered;
  for (const auto& named : tensors) {
    SOLDER_REQUIRE(named.first != kMetadata && valid_utf8(named.first), invalid_argument, path,
                   ": tensor name ", quote_name(named.first), " is reserved or not UTF-8");
    SOLDER_REQUIRE(named.second.shape().size() <= kMaxFileRank, unsupported, path, ": tensor ",
                   quote_name(named.first), " has more than ", kMaxFileRank, " axes");
    ordered.push_back(&named);
  }
  // Wider elements first keeps every tensor aligned; the reference puts BF16 before F16.
  std::ranges::stable_sort(ordered, std::ranges::greater(), [](const auto* named) {
    return std::tuple(size_of(named->second.dtype()), named->second.dtype() == DType::bfloat16);
  });

  std::string header = "{";
  int64_t begin_bytes = 0;
  for (const auto* named : ordered) {
    const auto& [name, tensor] = *named;
    const auto* const dtype = std::ranges::find(kFileDTypes, tensor.dtype(), &FileDType::dtype);
    header +=
        str(header.size() > 1 ? "," : "", json_quote(name), ":{\"dtype\":\"", dtype->name, "\",\"shape\":[");
    for (size_t axis = 0; axis < tensor.shape().size(); ++axis)
      header += str(axis > 0 ? "," : "", tensor.shape()[axis]);
    header += str("],\"data_offsets\":[", begin_bytes, ",", begin_bytes + tensor.num_bytes(), "]}");
    begin_bytes += tensor.num_bytes();
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  SOLDER_REQUIRE(std::ssize(header) <= kMaxHeaderBytes, invalid_argument, path,
                 ": the names need a header of ", header.size(), " bytes; the format allows ",
                 kMaxHeaderBytes);

  OutputFile file(path);
  const uint64_t header_bytes = header.size();
  file.write(&header_bytes, kPrefixBytes);
  file.write(header.data(), std::ssize(header));
  for (const auto* named : ordered) {
    const Tensor host = named->second.to(Device::cpu());  // one at a time
    file.write(host.data(), host.num_bytes());
  }
  file.commit();
}
SOLDER_HOST_MEMORY("save_safetensors()")

}  // namespace solder
