#include "runtime/text_reader.h"

#include <array>

#include "runtime/check.h"

namespace solder {
namespace {

constexpr std::string_view kEscapeLetters = "\"\\/bfnrt";
constexpr std::string_view kEscapedChars = "\"\\/\b\f\n\r\t";

// UTF-8 takes at most as many bytes as the \u escape it replaces: 3 for 6, 4 for the 12 of a surrogate pair.
size_t encode_utf8(uint32_t code, char* out) {
  const auto put = [&](size_t idx, uint32_t byte) {
    out[idx] = static_cast<char>(static_cast<uint8_t>(byte));
  };
  const auto tail = [&](uint32_t shift) { return 0x80u | ((code >> shift) & 0x3fu); };
  if (code < 0x80) {
    put(0, code);
    return 1;
  }
  if (code < 0x800) {
    put(0, 0xc0u | (code >> 6)), put(1, tail(0));
    return 2;
  }
  if (code < 0x10000) {
    put(0, 0xe0u | (code >> 12)), put(1, tail(6)), put(2, tail(0));
    return 3;
  }
  put(0, 0xf0u | (code >> 18)), put(1, tail(12)), put(2, tail(6)), put(3, tail(0));
  return 4;
}

}  // namespace

void TextReader::skip_space() {
  while (!at_end() && std::string_view(" \t\n\r").find(text_[position_]) != std::string_view::npos)
    ++position_;
}

bool TextReader::consume(std::string_view token) {
  skip_space();
  if (!std::string_view(text_.data(), text_.size()).substr(position_).starts_with(token)) return false;
  position_ += token.size();
  return true;
}

void TextReader::expect(std::string_view token) {
  if (!consume(token)) fail_expected(str("'", token, "'"));
}

void TextReader::expect_end() {
  skip_space();
  if (!at_end()) fail_expected("nothing more");
}

bool TextReader::more(std::string_view close) {
  if (consume(",")) return true;
  if (!consume(close)) fail_expected(str("',' or '", close, "'"));
  return false;
}

int64_t TextReader::integer() {
  skip_space();
  const size_t begin = position_;
  int64_t value = 0;
  bool overflow = false;
  for (; !at_end() && text_[position_] >= '0' && text_[position_] <= '9'; ++position_) {
    overflow |= __builtin_mul_overflow(value, 10, &value);
    overflow |= __builtin_add_overflow(value, text_[position_] - '0', &value);
  }
  const size_t num_digits = position_ - begin;
  if (num_digits == 0 || overflow || (num_digits > 1 && text_[begin] == '0')) {
    position_ = begin;
    fail_expected("an integer from 0 to 2^63 - 1");
  }
  return value;
}

std::string_view TextReader::json_string() {
  expect("\"");
  const size_t begin = position_;
  size_t end = begin;  // of what is decoded
  for (;;) {
    if (at_end() || static_cast<uint8_t>(text_[position_]) < 0x20) fail_expected("the rest of a string");
    const char next = text_[position_++];
    if (next == '"') break;
    if (next == '\\')
      decode_escape(&end);
    else
      text_[end++] = next;
  }
  const std::string_view decoded(text_.data() + begin, end - begin);
  SOLDER_REQUIRE(valid_utf8(decoded), io, file_, ": the string at byte ", file_offset_bytes_ + begin,
                 " is not UTF-8");
  return decoded;
}

void TextReader::decode_escape(size_t* end) {
  const size_t letter = at_end() ? std::string_view::npos : kEscapeLetters.find(text_[position_]);
  if (letter != std::string_view::npos) {
    ++position_;
    text_[(*end)++] = kEscapedChars[letter];
    return;
  }
  if (at_end() || text_[position_] != 'u') fail_expected("one of \"\\/bfnrtu after a backslash");
  ++position_;
  uint32_t code = hex4();
  if (code >= 0xd800 && code <= 0xdfff) {  // UTF-16: a high surrogate, then a low one
    const bool high = code <= 0xdbff && position_ + 1 < text_.size() && text_[position_] == '\\' &&
                      text_[position_ + 1] == 'u';
    if (!high) fail_expected("a pair of surrogates");
    position_ += 2;
    const uint32_t low = hex4();
    if (low < 0xdc00 || low > 0xdfff) fail_expected("a pair of surrogates");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  *end += encode_utf8(code, text_.data() + *end);
}

uint32_t TextReader::hex4() {
  uint32_t value = 0;
  for (int digit = 0; digit < 4; ++digit, ++position_) {
    const char next = at_end() ? '\0' : text_[position_];
    if (next >= '0' && next <= '9')
      value = value * 16 + static_cast<uint32_t>(next - '0');
    else if ((next | 0x20) >= 'a' && (next | 0x20) <= 'f')
      value = value * 16 + static_cast<uint32_t>((next | 0x20) - 'a' + 10);
    else
      fail_expected("four hexadecimal digits");
  }
  return value;
}

std::string_view TextReader::python_string() {
  const std::string_view quote = consume("'") ? "'" : "\"";
  if (quote == "\"") expect(quote);
  const size_t begin = position_;
  while (!at_end() && text_[position_] != quote[0] && text_[position_] != '\\') ++position_;
  if (at_end() || text_[position_] == '\\') fail_expected("a string without escapes");
  return {text_.data() + begin, position_++ - begin};
}

void TextReader::fail_expected(std::string_view expected) const {
  const std::string_view rest(text_.data() + position_, text_.size() - position_);
  const std::string found = rest.empty() ? "the end of the header" : quote_name(rest.substr(0, 24));
  fail(ErrorKind::io, str(file_, ": malformed header at byte ", file_offset_bytes_ + position_, ": expected ",
                          expected, ", found ", found));
}

bool valid_utf8(std::string_view text) {
  constexpr std::array<uint32_t, 4> kSmallest = {0, 0x80, 0x800, 0x10000};  // by number of continuation bytes
  for (size_t idx = 0; idx < text.size();) {
    const uint32_t lead = static_cast<uint8_t>(text[idx++]);
    if (lead < 0x80) continue;
    const size_t num_tails = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc0 || lead > 0xf4 || text.size() - idx < num_tails) return false;
    uint32_t code = lead & (0x3fu >> num_tails);
    for (size_t tail = 0; tail < num_tails; ++tail) {
      const uint32_t byte = static_cast<uint8_t>(text[idx++]);
      if ((byte & 0xc0u) != 0x80u) return false;
      code = (code << 6) | (byte & 0x3fu);
    }
    if (code < kSmallest[num_tails] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
  }
  return true;
}

std::string json_quote(std::string_view text) {
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  std::string out = "\"";
  for (const char next : text) {
    const size_t letter = next == '/' ? std::string_view::npos : kEscapedChars.find(next);
    if (letter != std::string_view::npos) {
      out += '\\';
      out += kEscapeLetters[letter];
    } else if (static_cast<uint8_t>(next) < 0x20) {
      out += "\\u00";
      out += kHexDigits[static_cast<uint8_t>(next) >> 4];
      out += kHexDigits[static_cast<uint8_t>(next) & 15u];
    } else {
      out += next;
    }
  }
  return out += '"';
}

std::string quote_name(std::string_view text) {
  constexpr size_t kMaxBytes = 100;
  size_t end = text.size();
  if (end > kMaxBytes) {
    end = kMaxBytes;
    while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0u) == 0x80u) --end;  // not inside a character
  }
  std::string quoted = json_quote(text.substr(0, end)) + (end < text.size() ? "..." : "");
  if (!valid_utf8(quoted))
    for (char& next : quoted)
      if (static_cast<uint8_t>(next) >= 0x80) next = '?';
  return quoted;
}

}  // namespace solder
