#include "text_line.h"

#include <algorithm>
#include <charconv>

namespace solder_run {
namespace {

using solder::str;

constexpr size_t kMaxNameBytes = 200;
constexpr size_t kMaxRank = 64;

// Bytes of the UTF-8 character that `text` starts with; 0 when there is none. Beyond ASCII, controls (to U+009F) are
// none, nor are U+FFFE and U+FFFF, which XML cannot have.
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  if (byte(0) < 0x80) return text.empty() ? 0 : 1;
  const size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  uint32_t code = byte(0) & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0xa0, 0x800, 0x10000};
  const bool is_none = (code >= 0xd800 && code < 0xe000) || code == 0xfffe || code == 0xffff;
  return byte(0) >= 0xc0 && code >= kLeast[length] && code <= 0x10ffff && !is_none ? length : 0;
}

bool is_visible(char c) { return c > ' ' && c != 0x7f; }

// Takes the character that `text` starts with; `?` for a byte that cannot be shown.
std::string_view take_shown(std::string_view* text) {
  const size_t length = character_bytes(*text);
  const bool is_shown = length > 1 || (length == 1 && (is_visible(text->front()) || text->front() == ' '));
  const std::string_view shown = is_shown ? text->substr(0, length) : "?";
  text->remove_prefix(std::max<size_t>(length, 1));
  return shown;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

// Letters to change, add or leave out (Levenshtein's distance).
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

template <class T>
bool parse_all(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

bool ends_with_part(const std::string& text, const std::string& end) {
  return text.size() > end.size() && text.ends_with(end) && text[text.size() - end.size() - 1] == '.';
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) result += take_shown(&text);
  return result;
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  while (!text.empty() && result.size() < 80) result += take_shown(&text);
  return result + (text.empty() ? "\"" : "...\"");
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& names) {
  const std::string wanted = lower(word);
  const std::string* best = nullptr;
  size_t least = std::max<size_t>(wanted.size() / 3, 1) + 1;  // more than that is another word
  for (const std::string& name : names) {
    const std::string candidate = lower(name);
    if (ends_with_part(candidate, wanted) || ends_with_part(wanted, candidate) ||
        (wanted.size() > 2 && candidate.starts_with(wanted))) {
      best = &name;
      break;
    }
    if (candidate.size() >= wanted.size() + least || wanted.size() >= candidate.size() + least) continue;
    const size_t changes = distance(candidate, wanted);
    if (changes >= std::min(least, candidate.size())) continue;
    least = changes;
    best = &name;
  }
  return best != nullptr ? " (did you mean " + in_quotes(*best) + "?)" : "";
}

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  while (!text.empty()) {
    const size_t length = character_bytes(text);
    if (length == 0 || (length == 1 && (!is_visible(text[0]) || text.find_first_of("#=,") == 0)))
      return false;
    text.remove_prefix(length);
  }
  return true;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t start = text.find_first_not_of(separators);
    if (start == std::string_view::npos) return parts;
    const size_t end = std::min(text.find_first_of(separators, start), text.size());
    parts.push_back(text.substr(start, end - start));
    text.remove_prefix(end);
  }
}

std::string compact(std::string_view line) {
  std::string result;
  bool was_blank = false;
  for (const char c : line.substr(0, line.find('#'))) {
    const bool is_blank = c == ' ' || c == '\t';
    const bool joins =
        c == ',' || c == '=' || (!result.empty() && (result.back() == ',' || result.back() == '='));
    if (was_blank && !is_blank && !joins) result += ' ';
    if (!is_blank) result += c;
    was_blank = is_blank;
  }
  return result;
}

Number read_number(std::string_view text, float* value) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (error == std::errc::invalid_argument || end != text.data() + text.size()) return Number::none;
  return error == std::errc() ? Number::fits : Number::beyond;
}

bool parse_number(std::string_view text, int64_t* value) { return parse_all(text, value); }
bool parse_number(std::string_view text, double* value) { return parse_all(text, value); }

bool parse_shape(std::string_view text, solder::Shape* shape) {
  std::vector<int64_t> extents;
  const bool is_list = text == "scalar" || (parse_numbers(text, &extents) && extents.size() <= kMaxRank);
  *shape = solder::Shape(extents.begin(), extents.end());
  return is_list && (extents.empty() || *std::min_element(extents.begin(), extents.end()) >= 0);
}

void syntax_error(const std::string& message) { solder::fail(solder::ErrorKind::invalid_argument, message); }

