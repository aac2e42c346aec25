// Einsum against its definition: a loop over all letters, in double.

#include <map>

#include "graph/solder.h"
#include "tests/support/file_testing.h"
#include "tests/support/onnx_writer.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

using namespace onnx_testing;

OnnxNet parse(const std::string& equation, const std::vector<Shape>& shapes) {
  File file{.outputs = {value_info("y", {})}};
  std::vector<std::string> names;
  for (const Shape& shape : shapes) {
    names.push_back("x" + std::to_string(names.size()));
    file.inputs.push_back(value_info(names.back(), shape));
  }
  file.nodes = {node("Einsum", names, {"y"}, {{"equation", equation.c_str()}})};
  return parse_onnx(file_testing::as_bytes(file.bytes()));
}

// Of letters alone, with "->": terms[0..n-1] and the result last.
std::vector<double> by_definition(const std::vector<std::string>& terms, const std::vector<Tensor>& inputs,
                                  int64_t result_elems) {
  std::map<char, int64_t> extents, at;
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t axis = 0; axis < terms[i].size(); ++axis) extents[terms[i][axis]] = inputs[i].shape()[axis];
  const auto place = [&](const std::string& term) {
    int64_t offset = 0;
    for (const char letter : term) offset = offset * extents[letter] + at[letter];
    return static_cast<size_t>(offset);
  };
  std::vector<double> result(static_cast<size_t>(result_elems));
  for (bool is_left = true; is_left;) {
    double product = 1;
    for (size_t i = 0; i < inputs.size(); ++i) product *= double{inputs[i].floats()[place(terms[i])]};
    result[place(terms.back())] += product;
    is_left = false;
    for (const auto& [letter, extent] : extents) {
      if (++at[letter] < extent) {
        is_left = true;
        break;
      }
      at[letter] = 0;
    }
  }
  return result;
}

void check_einsum(const std::string& equation, const std::vector<Shape>& shapes,
                  const std::vector<std::string>& terms, const Shape& shape) {
  CAPTURE(equation);
  const OnnxNet net = parse(equation, shapes);
  std::vector<Tensor> inputs;
  TensorMap named;
  for (const Shape& each : shapes) {
    inputs.push_back(uniform(each, inputs.size() + 1));
    named["x" + std::to_string(named.size())] = inputs.back();
  }
  const Tensor y = compile(net.graph, net.weights, {.device = Device::cpu()}).session().run(named).at("y");
  REQUIRE(y.shape() == shape);
  const std::vector<double> want = by_definition(terms, inputs, y.num_elems());
  for (size_t i = 0; i < want.size(); ++i) CHECK(y.floats()[i] == doctest::Approx(want[i]).epsilon(1e-5));
}

}  // namespace

TEST_CASE("onnx einsum: sums, permutations, products") {
  check_einsum("ij->ji", {{2, 3}}, {"ij", "ji"}, {3, 2});
  check_einsum("ijk->k", {{2, 3, 4}}, {"ijk", "k"}, {4});
  check_einsum("ij->", {{2, 3}}, {"ij", ""}, {});
  check_einsum("ij,jk->ik", {{2, 3}, {3, 4}}, {"ij", "jk", "ik"}, {2, 4});
  check_einsum("bhid, bhjd -> bhij", {{2, 3, 4, 5}, {2, 3, 6, 5}}, {"bhid", "bhjd", "bhij"}, {2, 3, 4, 6});
  check_einsum("ijbd,jbd->bij", {{2, 3, 4, 5}, {3, 4, 5}}, {"ijbd", "jbd", "bij"}, {4, 2, 3});
  check_einsum("i,j->ji", {{2}, {3}}, {"i", "j", "ji"}, {3, 2});
  check_einsum("ij,ij->ij", {{2, 3}, {2, 3}}, {"ij", "ij", "ij"}, {2, 3});
  // A letter that one term alone has is summed before the product.
  check_einsum("ijk,jl->i", {{2, 3, 4}, {3, 5}}, {"ijk", "jl", "i"}, {2});
  check_einsum("ab,bc,cd->da", {{2, 3}, {3, 4}, {4, 5}}, {"ab", "bc", "cd", "da"}, {5, 2});
  check_einsum("ab,bc,bd->ad", {{2, 3}, {3, 4}, {3, 5}}, {"ab", "bc", "bd", "ad"}, {2, 5});
}

TEST_CASE("onnx einsum: a result that is not said, and axes without letters") {
  check_einsum("cb,ba", {{2, 3}, {3, 4}}, {"cb", "ba", "ac"}, {4, 2});
  check_einsum("b...a", {{2, 3, 4}}, {"bxa", "xab"}, {3, 4, 2});
  check_einsum("...ij,...jk->...ik", {{2, 5, 3, 4}, {2, 5, 4, 6}}, {"xyij", "xyjk", "xyik"}, {2, 5, 3, 6});
  check_einsum("...ij,...j->i...", {{2, 5, 3, 4}, {5, 4}}, {"xyij", "yj", "ixy"}, {3, 2, 5});
}

TEST_CASE("onnx einsum: what is refused") {
  CHECK_ERROR(parse("ii->i", {{3, 3}}), unsupported, "diagonal");
  CHECK_ERROR(parse("ij,jk->ik", {{2, 3}, {4, 5}}), unsupported, "extents 3 and 4");
  CHECK_ERROR(parse("i1,1j->ij", {{2, 3}, {3, 4}}), unsupported, "\"i1\"");
  CHECK_ERROR(parse("i..j->ij", {{2, 3}}), unsupported, "i..j");
  CHECK_ERROR(parse("ij->ik", {{2, 3}}), io, "makes k out of nothing");
  CHECK_ERROR(parse("ij", {{2, 3}, {3, 4}}), io, "1 terms for 2 inputs");
  CHECK_ERROR(parse("ij,jk,kl", {{2, 3}, {3, 4}}), io, "does not fit its inputs");
  CHECK_ERROR(parse("ijk->i", {{2, 3}}), io, "does not fit its inputs");
  CHECK_ERROR(parse("i->i", {{2, 3}}), io, "\"i\" is of [2, 3]");
}

}  // namespace solder::test
