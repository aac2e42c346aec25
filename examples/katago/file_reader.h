#pragma once

#include <solder/solder.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace katago {

/// KataGo's files: words between blanks, and "@BIN@" in front of little-endian floats. Whatever is not as expected is an
/// Error(io) that names file and byte.
class FileReader {
 public:
  FileReader(std::string_view file, const std::string& path) : file_(file), path_(path) {}

  const std::string& path() const { return path_; }

  [[noreturn]] void fail(const std::string& expected) const {
    throw solder::Error(solder::ErrorKind::io, solder::str(path_, ": byte ", at_, ": expected ", expected));
  }

  std::string word() {
    skip_blanks();
    const size_t begin = at_;
    while (at_ < file_.size() && !is_blank(file_[at_]) && at_ - begin < kMaxWordBytes) ++at_;
    if (at_ == begin || at_ - begin == kMaxWordBytes) fail("a word");
    return std::string(file_.substr(begin, at_ - begin));
  }

  void expect(const std::string& wanted) {
    if (word() != wanted) fail(wanted);
  }

  void expect_end() {
    skip_blanks();
    if (at_ != file_.size()) fail("the end of the file");
  }

  std::vector<int64_t> integers(int count) {
    std::vector<int64_t> values;
    for (int i = 0; i < count; ++i) {
      const std::string text = word();
      int64_t value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size() || value < 0)
        fail("an integer, not " + text);
      values.push_back(value);
    }
    return values;
  }

  double number() {
    const std::string text = word();
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
      fail("a number, not " + text);
    return value;
  }

  /// As many as a tensor of this shape has; no memory is taken for more than the file holds.
  std::vector<float> floats(const solder::Shape& shape) {
    constexpr std::string_view kMark = "@BIN@";
    skip_blanks();
    if (!file_.substr(at_).starts_with(kMark)) fail(std::string(kMark));
    at_ += kMark.size();
    const size_t there = (file_.size() - at_) / sizeof(float);
    size_t count = 1;
    for (const int64_t extent : shape) {
      if (extent < 1 || static_cast<size_t>(extent) > there / count) fail(to_string(shape) + " floats");
      count *= static_cast<size_t>(extent);
    }
    std::vector<float> values(count);
    std::memcpy(values.data(), file_.data() + at_, count * sizeof(float));
    at_ += count * sizeof(float);
    for (const float value : values)
      if (!std::isfinite(value)) fail("finite weights before it");
    return values;
  }

 private:
  static constexpr size_t kMaxWordBytes = 1000;

  static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  void skip_blanks() {
    while (at_ < file_.size() && is_blank(file_[at_])) ++at_;
  }

  std::string_view file_;
  std::string path_;
  size_t at_ = 0;
};

}  // namespace katago
