// The text of generated kernels, its compilation and the cache: none of them needs a GPU.

#include "tests/support/support.h"

#if SOLDER_WITH_CUDA
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <fstream>
#include <thread>

#include "runtime/nvrtc.h"
#include "tests/cases/programs.h"

using namespace solder;
using namespace solder::test;

namespace {

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

const char* const kSmall = "extern \"C\" __global__ void kernel(float* x) { x[threadIdx.x] += 1.0f; }";

// NVRTC is an optional part of a toolkit. It stays loaded: its C++ library never frees what it reserves for
// exceptions, which LeakSanitizer would report.
bool has_nvrtc() {
  void* const library =
      ::dlopen(str("libnvrtc.so.", CUDART_VERSION / 1000).c_str(), RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  return library != nullptr && ::dlclose(library) == 0;
}
#define NVRTC_TEST_CASE(name) TEST_CASE("elementwise_jit: " name* doctest::skip(!has_nvrtc()))

}  // namespace

TEST_CASE("elementwise_jit: the text has a statement a step, and what the layout fixes") {
  const Bound channels = bound({{{2, 3, 5, 7}}, {{3, 1, 1}}, {{3, 1, 1}}}, scale_bias_mish);
  const std::string text = channels.source();
  CAPTURE(text);
  CHECK(has(text, "load_words<kVec, 4>(p.args.operands[0].data"));
  CHECK(has(text, "load_repeated<kVec>(p, 1, Access::channel, DType::float32, 3,"));
  CHECK(has(text, "apply_binary<Op::mul>(false, acc, x1);\n  apply_binary<Op::add>(false, acc, x2);\n"));
  CHECK(
      has(text,
          "  apply_unary<Op::mish>(0, 0, acc, {__uint_as_float(4286578688u), "
          "__uint_as_float(2139095040u)});\n  store_output<kVec, 4>(p.args.outputs[0].data, DType::float32"));
  CHECK(has(text, "using Index = uint32_t;"));
  CHECK(has(text, "kVec = 4;"));
  // The formulas are those of formulas.h.
  CHECK(has(text, "SOLDER_HD float mish_body(float x, Range known = {})"));
  CHECK(!has(text, "#include"));

  const Bound clip = bound({{{int64_t{1} << 31}, DType::float16}}, two_sub_clip);
  const std::string wide = clip.source();
  CHECK(has(wide, "using Index = uint64_t;"));
  CHECK(has(wide, "kVec = 8;"));
  CHECK(has(wide, "fill(__uint_as_float(1073741824u), number); apply_binary<Op::sub>(true, acc, number);"));
  CHECK(
      has(wide, "apply_unary<Op::clip>(__uint_as_float(3212836864u), __uint_as_float(1056964608u), acc, {"));
  CHECK(has(wide, "store_output<kVec, 2>(p.args.outputs[0].data, DType::float16"));

  // Extents do not matter, dtypes and accesses do.
  const auto of = [](int64_t size, DType dtype, const Shape& second) {
    const Bound b = bound({{{size, 3}, dtype}, {second, dtype}},
                          [](Graph& g, const std::vector<Value>& v) { return g.add(v[0], v[1]); });
    return b.source();
  };
  CHECK(of(100, DType::float32, {3}) == of(200, DType::float32, {3}));
  CHECK(of(100, DType::float32, {3}) != of(100, DType::float32, {100, 3}));
  CHECK(of(100, DType::float32, {3}) != of(100, DType::bfloat16, {3}));
}

TEST_CASE("elementwise_jit: every program starts with what it reads and stores each output once") {
  for_random_programs(300, [](const Bound& b) {
    const std::string text = b.source();
    const std::string body = text.substr(text.rfind("extern \"C\""));
    CAPTURE(body);
    for (const Step& step : b.program.view()) {
      if (step.source == Source::operand) CHECK(has(body, str("float x", int{step.index}, "[kElems];")));
      if (step.op == Op::store_slot) CHECK(has(body, str(", s", int{step.index}, "[kElems]")));
    }
    for (int i = 0; i < b.program.num_outputs; ++i) {
      const int64_t size = size_of(b.outputs[static_cast<size_t>(i)].dtype);
      const std::string dense = str("store_output<kVec, ", size, ">(p.args.outputs[", i, "]"),
                        by_rows = str("store_rows<kVec, ", size, ">(p, ", i, ",");
      CHECK(has(body, dense) != has(body, by_rows));
      CHECK(body.find(dense) == body.rfind(dense));
      CHECK(body.find(by_rows) == body.rfind(by_rows));
    }
  });
}

NVRTC_TEST_CASE("random programs compile for Hopper") {
  const CacheFolder cache;
  for_random_programs(8, [](const Bound& b) {
    const std::string text = b.source();
    const CompiledCode compiled = compile_cuda(text, "sm_90");
    CHECK_MESSAGE(!compiled.code.empty(), compiled.why_not, "\n", text.substr(text.rfind("extern \"C\"")));
  });
}

NVRTC_TEST_CASE("the cache is hit, and an entry that is not right is compiled anew") {
  const CacheFolder cache("made/when/needed");
  const CompiledCode cold = compile_cuda(kSmall, "sm_90");
  CHECK(cold.compile_ms > 0);
  REQUIRE(cache.files().size() == 1);
  const fs::path entry = cache.files()[0];
  const std::string bytes = read_file(entry);
  const auto hit = [&] {
    const CompiledCode again = compile_cuda(kSmall, "sm_90");
    CHECK(again.code == cold.code);
    CHECK(again.why_not.empty());
    return again.compile_ms == 0;
  };
  CHECK(hit());
  for (const size_t size : {size_t{0}, size_t{7}, size_t{16}, bytes.size() / 2, bytes.size() - 1}) {
    write_file(entry, bytes.substr(0, size));
    CHECK(!hit());
    CHECK(read_file(entry) == bytes);
    CHECK(hit());
  }
  for (const size_t place : {size_t{0}, size_t{20}, bytes.size() / 2, bytes.size() - 1}) {
    std::string wrong = bytes;
    wrong[place] = static_cast<char>(wrong[place] ^ 1);
    write_file(entry, wrong);
    CHECK(!hit());
    CHECK(hit());
  }
  // Another text, another architecture: other entries. An entry under another's name is none.
  CHECK(compile_cuda(std::string(kSmall) + " ", "sm_90").compile_ms > 0);
  CHECK(compile_cuda(kSmall, "sm_80").compile_ms > 0);
  CHECK(cache.files().size() == 3);
  for (const fs::path& other : cache.files())
    if (other != entry) fs::copy_file(other, entry, fs::copy_options::overwrite_existing);
  CHECK(!hit());
}

NVRTC_TEST_CASE("a cache that cannot be used is no error; what NVRTC refuses is named") {
  CacheFolder cache;
  write_file(cache.root() / "file", "");
  for (const fs::path& folder : {cache.root() / "file" / "below", fs::path("/proc/solder")}) {
    cache.use(folder);
    const CompiledCode compiled = compile_cuda(kSmall, "sm_90");
    CHECK(!compiled.code.empty());
    CHECK(compiled.compile_ms > 0);
  }
  CHECK(cache.files().size() == 1);
  CHECK(has(compile_cuda("no CUDA", "sm_90").why_not, "error"));
  CHECK(has(compile_cuda(kSmall, "sm_1").why_not, "architecture"));
}

NVRTC_TEST_CASE("threads that compile the same text at once share a whole entry") {
  const CacheFolder cache;
  std::vector<CompiledCode> results(8);
  std::vector<std::thread> threads;
  for (CompiledCode& result : results) threads.emplace_back([&] { result = compile_cuda(kSmall, "sm_90"); });
  for (std::thread& thread : threads) thread.join();
  for (const CompiledCode& result : results) CHECK(result.code == results[0].code);
  CHECK(!results[0].code.empty());
  CHECK(cache.files().size() == 1);  // no temporary file is left
  CHECK(compile_cuda(kSmall, "sm_90").compile_ms == 0);
}

#endif
