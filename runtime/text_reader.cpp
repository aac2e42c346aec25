#include "runtime/text_reader.h"

#include <array>
#include <charconv>

#include "runtime/check.h"

namespace solder {
namespace {

constexpr std::string_view kEscapeLetters = "\"\\/bfnrt";
constexpr std::string_view kEscapedChars = "\"\\/\b\f\n\r\t";

// UTF-8 takes at most as many bytes as the \u escape it replaces: 3 for 6, 4 for the 12 of a surrogate pair.
size_t encode_utf8(uint32_t code, char* out) {
  constexpr std::array<uint32_t, 4> kLeads = {0, 0xc0, 0xe0, 0xf0};  // by number of continuation bytes
  const size_t num_tails = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  for (size_t tail = num_tails; tail > 0; --tail, code >>= 6)
    out[tail] = static_cast<char>(0x80u | (code & 0x3fu));
  out[0] = static_cast<char>(kLeads[num_tails] | code);
  return num_tails + 1;
}

}  // namespace

void TextReader::skip_space() {
  while (!at_end() && std::string_view(" \t\n\r").find(text_[position_]) != std::string_view::npos)
    ++position_;
}

bool TextReader::consume(std::string_view token) {
  skip_space();
  if (!rest().starts_with(token)) return false;
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
  int64_t value = 0;
  const auto [end, error] = std::from_chars(rest().begin(), rest().end(), value);
  const std::string_view digits(rest().begin(), end);
  if (error != std::errc() || digits.starts_with('-') || (digits.size() > 1 && digits.starts_with('0')))
    fail_expected("an integer from 0 to 2^63 - 1");
  position_ += digits.size();
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
  const std::string_view digits = rest().substr(0, 4);
  uint32_t value = 0;
  const auto num_digits = std::from_chars(digits.begin(), digits.end(), value, 16).ptr - digits.begin();
  position_ += num_digits;
  if (num_digits < 4) fail_expected("four hexadecimal digits");
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
  const std::string found = at_end() ? "the end of the header" : quote_name(rest().substr(0, 24));
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
