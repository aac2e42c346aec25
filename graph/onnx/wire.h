#pragma once
// Protocol buffers' wire format, of which ONNX files are made: messages of numbered fields, nested by length.
// https://protobuf.dev/programming-guides/encoding

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/file.h"

namespace solder {

/// Bytes [begin, end) of a file.
struct ByteRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

/// A file read through a small window, so that weights are not held twice.
class ByteWindow {
 public:
  explicit ByteWindow(const ByteSource& source) : source_(source) {}
  const ByteSource& source() const { return source_; }

  uint8_t at(int64_t offset) {
    const int64_t place = offset - begin_;
    if (place < 0 || place >= std::ssize(bytes_)) [[unlikely]]
      return refill(offset);
    return bytes_[static_cast<size_t>(place)];
  }
  std::string text(ByteRange range);

 private:
  uint8_t refill(int64_t offset);

  const ByteSource& source_;
  std::vector<uint8_t> bytes_;
  int64_t begin_ = 0;
};

/// The fields of one message, in order. Error(io) with the byte where a length leaves the message, a number has
/// more than 64 bits, or a field is not of the kind that is asked for.
class WireReader {
 public:
  WireReader(ByteWindow& window, ByteRange message)
      : window_(window), at_(message.begin), end_(message.end) {}

  /// Goes to the next field; false at the message's end.
  bool next();
  int field() const { return field_; }

  int64_t integer() const;  ///< of the field, which is a varint
  float real() const;       ///< of 32 bits
  ByteRange bytes() const;  ///< a string's or message's
  std::string text() const { return window_.text(bytes()); }

  /// Calls take(int64_t) for what may stand there packed or one by one.
  template <class Take>
  void each_integer(Take take) const {
    if (type_ == kVarint) return take(static_cast<int64_t>(number_));
    ByteRange packed = bytes();
    while (packed.begin < packed.end) take(static_cast<int64_t>(varint(&packed.begin, packed.end)));
  }
  /// Likewise of fixed-size elements: their bytes.
  ByteRange fixed_elements(int elem_bytes) const;

 private:
  enum Type : uint8_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };
  uint64_t varint(int64_t* at, int64_t end) const;
  [[noreturn]] void fail_at(int64_t at, const std::string& what) const;

  ByteWindow& window_;
  int64_t at_, end_;
  int field_ = 0;
  uint8_t type_ = kVarint;
  uint64_t number_ = 0;
  ByteRange bytes_;
};

}  // namespace solder
