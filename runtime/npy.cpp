#include "runtime/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <iterator>
#include <string_view>

#include "runtime/check.h"
#include "runtime/divide.h"
#include "runtime/file.h"
#include "runtime/tensor_view.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

static_assert(std::endian::native == std::endian::little,
              "both formats are read and written without byte swaps");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr int64_t kMaxHeaderBytes = 65535;  // of version 1.0; a header of 64 axes takes under 2 KiB

// | magic 6 | major 1 | minor 1 | header length 2 (version 1) or 4 | header: a Python dict | data |
struct Header {
  DType dtype = DType::float32;
  bool fortran_order = false;
  Shape shape;
};

const char* descr_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return "<f4";
    case DType::float16: return "<f2";
    case DType::bfloat16: return "<V2";
  }
  return "?";
}

DType parse_descr(TextReader& text, const std::string& path) {
  constexpr const char* kRight =
      "float32 ('<f4'), float16 ('<f2') or bfloat16 ('<V2' of ml_dtypes): "
      "save array.astype('float32')";
  SOLDER_REQUIRE(!text.consume("["), unsupported, path, ": a structured dtype; solder reads ", kRight);
  const std::string_view descr = text.python_string();
  if (descr == "|V2") return DType::bfloat16;
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16})
    if (descr == descr_of(dtype)) return dtype;
  fail(ErrorKind::unsupported, str(path, ": dtype ", quote_name(descr), "; solder reads ", kRight));
}

Shape parse_shape(TextReader& text, const std::string& path) {
  Shape shape;
  text.expect("(");
  while (!text.consume(")")) {
    SOLDER_REQUIRE(shape.size() < kMaxFileRank, io, path, ": shape has more than ", kMaxFileRank, " axes");
    shape.push_back(text.integer());
    text.consume("L");  // Python 2 wrote long integers so
    // (3) is a number in Python: a tuple of one needs its comma.
    if (text.consume(",")) continue;
    if (shape.size() < 2) text.fail_expected("','");
    text.expect(")");
    break;
  }
  return shape;
}

Header parse_header(TextReader& text, const std::string& path) {
  constexpr std::array<std::string_view, 3> kKeys = {"descr", "fortran_order", "shape"};
  std::array<bool, 3> seen = {};
  Header header;
  text.expect("{");
  while (!text.consume("}")) {
    const std::string_view key = text.python_string();
    const size_t idx = std::ranges::find(kKeys, key) - kKeys.begin();
    SOLDER_REQUIRE(idx < kKeys.size(), io, path, ": the header has an unknown key ", quote_name(key),
                   "; descr, fortran_order and shape belong there");
    SOLDER_REQUIRE(!seen[idx], io, path, ": the header has ", key, " twice");
    seen[idx] = true;
    text.expect(":");
    if (idx == 0) {
      header.dtype = parse_descr(text, path);
    } else if (idx == 1) {
      header.fortran_order = text.consume("True");
      if (!header.fortran_order) text.expect("False");
    } else {
      header.shape = parse_shape(text, path);
    }
    if (!text.consume(",")) {
      text.expect("}");
      break;
    }
  }
  text.expect_end();
  for (size_t idx = 0; idx < kKeys.size(); ++idx)
    SOLDER_REQUIRE(seen[idx], io, path, ": the header lacks ", kKeys[idx]);
  return header;
}

// Reads the elements of `rows`, which the file holds with the first axis fastest, to their row-major places;
// a piece at a time, so that the array is not in memory twice.
void read_columns(const ByteSource& source, int64_t offset_bytes, const Tensor& rows) {
  const int64_t elem_bytes = size_of(rows.dtype());
  const Shape strides = dense_strides(rows.shape());
  Shape position(strides.size());
  std::array<char, 8192> piece;
  const int64_t piece_elems = std::ssize(piece) / elem_bytes;
  char* const to = static_cast<char*>(rows.data());
  int64_t to_idx = 0;
  for (int64_t idx = 0; idx < rows.num_elems(); ++idx) {
    const int64_t in_piece = idx % piece_elems;
    if (in_piece == 0)
      source.read(offset_bytes + idx * elem_bytes, piece.data(),
                  std::min(piece_elems, rows.num_elems() - idx) * elem_bytes);
    std::memcpy(to + to_idx * elem_bytes, piece.data() + in_piece * elem_bytes, elem_bytes);
    for (size_t axis = 0; axis < strides.size(); ++axis) {  // an odometer: the first axis is the fastest
      to_idx += strides[axis];
      if (++position[axis] < rows.shape()[axis]) break;
      to_idx -= strides[axis] * rows.shape()[axis];
      position[axis] = 0;
    }
  }
}

