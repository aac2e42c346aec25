#pragma once
// The words of a line of a text graph, and what they can be: names, numbers, shapes, calls.

#include <solder/solder.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace solder_run {

/// `text` with `?` for each byte that is no character of UTF-8 or one that cannot be shown, such as a control: data
/// that neither a terminal nor a reader of JSON or XML takes for something else.
std::string printable(std::string_view text);

/// `text` for a message: quoted, printable, and not a page long.
std::string in_quotes(std::string_view text);

/// " (did you mean "mish"?)" when one of `names` is close to `word`: another case, a typing error or two,
/// more or fewer parts before a dot ("weight" and "conv.weight"), or its beginning; otherwise empty.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& names);

/// Whether `text` can name a tensor: what checkpoints call theirs, so anything visible, in UTF-8, but `#`, `=`
/// and `,`; at most 200 bytes.
bool is_name(std::string_view text);

/// The parts of `text` between any of `separators`; empty ones are left out.
std::vector<std::string_view> split(std::string_view text, std::string_view separators);

/// `line` without its comment, and without the blanks around `,` and `=`: then every blank is between words.
std::string compact(std::string_view line);

enum class Number {
  none,    ///< not a number
  beyond,  ///< a number that float32 cannot hold: 1e400, 1e-400
  fits
};
Number read_number(std::string_view text, float* value);
inline constexpr const char* kBeyondFloat = " is beyond float32, whose numbers go from 1.4e-45 to 3.4e38";

/// A whole number or a float, all of `text`; false when it is not one.
bool parse_number(std::string_view text, int64_t* value);
bool parse_number(std::string_view text, double* value);
inline bool parse_number(std::string_view text, float* value) {
  return read_number(text, value) == Number::fits;
}

/// Numbers with commas between them; at least one.
template <class T>
bool parse_numbers(std::string_view text, std::vector<T>* values) {
  values->clear();
  for (const std::string_view part : split(text, ",")) {
    values->push_back(0);
    if (!parse_number(part, &values->back())) return false;
  }
  // As many commas as there should be: ",4" and "4,,4" are typing errors.
  return !values->empty() && std::ranges::count(text, ',') == std::ssize(*values) - 1;
}

/// "1,3,224,224" as a shape; false when it is not one. "scalar" is rank 0.
bool parse_shape(std::string_view text, solder::Shape* shape);

/// Throws Error(invalid_argument), which parse_graph() gives a place.
[[noreturn]] void syntax_error(const std::string& message);

/// `NAME=OP ARGUMENT... [KEY=VALUE...]`, taken apart; every key must be taken before finish(). Points into the
/// line.
class Call {
 public:
  explicit Call(const std::vector<std::string_view>& words);

  std::string_view name() const { return name_; }
  std::string_view op() const { return op_; }
  const std::vector<std::string_view>& arguments() const { return arguments_; }
  /// `most` SIZE_MAX: any number from `least` on.
  void require_arguments(size_t least, size_t most) const;

  std::optional<std::string_view> take(std::string_view key);
  /// Error where the key is not given and there is no fallback.
  float take_float(std::string_view key, std::optional<float> fallback);
  int64_t take_integer(std::string_view key, std::optional<int64_t> fallback);
  /// As many whole numbers as one of `counts` says.
  std::vector<int64_t> take_integers(std::string_view key, std::optional<int64_t> fallback,
                                     const std::vector<size_t>& counts);
  /// Any number of them; `none` of none.
  std::vector<int64_t> take_list(std::string_view key, std::optional<std::vector<int64_t>> fallback);
  /// One finite number or up to `most`.
  std::vector<double> take_doubles(std::string_view key, double fallback, size_t most);
  /// 0 or 1.
  bool take_flag(std::string_view key, bool fallback);
  /// What stands for one of these words.
  template <class T>
  T take_word(std::string_view key, const T& fallback,
              const std::vector<std::pair<std::string_view, T>>& words) {
    const auto text = take(key);
    if (!text) return fallback;
    std::vector<std::string> known;
    for (const auto& [word, meaning] : words) {
      if (word == *text) return meaning;
      known.emplace_back(word);
    }
    unknown_word(key, *text, known);
  }
  void finish() const;

 private:
  [[noreturn]] void unknown_word(std::string_view key, std::string_view text,
                                 const std::vector<std::string>& known) const;

  std::string_view name_, op_;
  std::vector<std::string_view> arguments_;
  std::map<std::string_view, std::string_view> keys_;
  std::vector<std::string> known_keys_;  // those asked for
};

}  // namespace solder_run
