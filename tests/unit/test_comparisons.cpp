// Comparisons and selection: 1 or 0 in the operands' dtype, and values that pass bit for bit.

#include <map>

#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

constexpr float kInf = INFINITY;
const std::vector<float> kSpecial = {NAN,  -kInf,  kInf,  -0.0f,  0.0f,     1.0f,     -1.0f,
                                     2.5f, 1e-45f, 6e-5f, -6e-5f, 65504.0f, -65504.0f};

bool compared(const std::string& name, float a, float b) {
  if (name == "less") return a < b;
  if (name == "less_equal") return a <= b;
  if (name == "greater") return a > b;
  if (name == "greater_equal") return a >= b;
  if (name == "equal") return a == b;
  return !(a == b);
}

const char* const kNames[] = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"};

// Of tensors and numbers.
template <class A, class B>
Value compare(Graph& g, const std::string& name, A a, B b) {
  if (name == "less") return g.less(a, b);
  if (name == "less_equal") return g.less_equal(a, b);
  if (name == "greater") return g.greater(a, b);
  if (name == "greater_equal") return g.greater_equal(a, b);
  if (name == "equal") return g.equal(a, b);
  return g.not_equal(a, b);
}

}  // namespace

TEST_CASE("comparisons: every pair of special values, tensors and numbers, in each dtype") {
  const auto count = static_cast<int64_t>(kSpecial.size());
  for (const Device device : devices()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      Graph g;
      const Value a = g.input("a", {count, 1}, dtype), b = g.input("b", {count}, dtype);
      for (const char* name : kNames) {
        g.output(name, compare(g, name, a, b));
        for (size_t i = 0; i < kSpecial.size(); ++i) {
          g.output(name + std::to_string(i), compare(g, name, a, kSpecial[i]));
          g.output(std::to_string(i) + name, compare(g, name, kSpecial[i], b));
        }
      }
      const Tensor column = Tensor::from({count, 1}, kSpecial).to(dtype),
                   row = Tensor::from({count}, kSpecial).to(dtype);
      const TensorMap y = compile(g, {}, {.device = device}).session().run({{"a", column}, {"b", row}});
      for (const std::string name : kNames) {
        const Tensor& result = y.at(name);
        CHECK(result.dtype() == dtype);
        int wrong = 0;
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < count; ++j) {
            const float left = load_as_float(column.data(), dtype, i),
                        right = load_as_float(row.data(), dtype, j);
            const float number = kSpecial[static_cast<size_t>(j)];
            const Tensor& with_number = y.at(name + std::to_string(j));
            wrong += bits_of(load_as_float(result.data(), dtype, i * count + j)) !=
                     bits_of(compared(name, left, right) ? 1.0f : 0.0f);
            wrong += bits_of(load_as_float(with_number.data(), dtype, i)) !=
                     bits_of(compared(name, left, number) ? 1.0f : 0.0f);
            const Tensor& number_first = y.at(std::to_string(i) + name);
            wrong += bits_of(load_as_float(number_first.data(), dtype, j)) !=
                     bits_of(compared(name, kSpecial[static_cast<size_t>(i)], right) ? 1.0f : 0.0f);
          }
        }
        INFO(name, " on ", to_string(device));
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("where: either side bit for bit, by a condition that is not 0") {
  const auto count = static_cast<int64_t>(kSpecial.size());
  for (const Device device : devices()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
      for (const bool fuse : {true, false}) {
        Graph g;
        const Value c = g.input("c", {count, 1, 1}, dtype), a = g.input("a", {count, 1}, dtype),
                    b = g.input("b", {count}, dtype);
        g.output("y", g.where(c, a, b));
        g.output("self", g.where(a, a, a));
        const auto special = [&](const Shape& shape) { return Tensor::from(shape, kSpecial).to(dtype); };
        const Tensor ct = special({count, 1, 1}), at = special({count, 1}), bt = special({count});
        const TensorMap results =
            compile(g, {}, {.device = device, .fuse = fuse}).session().run({{"a", at}, {"b", bt}, {"c", ct}});
        const Tensor& y = results.at("y");
        CHECK(y.shape() == Shape{count, count, count});
        CHECK(same_bits(results.at("self"), at));
        int wrong = 0;
        for (int64_t i = 0; i < y.num_elems(); ++i) {
          const bool is_taken = load_as_float(ct.data(), dtype, i / count / count) != 0;
          const float expected = is_taken ? load_as_float(at.data(), dtype, i / count % count)
                                          : load_as_float(bt.data(), dtype, i % count);
          const float found = load_as_float(y.data(), dtype, i);
          wrong += bits_of(found) != bits_of(expected) && !(std::isnan(found) && std::isnan(expected));
        }
        INFO("fused ", fuse, " on ", to_string(device));
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("comparisons: dtypes and shapes that do not fit are refused; a mask chain is one node") {
  Graph g;
  const Value x = g.input("x", {4, 3}), half = g.input("half", {4, 3}, DType::float16),
              y = g.input("y", {2, 3});
  CHECK_ERROR(g.less(x, half), invalid_argument, "less_3", "float16", "cast");
  CHECK_ERROR(g.greater(x, y), shape_mismatch, "[4, 3]", "[2, 3]");
  CHECK_ERROR(g.where(x, half, half), invalid_argument, "where_3", "float16");
  CHECK_ERROR(g.where(x, x, y), shape_mismatch, "where_3", "[2, 3]");
  CHECK(g.nodes().size() == 3);  // as it was
  Graph chain;
  const Value a = chain.input("a", {4, 3}), b = chain.input("b", {4, 3});
  chain.output("y", chain.relu(chain.where(chain.greater(a, b), chain.mul(a, 2.0f), chain.neg(b))));
  const Model model = compile(chain, {}, {.device = Device::cpu()});
  CHECK(model.graph().nodes().size() == 3);
}
