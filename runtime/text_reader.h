#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace solder {

/// Takes the short text headers of file formats apart (JSON and Python literals), token by token, skipping
/// whitespace between tokens. Strict: whatever is not as expected is an Error(io) that names the file, the
/// byte, what was found and what was expected. It neither allocates nor recurses.
class TextReader {
 public:
  /// `text` lies `file_offset_bytes` into the file called `file`; all must outlive the reader.
  /// NOTE: json_string() decodes in place, so `text` is changed up to the current position.
  TextReader(std::span<char> text, const std::string& file, int64_t file_offset_bytes)
      : text_(text), file_(file), file_offset_bytes_(file_offset_bytes) {}

  bool consume(std::string_view token);  ///< takes `token` if it comes next
  void expect(std::string_view token);   ///< takes `token` or throws
  void expect_end();                     ///< throws unless only whitespace is left

  /// Between the items of a list: true past a comma, false past `close`.
  bool more(std::string_view close);

  /// A decimal integer in [0, 2^63 - 1], without sign, fraction, exponent or leading zeros.
  int64_t integer();

  /// A JSON string, escapes decoded, valid UTF-8. Points into the text.
  std::string_view json_string();

  /// A Python string in single or double quotes, without escapes. Points into the text.
  std::string_view python_string();

  size_t position() const { return position_; }
  void seek(size_t position) { position_ = position; }

  [[noreturn]] void fail_expected(std::string_view expected) const;

 private:
  void skip_space();
  bool at_end() const { return position_ == text_.size(); }
  std::string_view rest() const { return {text_.data() + position_, text_.size() - position_}; }
  void decode_escape(size_t* out);
  uint32_t hex4();

  std::span<char> text_;
  const std::string& file_;
  int64_t file_offset_bytes_;
  size_t position_ = 0;
};

/// True for well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool valid_utf8(std::string_view text);

/// `text` as a JSON string with its quotes.
std::string json_quote(std::string_view text);

/// `text` for an error message: quoted, control characters escaped, cut at about 100 bytes.
std::string quote_name(std::string_view text);

}  // namespace solder
