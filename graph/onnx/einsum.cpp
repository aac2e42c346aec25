// Einsum, as sums, permutations and products of matrices.

#include <algorithm>
#include <cctype>
#include <map>

#include "graph/onnx/import.h"
#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

// A letter for each axis. The axes of "..." are the digits that end in 9, as they are aligned.
using Letters = std::string;

struct Term {
  Value value;
  Letters letters;
};

bool has(const Letters& letters, char letter) { return letters.find(letter) != Letters::npos; }

Letters letters_of(std::string text, size_t num_dots) {
  std::erase(text, ' ');
  const size_t dots = text.find("...");
  Letters letters = dots == std::string::npos ? text : text.replace(dots, 3, "");
  for (const char letter : letters)
    ONNX_REQUIRE(std::isalpha(static_cast<unsigned char>(letter)) && std::ranges::count(letters, letter) == 1,
                 quote_name(letters), " takes a diagonal or is no list of letters");
  ONNX_REQUIRE(num_dots <= 9, "\"...\" stands for ", num_dots, " axes");
  return dots == std::string::npos ? letters : letters.insert(dots, "123456789", 9 - num_dots, num_dots);
}

// x with its axes in the order of `wanted`, all of which it has; the others are summed up.
Term arranged(Graph& graph, Term x, const Letters& wanted) {
  std::vector<int> summed, order;
  Letters kept;
  for (size_t axis = 0; axis < x.letters.size(); ++axis)
    if (has(wanted, x.letters[axis]))
      kept += x.letters[axis];
    else
      summed.push_back(static_cast<int>(axis));
  if (!summed.empty()) x.value = graph.sum(x.value, summed);
  for (const char letter : wanted) order.push_back(static_cast<int>(kept.find(letter)));
  if (!std::ranges::is_sorted(order)) x.value = graph.permute(x.value, order);
  return {x.value, wanted};
}

class Einsum {
 public:
  explicit Einsum(OnnxCall& call) : call_(call), graph_(call.graph()) {
    const std::string equation = call.text("equation", "");
    const size_t arrow = equation.find("->");
    std::string left = equation.substr(0, arrow) + ",";
    for (size_t i = 0; !left.empty(); ++i, left.erase(0, left.find(',') + 1)) {
      const std::string text = left.substr(0, left.find(','));
      const auto num_letters = static_cast<size_t>(
          std::ranges::count_if(text, [](char each) { return each != ' ' && each != '.'; }));
      SOLDER_REQUIRE(i < call.num_inputs() && num_letters <= call.shape(i).size(), io, "equation ",
                     quote_name(equation), " does not fit its inputs");
      add_term(i, letters_of(text, call.shape(i).size() - num_letters));
    }
    SOLDER_REQUIRE(terms_.size() == call.num_inputs(), io, "equation ", quote_name(equation), " has ",
                   terms_.size(), " terms for ", call.num_inputs(), " inputs");
    size_t num_dots = 0;
    for (const auto& [letter, extent] : extents_) num_dots += letter <= '9';
    result_ =
        arrow == std::string::npos ? letters_seen_once() : letters_of(equation.substr(arrow + 2), num_dots);
    for (const char letter : result_)
      SOLDER_REQUIRE(extents_.contains(letter), io, "equation ", quote_name(equation), " makes ", letter,
                     " out of nothing");
  }

  Value run() {
    Term product = terms_[0];
    for (size_t i = 1; i < terms_.size(); ++i) {
      Letters later = result_;
      for (size_t j = i + 1; j < terms_.size(); ++j) later += terms_[j].letters;
      product = multiplied(product, terms_[i], later);
    }
    return arranged(graph_, product, result_).value;
  }

 private:
  void add_term(size_t i, const Letters& letters) {
    const Shape& shape = call_.shape(i);
    SOLDER_REQUIRE(letters.size() == shape.size(), io, quote_name(letters), " is of ", to_string(shape));
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      const int64_t extent = extents_.emplace(letters[axis], shape[axis]).first->second;
      ONNX_REQUIRE(extent == shape[axis], "an axis has extents ", extent, " and ", shape[axis]);
    }
    terms_.push_back({call_.value(i), letters});
  }

  // Without "->": "..." and then by the alphabet.
  Letters letters_seen_once() const {
    Letters once;
    for (const auto& extent : extents_) {
      const char letter = extent.first;
      const auto holds = [letter](const Term& term) { return has(term.letters, letter); };
      if (letter <= '9' || std::ranges::count_if(terms_, holds) == 1) once += letter;
    }
    return once;
  }

  Shape shape_of(const Letters& letters) const {
    Shape shape;
    for (const char letter : letters) shape.push_back(extents_.at(letter));
    return shape;
  }

  Term multiplied(const Term& a, const Term& b, const Letters& later) {
    Letters batch, summed, rows, columns;
    for (const char letter : a.letters) {
      if (has(b.letters, letter))
        (has(later, letter) ? batch : summed) += letter;
      else if (has(later, letter))
        rows += letter;
    }
    for (const char letter : b.letters)
      if (!has(a.letters, letter) && has(later, letter)) columns += letter;
    const int64_t count = num_elements(shape_of(batch)), m = num_elements(shape_of(rows)),
                  k = num_elements(shape_of(summed)), n = num_elements(shape_of(columns));
    const Value left = call_.reshape(arranged(graph_, a, batch + rows + summed).value, {count, m, k});
    const Value right = call_.reshape(arranged(graph_, b, batch + summed + columns).value, {count, k, n});
    const Value product = summed.empty() ? graph_.mul(left, right) : graph_.matmul(left, right);
    const Letters letters = batch + rows + columns;
    return {call_.reshape(product, shape_of(letters)), letters};
  }

  OnnxCall& call_;
  Graph& graph_;
  std::vector<Term> terms_;
  std::map<char, int64_t> extents_;
  Letters result_;
};

void einsum(OnnxCall& call) { call.give(Einsum(call).run()); }

constexpr OnnxRow kRows[] = {{"Einsum", "x...", "equation", einsum}};

}  // namespace

const std::span<const OnnxRow> kEinsumRows = kRows;

}  // namespace solder