Tensor read_npy(const ByteSource& source) {
  const std::string& path = source.name();
  std::array<uint8_t, 12> prefix = {};
  source.read(0, prefix.data(), std::min<int64_t>(source.num_bytes(), std::ssize(prefix)));
  SOLDER_REQUIRE(std::memcmp(prefix.data(), kMagic.data(), kMagic.size()) == 0, io, path,
                 ": not an .npy file: it does not start with \\x93NUMPY");
  const int major = prefix[6], minor = prefix[7];
  SOLDER_REQUIRE(source.num_bytes() >= 8, io, path, ": truncated in its first 8 bytes");
  SOLDER_REQUIRE(major >= 1 && major <= 3 && minor == 0, io, path, ": .npy format version ", major, ".",
                 minor, "; solder reads 1.0, 2.0 and 3.0");
  const int64_t prefix_bytes = major == 1 ? 10 : 12;
  SOLDER_REQUIRE(source.num_bytes() >= prefix_bytes, io, path, ": truncated in its first ", prefix_bytes,
                 " bytes");
  int64_t header_bytes = prefix[8] | prefix[9] << 8;
  if (major > 1) header_bytes |= int64_t{prefix[10]} << 16 | int64_t{prefix[11]} << 24;
  SOLDER_REQUIRE(header_bytes <= source.num_bytes() - prefix_bytes, io, path,
                 ": truncated: the header length says ", header_bytes, " bytes and ",
                 source.num_bytes() - prefix_bytes, " follow it");
  SOLDER_REQUIRE(header_bytes <= kMaxHeaderBytes, io, path, ": the header length says ", header_bytes,
                 " bytes; at most ", kMaxHeaderBytes, " make sense");

  std::string header_text(header_bytes, '\0');
  source.read(prefix_bytes, header_text.data(), header_bytes);
  TextReader text(header_text, path, prefix_bytes);
  Header header = parse_header(text, path);

  const int64_t data_offset_bytes = prefix_bytes + header_bytes;
  const int64_t data_bytes = source.num_bytes() - data_offset_bytes;
  const int64_t expected_bytes = claimed_bytes(header.shape, size_of(header.dtype) * 8, path);
  SOLDER_REQUIRE(data_bytes == expected_bytes, io, path, ": ",
                 data_bytes < expected_bytes ? "truncated" : "trailing bytes", ": shape ",
                 to_string(header.shape), " of ", to_string(header.dtype), " takes ", expected_bytes,
                 " bytes and the file has ", data_bytes, " after its header");

  Tensor tensor = Tensor::empty(std::move(header.shape), header.dtype);
  if (header.fortran_order && tensor.shape().size() > 1)  // otherwise both orders are the same
    read_columns(source, data_offset_bytes, tensor);
  else
    source.read(data_offset_bytes, tensor.data(), data_bytes);
  return tensor;
}

}  // namespace

Tensor load_npy(const std::string& path) try { return read_npy(FileSource(path)); }
SOLDER_HOST_MEMORY("load_npy()")

Tensor parse_npy(std::span<const std::byte> bytes, const std::string& name) try {
  return read_npy(MemorySource(bytes, name));
}
SOLDER_HOST_MEMORY("parse_npy()")

void save_npy(const std::string& path, const Tensor& tensor) try {
  SOLDER_REQUIRE(tensor.shape().size() <= kMaxFileRank, unsupported, path, ": an .npy file takes at most ",
                 kMaxFileRank, " axes, not ", tensor.shape().size());
  std::string header = str("{'descr': '", descr_of(tensor.dtype()), "', 'fortran_order': False, 'shape': (");
  for (size_t axis = 0; axis < tensor.shape().size(); ++axis)
    header += str(axis > 0 ? " " : "", tensor.shape()[axis],
                  axis == 0 || axis + 1 < tensor.shape().size() ? "," : "");
  header += "), }";
  // The data starts at a multiple of 64 bytes, for those who map the file; the header ends with a newline.
  constexpr int64_t kPrefixBytes = 10, kAlignment = 64;
  const int64_t least_bytes = kPrefixBytes + std::ssize(header) + 1;
  header.resize(round_up(least_bytes, kAlignment) - kPrefixBytes - 1, ' ');
  header += '\n';
  const std::array<char, 4> version_and_length = {1, 0, static_cast<char>(header.size() & 255u),
                                                  static_cast<char>(header.size() >> 8)};
  const Tensor host = tensor.to(Device::cpu());
  OutputFile file(path);
  file.write(kMagic.data(), std::ssize(kMagic));
  file.write(version_and_length.data(), std::ssize(version_and_length));
  file.write(header.data(), std::ssize(header));
  file.write(host.data(), host.num_bytes());
  file.commit();
}
SOLDER_HOST_MEMORY("save_npy()")

}  // namespace solder
