#include "json.h"

#include <solder/solder.h>

#include <charconv>

namespace solder_triton {
namespace {

constexpr std::string_view kEscapes = "\"\\/bfnrt", kEscaped = "\"\\/\b\f\n\r\t";

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  JsonPaths read() {
    value("");
    skip_blanks();
    expect(at_ == text_.size(), "the end");
    return std::move(paths_);
  }

 private:
  void expect(bool is_there, const char* what) const {
    SOLDER_REQUIRE(is_there, invalid_argument, "a JSON text lacks ", what, " at byte ", at_);
  }

  void skip_blanks() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  bool take(char wanted) {
    skip_blanks();
    const bool is_there = at_ < text_.size() && text_[at_] == wanted;
    at_ += is_there;
    return is_there;
  }

  bool goes_on(char end) {
    if (take(',')) return true;
    expect(take(end), "a comma or an end");
    return false;
  }

  void value(const std::string& path) {
    if (take('{')) {
      for (bool more = !take('}'); more; more = goes_on('}')) {
        expect(take('"'), "a name");
        const std::string name = string();
        expect(take(':'), "a colon");
        value(path.empty() ? name : path + "." + name);
      }
    } else if (take('[')) {
      size_t count = 0;
      for (bool more = !take(']'); more; more = goes_on(']')) value(solder::str(path, "[", count++, "]"));
      paths_[path + "#"] = std::to_string(count);
    } else if (take('"')) {
      paths_[path] = string();
    } else {
      const size_t end = std::min(text_.find_first_of(",]} \t\r\n", at_), text_.size());
      expect(end > at_, "a value");
      paths_[path] = text_.substr(at_, end - at_);
      at_ = end;
    }
  }

  // What is between quotes, behind the first one.
  std::string string() {
    std::string result;
    while (true) {
      expect(at_ < text_.size(), "a quote");
      char c = text_[at_++];
      if (c == '"') return result;
      if (c == '\\') {
        expect(at_ < text_.size(), "an escape");
        const char escape = text_[at_++];
        c = escape == 'u' ? ascii() : kEscaped[std::min(kEscapes.find(escape), kEscaped.size() - 1)];
      }
      result += c;
    }
  }

  char ascii() {
    unsigned code = 0x80;
    const std::string_view digits = text_.substr(at_, 4);
    std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    expect(code < 0x80, "an escape of ASCII");
    at_ += digits.size();
    return static_cast<char>(code);
  }

  std::string_view text_;
  size_t at_ = 0;
  JsonPaths paths_;
};

}  // namespace

JsonPaths read_json(std::string_view text) { return JsonReader(text).read(); }

std::string json_string(std::string_view text) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    if (c >= 0 && c < ' ') {
      result += std::string("\\u00") + kDigits[c >> 4] + kDigits[c & 15];
    } else {
      if (c == '"' || c == '\\') result += '\\';
      result += c;
    }
  }
  return result + "\"";
}

}  // namespace solder_triton
