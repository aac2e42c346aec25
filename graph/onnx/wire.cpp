#include "graph/onnx/wire.h"

#include <algorithm>

#include "runtime/check.h"

namespace solder {
namespace {

constexpr int64_t kWindowBytes = 16 << 10;

}  // namespace

uint8_t ByteWindow::refill(int64_t offset) {
  const int64_t left = source_.num_bytes() - offset;
  SOLDER_REQUIRE(offset >= 0 && left > 0, io, source_.name(), ": ends before byte ", offset);
  bytes_.resize(static_cast<size_t>(std::min(left, kWindowBytes)));
  source_.read(offset, bytes_.data(), std::ssize(bytes_));
  begin_ = offset;
  return bytes_[0];
}

std::string ByteWindow::text(ByteRange range) {
  constexpr int64_t kMostBytes = 64 << 10;
  SOLDER_REQUIRE(range.size() <= kMostBytes, io, source_.name(), ": byte ", range.begin, ": a name of ",
                 range.size(), " bytes; there may be ", kMostBytes);
  std::string text(static_cast<size_t>(range.size()), '\0');
  for (size_t i = 0; i < text.size(); ++i)
    text[i] = static_cast<char>(at(range.begin + static_cast<int64_t>(i)));
  return text;
}

void WireReader::fail_at(int64_t at, const std::string& what) const {
  fail(ErrorKind::io,
       str(window_.source().name(), ": byte ", at, ": ", what, ": the file is truncated or no ONNX file"));
}

uint64_t WireReader::varint(int64_t* at, int64_t end) const {
  uint64_t number = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (*at >= end) fail_at(*at, "a number is cut off");
    const uint64_t byte = window_.at((*at)++);
    if (shift == 63 && byte > 1) break;
    number |= (byte & 0x7f) << shift;
    if (byte < 0x80) return number;
  }
  fail_at(*at, "a number has more than 64 bits");
}

bool WireReader::next() {
  if (at_ >= end_) return false;
  const int64_t start = at_;
  const uint64_t tag = varint(&at_, end_);
  if (tag >> 3 == 0 || tag >> 32 != 0) fail_at(start, str("a field's number is ", tag >> 3));
  field_ = static_cast<int>(tag >> 3);
  type_ = tag & 7;
  if (type_ == kVarint) {
    number_ = varint(&at_, end_);
    return true;
  }
  if (type_ != kLength && type_ != kFixed32 && type_ != kFixed64)
    fail_at(start, str("field ", field_, " has wire type ", int{type_}));
  const uint64_t length = type_ == kLength ? varint(&at_, end_) : type_ == kFixed32 ? 4 : 8;
  if (length > static_cast<uint64_t>(end_ - at_))
    fail_at(start, str("field ", field_, " claims ", length, " bytes and ", end_ - at_, " are left"));
  bytes_ = {at_, at_ + static_cast<int64_t>(length)};
  at_ = bytes_.end;
  return true;
}

int64_t WireReader::integer() const {
  if (type_ != kVarint) fail_at(at_, str("field ", field_, " is not a number"));
  return static_cast<int64_t>(number_);
}

float WireReader::real() const {
  if (type_ != kFixed32) fail_at(at_, str("field ", field_, " is not a float"));
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= uint32_t{window_.at(bytes_.begin + i)} << (8 * i);
  return std::bit_cast<float>(bits);
}

ByteRange WireReader::bytes() const {
  if (type_ != kLength) fail_at(at_, str("field ", field_, " is not a string or message"));
  return bytes_;
}

ByteRange WireReader::fixed_elements(int elem_bytes) const {
  if (type_ != kLength && type_ != (elem_bytes == 4 ? kFixed32 : kFixed64))
    fail_at(at_, str("field ", field_, " has no elements of ", elem_bytes, " bytes"));
  if (bytes_.size() % elem_bytes != 0)
    fail_at(at_, str("field ", field_, " has ", bytes_.size(), " bytes for elements of ", elem_bytes));
  return bytes_;
}

}  // namespace solder
