// Elementwise work on tensors around and beyond 2^31 and 2^32 elements, checked to the last element.

#include "tests/cases/huge.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

// GPU_TEST_CASE, skipped also on a card with less memory.
#define HUGE_TEST_CASE(name, gigabytes) \
  TEST_CASE("[gpu] huge: " name* doctest::skip(!has_gpu() || gpu_bytes() < int64_t{gigabytes} << 30))

namespace {

int64_t gpu_bytes() { return device_info(Device::cuda(0)).total_bytes; }

#if SOLDER_WITH_CUDA
constexpr int64_t k2To31 = int64_t{1} << 31, k2To32 = int64_t{1} << 32;

// Runs the graph with every input filled and every output poisoned, and checks all outputs.
void check_graph(const Graph& graph, const HugeCheck& check, bool fuse = true) {
  Session session = compile(graph, {}, {.device = Device::cuda(0), .fuse = fuse}).session();
  for (const Node& node : graph.nodes()) {
    if (node.kind != NodeKind::input) continue;
    const Tensor x = session.input(node.name);
    fill_huge(x.data(), x.dtype(), x.num_elems(), session.stream());
  }
  for (const auto& [name, value] : graph.outputs())
    poison_huge(session.output(name).data(), session.output(name).num_bytes(), session.stream());
  session.execute();
  for (const auto& [name, value] : graph.outputs()) {
    const Tensor y = session.output(name);
    REQUIRE(y.num_elems() == check.num_elems);
    const HugeFault fault = check_huge(check, y.data(), y.dtype(), session.stream());
    INFO(dump(graph), "wrong elements ", fault.num_wrong, ", the last of them ", fault.last_wrong);
    CHECK(fault.num_wrong == 0);
  }
}

Value chain(Graph& g, Value x) { return g.add(g.mul(x, 1.5f), 0.25f); }
#endif

}  // namespace

HUGE_TEST_CASE("a chain and mish over 2^31 - 1, 2^31, 2^31 + 1 and more than 2^32 elements", 48) {
#if SOLDER_WITH_CUDA
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
    for (const int64_t size : {k2To31 - 1, k2To31, k2To31 + 1, k2To32 + 3}) {
      Graph g;
      g.output("y", chain(g, g.input("x", {size}, dtype)));
      check_graph(g, {HugeResult::chain, size});
      if (dtype != DType::float32) continue;
      Graph mish;
      mish.output("y", mish.mish(mish.input("x", {size})));
      check_graph(mish, {HugeResult::mish, size});
    }
  }
#endif
}

HUGE_TEST_CASE("broadcast by channel, outer sums and casts beyond 2^32 elements", 48) {
#if SOLDER_WITH_CUDA
  constexpr int64_t kNum = 8117, kChannels = 129, kRow = 4103;  // ragged, a little over 2^32 in all
  constexpr int64_t kSize = kNum * kChannels * kRow;
  static_assert(kSize > k2To32);
  for (const int64_t num : {kNum / 2, kNum}) {  // on both sides of 2^31
    Graph g;
    const Value x = g.input("x", {num, kChannels, kRow}, DType::bfloat16);
    g.output("y", g.add(x, g.input("bias", {kChannels, 1}, DType::bfloat16)));
    check_graph(g, {HugeResult::channel, num * kChannels * kRow, kRow, kChannels});
  }
  constexpr int64_t kSide = 65537;  // its square is over 2^32
  Graph outer;
  const Value a = outer.input("a", {kSide, 1}, DType::float16), b = outer.input("b", {kSide}, DType::float16);
  outer.output("y", outer.add(a, b));
  check_graph(outer, {HugeResult::outer, kSide * kSide, kSide});

  Graph casts;
  const Value x = casts.input("x", {k2To32 + 5}, DType::float16);
  casts.output("y", casts.cast(x, DType::float32));
  check_graph(casts, {HugeResult::cast, k2To32 + 5});
#endif
}

HUGE_TEST_CASE("two outputs, and node by node in place, beyond 2^32 elements", 60) {
#if SOLDER_WITH_CUDA
  Graph g;
  const Value x = g.input("x", {k2To32 + 1}, DType::bfloat16);
  g.output("y", chain(g, x));
  g.output("again", g.neg(g.neg(chain(g, x))));
  check_graph(g, {HugeResult::chain, k2To32 + 1});
  check_graph(g, {HugeResult::chain, k2To32 + 1}, false);
#endif
}

HUGE_TEST_CASE("a concat's parts, gather, rows of a reduction and of softmax beyond 2^31 and 2^32 elements",
               60) {
#if SOLDER_WITH_CUDA
  // Each gives x back.
  Graph parts;
  constexpr int64_t kRow = k2To31 + 6, kCut = k2To31 / 2 + 3;
  const Value both = parts.input("x", {2, kRow}, DType::float16);
  parts.output("y", parts.concat({parts.mul(parts.slice(both, 1, 0, kCut), 1.0f),
                                  parts.mul(parts.slice(both, 1, kCut, kRow), 1.0f)},
                                 1));
  check_graph(parts, {HugeResult::cast, 2 * kRow});

  Graph gather;
  gather.output("y", gather.gather(gather.input("x", {k2To31 + 9, 2}, DType::bfloat16), 1, {0, 1}));
  check_graph(gather, {HugeResult::cast, 2 * (k2To31 + 9)});

  for (const int64_t size : {k2To31 + 1, k2To32 + 5}) {
    Graph reduce;
    const Value thrice = reduce.expand(reduce.input("x", {size, 1}, DType::float16), {size, 3});
    reduce.output("y", reduce.reduce_max(thrice, {1}));
    check_graph(reduce, {HugeResult::cast, size});

    Graph softmax;
    const Value x = softmax.input("x", {size, 1}, DType::float16);
    softmax.output("y", softmax.mul(x, softmax.softmax(x)));
    check_graph(softmax, {HugeResult::cast, size});
  }
#endif
}