Call::Call(const std::vector<std::string_view>& words) {
  const size_t assignment = words[0].find('=');
  name_ = words[0].substr(0, assignment);
  op_ = words[0].substr(assignment + 1);
  for (size_t i = 1; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    if (equals == std::string_view::npos) {
      if (!keys_.empty()) syntax_error("argument " + in_quotes(words[i]) + " after KEY=VALUE: put it before");
      arguments_.push_back(words[i]);
      continue;
    }
    const std::string_view key = words[i].substr(0, equals);
    if (keys_.count(key)) syntax_error(in_quotes(key) + " is given twice");
    keys_[key] = words[i].substr(equals + 1);
  }
  for (const std::string_view argument : arguments_)
    if (argument.find(',') != std::string_view::npos)
      syntax_error(in_quotes(argument) + " is not an argument: blanks separate arguments, not commas");
}

void Call::require_arguments(size_t least, size_t most) const {
  if (arguments_.size() >= least && arguments_.size() <= most) return;
  syntax_error(str(op_, " takes ", least,
                   most == SIZE_MAX ? " or more"
                   : most > least   ? str(" or ", most)
                                    : "",
                   " argument", most > 1 ? "s" : "", ", not ", arguments_.size()));
}

std::optional<std::string_view> Call::take(std::string_view key) {
  known_keys_.emplace_back(key);
  const auto found = keys_.find(key);
  if (found == keys_.end()) return {};
  const std::string_view value = found->second;
  keys_.erase(found);
  return value;
}

float Call::take_float(std::string_view key, std::optional<float> fallback) {
  const auto text = take(key);
  if (!text && !fallback) syntax_error(str(op_, " needs ", key, "=NUMBER"));
  float value = fallback.value_or(0);
  const Number number = text ? read_number(*text, &value) : Number::fits;
  if (number != Number::fits)
    syntax_error(str(key, "=", in_quotes(*text), number == Number::none ? " is not a number" : kBeyondFloat));
  return value;
}

int64_t Call::take_integer(std::string_view key, std::optional<int64_t> fallback) {
  return take_integers(key, fallback, {1})[0];
}

std::vector<int64_t> Call::take_integers(std::string_view key, std::optional<int64_t> fallback,
                                         const std::vector<size_t>& counts) {
  const auto text = take(key);
  if (!text && !fallback) syntax_error(str(op_, " needs ", key, "=NUMBER"));
  if (!text) return {*fallback};
  std::vector<int64_t> values;
  if (!parse_numbers(*text, &values))
    syntax_error(
        str(key, "=", in_quotes(*text), " takes whole numbers, with commas where there are several"));
  for (const size_t count : counts)
    if (values.size() == count) return values;
  syntax_error(str(key, "=", in_quotes(*text), " has ", values.size(), " numbers"));
}

std::vector<int64_t> Call::take_list(std::string_view key, std::optional<std::vector<int64_t>> fallback) {
  const auto text = take(key);
  if (!text && !fallback) syntax_error(str(op_, " needs ", key, "=NUMBER,..."));
  if (!text) return *fallback;
  std::vector<int64_t> values;
  if (*text != "none" && !parse_numbers(*text, &values))
    syntax_error(str(key, "=", in_quotes(*text), " takes whole numbers with commas between them, or `none`"));
  return values;
}

std::vector<double> Call::take_doubles(std::string_view key, double fallback, size_t most) {
  const auto text = take(key);
  if (!text) return {fallback};
  std::vector<double> values;
  if (!parse_numbers(*text, &values))
    syntax_error(str(key, "=", in_quotes(*text), " takes a number, or ", most, " with commas between them"));
  if (values.size() > most) syntax_error(str(key, "=", in_quotes(*text), " has ", values.size(), " numbers"));
  return values;
}

bool Call::take_flag(std::string_view key, bool fallback) {
  return take_word<bool>(key, fallback, {{"0", false}, {"1", true}});
}

void Call::unknown_word(std::string_view key, std::string_view text,
                        const std::vector<std::string>& known) const {
  std::string list;
  for (const std::string& word : known) list += (list.empty() ? "" : ", ") + word;
  syntax_error(str(key, "=", in_quotes(text), " is none of ", list, did_you_mean(text, known)));
}

void Call::finish() const {
  if (keys_.empty()) return;
  std::string known;
  for (const std::string& key : known_keys_) known += (known.empty() ? "" : ", ") + key;
  syntax_error(str(op_, " has no ", in_quotes(keys_.begin()->first),
                   did_you_mean(keys_.begin()->first, known_keys_),
                   known.empty() ? ", nor any other KEY=VALUE" : "; it has " + known));
}

}  // namespace solder_run
