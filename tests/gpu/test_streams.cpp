// The user's own stream: what a Session puts on it waits for what was there before and for nothing else, the
// calling thread for nothing at all. Each step is made late by a kernel that spins until the test lets it go:
// what is read too early is stale, and a call that waits is seen by the kernel having given up.
#include <cstring>

#include "tests/support/hold.h"
#include "tests/support/support.h"
#if SOLDER_WITH_CUDA
#include "runtime/check_cuda.h"
#endif

using namespace solder;
using namespace solder::test;

#if SOLDER_WITH_CUDA
namespace {

constexpr int kNumInputs = 3;
const Shape kInput{2, 16, 12, 16};

// Through each convolution, a matrix product and elementwise kernels.
Graph network() {
  Graph g;
  const Value x = g.input("x", kInput);
  const Value w = g.parameter("w", {8, 16, 3, 3}), fc = g.parameter("fc", {5, 16});
  const Value h = g.mish(g.mish(g.conv2d(x, w, {.padding = 1})));
  g.output("y", g.neg(g.linear(g.mul(h, 0.5f), fc)));
  return g;
}

// A stream of the user's, of the kind that waits for the default stream or of the other.
struct UserStream {
  explicit UserStream(unsigned flags = cudaStreamNonBlocking) {
    SOLDER_CUDA(cudaStreamCreateWithFlags(&stream, flags));
  }
  ~UserStream() { cudaStreamDestroy(stream); }
  cudaStream_t stream = nullptr;
};

float* floats_of(const Tensor& tensor) { return static_cast<float*>(tensor.data()); }

void copy_on(cudaStream_t stream, const Tensor& to, const Tensor& from) {
  SOLDER_CUDA(cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(to.num_bytes()),
                              cudaMemcpyDeviceToDevice, stream));
}

void spoil_on(cudaStream_t stream, const Tensor& tensor) {  // NaN
  SOLDER_CUDA(cudaMemsetAsync(tensor.data(), 0xff, static_cast<size_t>(tensor.num_bytes()), stream));
}

// A model with inputs on the device and the results they should have.
struct Subject {
  Model model;
  std::vector<Tensor> x, expected;
  Tensor late, y, z;  // an input and two results, on the device

  explicit Subject(const CompileOptions& options)
      : model(compile(network(), {{"w", uniform({8, 16, 3, 3}, 1)}, {"fc", uniform({5, 16}, 2)}}, options)) {
    Session session = model.session();
    for (int i = 0; i < kNumInputs; ++i) {
      const float range = std::pow(1e-6f, static_cast<float>(i - 1));  // a stale range guard shows, too
      const Tensor host = uniform(kInput, static_cast<uint64_t>(10 + i), -range, range);
      x.push_back(host.to(options.device));
      expected.push_back(session.run({{"x", host}}).at("y"));
    }
    late = Tensor::empty(kInput, DType::float32, options.device);
    y = Tensor::empty(expected[0].shape(), DType::float32, options.device);
    z = Tensor::empty(expected[0].shape(), DType::float32, options.device);
    CHECK_FALSE(same_bits(expected[0], expected[1]));
  }

  bool is_result(const Tensor& device_tensor, int input) const {
    return same_bits(device_tensor.to(Device::cpu()), expected[static_cast<size_t>(input)]);
  }
};

// Every convolution kernel, recorded and launched one by one.
std::vector<CompileOptions> variants() {
  std::vector<CompileOptions> all;
  for (const bool capture : {true, false}) {
    for (const Math math : {Math::fp32, Math::tf32}) {
      for (const std::string conv : {"im2col", "rows", "window", "packed", ""}) {
        if (math == Math::fp32 && conv == "rows") continue;
        all.push_back({.device = Device::cuda(0),
                       .math = math,
                       .workspace_bytes = 4 << 20,
                       .conv = conv,
                       .capture = capture});
      }
    }
  }
  return all;
}

// The steps, one after the other late. `is_first`: the session has not run yet.
void check_order(const Subject& s, Session& session, cudaStream_t stream, bool is_first) {
  CAPTURE(is_first);
  Hold hold;
  // x is late: it holds another input until long after enqueue() has returned.
  copy_on(stream, s.late, s.x[0]);
  hold.enqueue(stream, floats_of(s.late), floats_of(s.x[1]), s.late.num_elems());
  session.enqueue({{"x", s.late}}, {{"y", s.y}});
  CHECK(hold.is_held(stream));
  hold.release();
  session.synchronize();
  CHECK(s.is_result(s.y, 1));

  // All of it is late: x is overwritten behind the run, y read and then spoilt.
  copy_on(stream, s.late, s.x[2]);
  spoil_on(stream, s.z);
  hold.enqueue(stream);
  session.enqueue({{"x", s.late}}, {{"y", s.y}});
  spoil_on(stream, s.late);
  copy_on(stream, s.z, s.y);
  spoil_on(stream, s.y);
  CHECK(hold.is_held(stream));
  hold.release();
  session.synchronize();
  CHECK(s.is_result(s.z, 2));

  // Two runs under way, through the same memory.
  hold.enqueue(stream);
  session.enqueue({{"x", s.x[0]}}, {{"y", s.y}});
  session.enqueue({{"x", s.x[1]}}, {{"y", s.z}});
  CHECK(hold.is_held(stream));
  hold.release();
  session.synchronize();
  CHECK(s.is_result(s.y, 0));
  CHECK(s.is_result(s.z, 1));

  // The session's own memory: a late writer of the input, and a late reader of the output.
  Hold reader;
  const Tensor input = session.input("x"), output = session.output("y");
  hold.enqueue(stream, floats_of(input), floats_of(s.x[2]), input.num_elems());
  session.execute();
  reader.enqueue(stream, floats_of(s.z), floats_of(output), output.num_elems());
  session.enqueue({{"x", s.x[0]}}, {{"y", s.y}});
  CHECK(hold.is_held(stream));
  hold.release();
  CHECK(reader.is_held(stream));
  reader.release();
  session.synchronize();
  CHECK(s.is_result(s.z, 2));
  CHECK(s.is_result(s.y, 0));
}

}  // namespace
#endif

GPU_TEST_CASE("streams: nothing on the user's stream is read or written too early, and nothing waits") {
#if SOLDER_WITH_CUDA
  for (const CompileOptions& options : variants()) {
    const Subject subject(options);
    CAPTURE(subject.model.describe());
    for (const unsigned flags : {cudaStreamNonBlocking, cudaStreamDefault}) {
      const UserStream user(flags);
      Session session = subject.model.session(user.stream);
      CHECK(session.stream() == user.stream);
      check_order(subject, session, user.stream, true);
      check_order(subject, session, user.stream, false);
    }
  }
#endif
}

GPU_TEST_CASE("streams: two sessions on two streams, one after the other by an event") {
#if SOLDER_WITH_CUDA
  Graph g;
  g.output("y", g.mish(g.input("x", {1 << 20})));
  const Model model = compile(g, {}, {.device = Device::cuda(0)});
  const Tensor host = uniform({1 << 20}, 1), stale = uniform({1 << 20}, 2);
  const Tensor expected = model.session().run({{"x", model.session().run({{"x", host}}).at("y")}}).at("y");
  const Tensor x = host.to(Device::cuda(0)), h = stale.to(Device::cuda(0)), y = stale.to(Device::cuda(0));
  const UserStream before, after;
  Session first = model.session(before.stream), second = model.session(after.stream);
  cudaEvent_t event = nullptr;
  SOLDER_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  {
    Hold hold;
    hold.enqueue(before.stream);
    first.enqueue({{"x", x}}, {{"y", h}});
    SOLDER_CUDA(cudaEventRecord(event, before.stream));
    SOLDER_CUDA(cudaStreamWaitEvent(after.stream, event));
    second.enqueue({{"x", h}}, {{"y", y}});
    CHECK(hold.is_held(before.stream));
    CHECK(cudaStreamQuery(after.stream) == cudaErrorNotReady);
    hold.release();
    second.synchronize();
    CHECK(same_bits(y.to(Device::cpu()), expected));
  }
  cudaEventDestroy(event);
#endif
}

GPU_TEST_CASE("streams: other streams, the default one too, are not waited for") {
#if SOLDER_WITH_CUDA
  const Device gpu = Device::cuda(0);
  for (const CompileOptions& options : variants()) {
    const Subject s(options);
    CAPTURE(s.model.describe());
    Session session = s.model.session();
    session.run({{"x", s.x[0]}});
    const UserStream other;
    for (cudaStream_t busy : {other.stream, cudaStreamLegacy, cudaStreamPerThread}) {
      CAPTURE(busy);
      Hold hold;
      hold.enqueue(busy);
      CHECK(same_bits(session.run({{"x", s.x[1]}}).at("y"), s.expected[1]));
      session.run({{"x", s.x[2]}}, {{"y", s.y}});
      CHECK(s.is_result(s.y, 2));
      CHECK(same_bits(s.x[1].to(Device::cpu()).to(gpu).to(Device::cpu()), s.x[1].to(Device::cpu())));
      CHECK(hold.is_held(busy));
    }
  }
#endif
}

GPU_TEST_CASE("streams: pageable inputs and outputs are the caller's again when run() returns") {
#if SOLDER_WITH_CUDA
  for (const int64_t size : {1000, 1 << 22}) {  // small copies go through the driver's own staging memory
    Graph g;
    g.output("y", g.mish(g.input("x", {size})));
    const Model model = compile(g, {}, {.device = Device::cuda(0)});
    const Tensor original = uniform({size}, 1);
    const Tensor expected = model.session().run({{"x", original}}).at("y");
    Session session = model.session();
    for (int i = 0; i < 5; ++i) {
      auto x = std::make_unique<Tensor>(Tensor::from({size}, original.floats()));
      Tensor y = Tensor::empty({size});
      const int64_t num_bytes = x->num_bytes();
      std::memset(y.data(), 0xff, static_cast<size_t>(num_bytes));
      session.run({{"x", *x}}, {{"y", y}});
      std::memset(x->data(), 0xff, static_cast<size_t>(num_bytes));
      x.reset();
      CHECK(same_bits(y, expected));
      CHECK(same_bits(session.input("x").to(Device::cpu()), original));
      std::memset(y.data(), 0xff, static_cast<size_t>(num_bytes));
      session.execute();
      session.synchronize();
      CHECK(std::isnan(y.floats()[0]));
      CHECK(same_bits(session.output("y").to(Device::cpu()), expected));
    }
  }
#endif
}
