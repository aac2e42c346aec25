// Every N-th call fails. On the fake machine of shim.h a model is compiled, run, replayed and destroyed again
// and again; each time another CUDA, cuBLAS or allocation call fails, once or from then on. What must hold: a
// typed error that names the call, or the right result; nothing leaks; the next run is right.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "runtime/memory.h"
#include "tests/faults/shim.h"
#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;
using shim::Calls;

namespace {

struct Job {
  std::string name;
  Graph graph;
  TensorMap weights, inputs;
  CompileOptions options;
  std::string must_run;  // in describe(): the kernel this job is for
};

enum Step { kCompile, kSession, kRun, kReplay, kEnqueue, kProfile, kTransfer, kBatch, kNumSteps };

// What each step gave: the tensor it read back, and what it made the device do.
struct Outcome {
  std::array<Tensor, kNumSteps> tensors;
  std::array<uint64_t, kNumSteps> traces = {};
};

struct Failure {
  bool happened = false;
  ErrorKind kind = {};
  std::string message;
  std::string foreign;  // an exception that is not solder::Error
};

// The first half of each input's images.
TensorMap half_of(TensorMap inputs) {
  for (auto& [name, tensor] : inputs) {
    Shape shape = tensor.shape();
    shape[0] /= 2;
    tensor = Tensor::view(tensor.data(), shape, tensor.dtype());  // the job keeps the memory
  }
  return inputs;
}

// A model's life in steps. Only the library's own work is counted; what the caller prepares is not.
class Drive {
 public:
  explicit Drive(const Job& job)
      : job_(job), device_inputs_(job.inputs), half_(half_of(job.inputs)), device_outputs_{{"y", Tensor()}} {}

  // Takes `step`; what it throws goes to `failure`.
  bool take(Step step, Outcome& outcome, Failure& failure) {
    shim::begin_trace();
    try {
      act(step, &outcome.tensors[step]);
      outcome.traces[step] = shim::trace();
      return true;
    } catch (const Error& error) {
      const shim::Pause pause;
      failure = {true, error.kind(), error.what(), {}};
    } catch (const std::exception& error) {
      const shim::Pause pause;
      failure = {true, {}, {}, error.what()};
    }
    return false;
  }

  void run_once(Outcome& outcome, Failure& failure) {
    take(kCompile, outcome, failure) && take(kSession, outcome, failure) && take(kRun, outcome, failure);
  }

  void destroy() {
    session_.reset();
    model_.reset();
    for (auto& [name, tensor] : device_inputs_) tensor = std::move(nothing_[0]);
    for (auto& [name, tensor] : device_outputs_) tensor = std::move(nothing_[1]);
  }

  // The result of one run, with what is left of model and session.
  Tensor run_again() {
    Tensor result;
    // The machine's results depend on all since then: constants that compile() computes there, which a choice may hang on.
    shim::begin_trace();
    if (!model_) act(kCompile, &result);
    if (!session_) act(kSession, &result);
    shim::begin_trace();
    act(kRun, &result);
    return result;
  }

 private:
  void act(Step step, Tensor* result) {
    const Device device = job_.options.device;
    switch (step) {
      case kCompile: model_.emplace(compile(job_.graph, job_.weights, job_.options)); break;
      case kSession: session_.emplace(model_->session()); break;
      case kRun: *result = std::move(session_->run(job_.inputs).at("y")); break;
      case kReplay:
        session_->execute();
        session_->synchronize();
        keep(session_->output("y").to(Device::cpu()), result);
        break;
      case kEnqueue:
        for (auto& [name, tensor] : device_inputs_) tensor = job_.inputs.at(name).to(device);
        make_device_output(device);
        session_->enqueue(device_inputs_, device_outputs_);
        session_->synchronize();
        *result = device_outputs_.at("y").to(Device::cpu());
        break;
      case kProfile: session_->profile(2); break;
      case kTransfer: *result = job_.inputs.begin()->second.to(device).to(Device::cpu()); break;
      case kBatch:
        *result = std::move(model_->batch(half_.at("x").shape()[0]).session().run(half_).at("y"));
        break;
      case kNumSteps: break;
    }
  }

  // A copy that outlives the session, whose memory a CPU session's output is.
  static void keep(const Tensor& tensor, Tensor* result) {
    const shim::Pause pause;
    *result = Tensor::empty(tensor.shape(), tensor.dtype());
    std::memcpy(result->data(), tensor.data(), static_cast<size_t>(tensor.num_bytes()));
  }

  void make_device_output(Device device) {
    TensorType type;
    {
      const shim::Pause pause;
      type = model_->graph().type(model_->graph().outputs()[0].second);
    }
    device_outputs_.at("y") = Tensor::empty(std::move(type.shape), type.dtype, device);
  }

  const Job& job_;
  std::optional<Model> model_;
  std::optional<Session> session_;
  TensorMap device_inputs_, half_, device_outputs_;
  std::array<Tensor, 2> nothing_;
};

// The words of which an error about this call has one.
bool names_call(const std::string& message, const std::string& call, Calls calls) {
  const auto has = [&](const char* word) { return message.find(word) != std::string::npos; };
  if (calls == Calls::memory) return has("host memory");
  if (call == "cudaLaunchKernelExC" || call == "cudaFuncSetAttribute")
    return has("kernel") || has(call.c_str());
  if (call == "cudaMallocAsync") return has("bytes of device memory") || has(call.c_str());
  return has(call.c_str());
}

struct Tally {
  int64_t faults = 0, errors = 0, harmless = 0;
};

// One fault; returns what is wrong, empty when nothing is.
std::string try_fault(const Job& job, const shim::Fault& fault, ErrorKind kind, const Outcome& expected,
                      bool* was_reached, Tally* tally) {
  const int64_t objects = shim::live_device_objects(), blocks = shim::live_heap_blocks();
  std::string wrong;
  const auto judge = [&](const Failure& failure, const shim::Report& report) {
    if (!failure.happened) return;
    if (!failure.foreign.empty())
      wrong = "a foreign exception: " + failure.foreign;
    else if (report.num_failed == 0)
      wrong = "an error, and no call failed: " + failure.message;
    else if (failure.kind != kind)
      wrong = "another kind: " + failure.message;
    else if (std::ranges::none_of(report.failed, [&](const std::string& call) {
               return names_call(failure.message, call, fault.calls);
             }))
      wrong = "names no call: " + failure.message;
  };
  {
    Outcome outcome;
    Failure failure, again;
    Drive drive(job);
    shim::arm(fault);
    int step = 0;
    while (step < kNumSteps && drive.take(static_cast<Step>(step), outcome, failure)) ++step;
    if (!failure.happened) drive.destroy();
    const shim::Report report = shim::disarm();
    *was_reached = report.num_failed > 0;
    judge(failure, report);
    if (failure.happened && fault.for_good) {  // the same step, while everything fails
      shim::arm({fault.calls, 1, true, fault.code});
      if (drive.take(static_cast<Step>(step), outcome, again)) wrong = "a step worked while its calls failed";
      judge(again, shim::disarm());
    }
    for (int i = 0; i < step; ++i)
      if (outcome.traces[i] != expected.traces[i] || !same_bits(outcome.tensors[i], expected.tensors[i]))
        wrong = str("step ", i, " reported success and gave a wrong result");
    try {
      if (!same_bits(drive.run_again(), expected.tensors[kRun])) wrong = "the next run was wrong";
    } catch (const std::exception& error) {
      wrong = str("the next run failed: ", error.what());
    }
    if (*was_reached) ++tally->faults, ++(failure.happened ? tally->errors : tally->harmless);
    if (!wrong.empty()) wrong += str(" (", report.failed.empty() ? "" : report.failed.front(), ")");
  }
  if (shim::live_device_objects() != objects)
    wrong += str(" leaked ", shim::live_device_objects() - objects, " device objects");
  const int64_t extra = shim::live_heap_blocks() - blocks - (wrong.empty() ? 0 : 1);
  if (extra > 0) wrong += str(" leaked ", extra, " heap blocks");
  return wrong;
}

Outcome run_whole(const Job& job) {
  Outcome outcome;
  Failure failure;
  Drive drive(job);
  for (int step = 0; step < kNumSteps; ++step) {
    const bool taken = drive.take(static_cast<Step>(step), outcome, failure);
    REQUIRE_MESSAGE(taken, job.name, ": ", failure.message, failure.foreign);
  }
  return outcome;
}

// Every call of `job`, with each code, once and for good.
void sweep(const Job& job, Calls calls, const std::vector<std::pair<int, ErrorKind>>& codes) {
  const Outcome expected = run_whole(job);
  run_whole(job);  // what is made once and kept has been made
  Tally tally;
  int num_wrong = 0;
  for (const bool for_good : {false, true}) {
    for (const auto& [code, kind] : codes) {
      bool was_reached = true;
      for (int64_t n = 1; was_reached; ++n) {
        const std::string wrong =
            try_fault(job, {calls, n, for_good, code}, kind, expected, &was_reached, &tally);
        if (!wrong.empty() && ++num_wrong < 20)
          FAIL_CHECK(str(job.name, ", call ", n, for_good ? " and on" : "", ", code ", code, ": ", wrong));
      }
    }
  }
  CHECK(num_wrong == 0);
  CHECK(tally.errors > 10);
  MESSAGE(str(job.name, ": ", tally.faults, " faults, ", tally.errors, " typed errors, ", tally.harmless,
              " without effect"));
}

Graph network() {
  Graph g;
  const Value x = g.input("x", {2, 16, 12, 16});
  const Value w = g.parameter("conv.weight", {8, 16, 3, 3}), b = g.parameter("conv.bias", {8});
  const Value fc = g.parameter("fc.weight", {5, 16});
  const Value h = g.mish(g.mish(g.conv2d(x, w, b, {.padding = 1})));
  g.output("y", g.tanh(g.linear(g.mul(g.add(h, g.sigmoid(h)), 0.5f), fc)));
  return g;
}

Job job_of(const std::string& name, Device device, Math math, const std::string& conv) {
  return {name,
          network(),
          {{"conv.weight", uniform({8, 16, 3, 3}, 1)},
           {"conv.bias", uniform({8}, 2)},
           {"fc.weight", uniform({5, 16}, 3)}},
          {{"x", uniform({2, 16, 12, 16}, 4)}},
          {.device = device, .math = math, .workspace_bytes = 1 << 20, .conv = conv},
          ": " + conv + ", "};
}

// A node of every other kind, in both kinds of types: views and what reads them, constants to be folded, batch norms
// that are and that stay, and a concat into which its parts are computed.
Job kinds_job(const std::string& name, Device device) {
  Graph g;
  const Value x = g.input("x", {2, 4, 6, 6}), channels = g.parameter("channels", {4});
  const Value filters = g.permute(g.parameter("filters", {4, 4, 3, 3}), {1, 0, 2, 3});
  Value y = g.batch_norm(g.conv2d(x, filters, {.padding = 1}), channels, channels, channels, channels);
  const std::vector<Value> halves = g.split(g.relu(y), 1, {2, 2});
  y = g.concat({g.softmax(halves[0], 1), g.max_pool2d(halves[1], {.kernel = 3, .stride = 1, .padding = 1})},
               1);
  y = g.batch_norm(g.gather(y, 1, {3, 1, 0, 2}), channels, channels, channels, channels);
  y = g.resize(g.pad(y, {0, 0, 1, 0}, {0, 0, 0, 1}, PadMode::edge),
               {.size = 6, .mode = ResizeMode::bilinear});
  const Value narrow = g.cast(y, DType::float16);
  y = g.add(y, g.cast(g.conv2d(narrow, g.cast(filters, DType::float16), {.padding = 1}), DType::float32));
  y = g.mul(g.expand(g.global_avg_pool(y), {2, 4, 6, 6}), g.group_norm(y, channels, channels, 2));
  y = g.where(g.less(y, 0.0f), g.permute(y, {0, 1, 3, 2}), g.slice(y, 2, -1, INT64_MIN, -1));
  g.output("y", g.sum(g.lrn(g.depth_to_space(y, 2), 1), {3}));
  return {name,
          g,
          {{"channels", uniform({4}, 6, 0.5f, 2)}, {"filters", uniform({4, 4, 3, 3}, 7)}},
          {{"x", uniform({2, 4, 6, 6}, 8)}},
          {.device = device, .workspace_bytes = 1 << 20},
          "in place"};
}

// Sixteen functions: worth a kernel of its own in float32, a table in float16.
Job elementwise_job(const std::string& name, int64_t size, DType dtype, const std::string& must_run) {
  Graph g;
  Value y = g.input("x", {size}, dtype);
  for (int i = 0; i < 16; ++i) y = g.tanh(y);
  g.output("y", y);
  return {name, g, {}, {{"x", uniform({size}, 5).to(dtype)}}, {.device = Device::cuda(0)}, must_run};
}

std::vector<Job> jobs() {
  shim::machine = {};
  ::setenv("SOLDER_CACHE_DIR", "/proc/none", 1);  // no cache: every kernel is compiled
  const Device gpu = Device::cuda(0);
  std::vector<Job> all = {
      job_of("cpu", Device::cpu(), Math::fp32, "cpu"),
      job_of("im2col", gpu, Math::tf32, "im2col"),
      elementwise_job("generated", 1 << 18, DType::float32, "one pass: generated, compiled in"),
      elementwise_job("table", 1 << 20, DType::float16, "one pass: table"),
      kinds_job("kinds on the CPU", Device::cpu()),
      kinds_job("kinds on the GPU", gpu),
      job_of("mma", gpu, Math::tf32, "mma")};
  if (SOLDER_WITH_SM90)
    for (const auto& [family, math] :
         {std::pair("rows", Math::tf32), {"window", Math::fp32}, {"nhwc", Math::fp16}})
      all.push_back(job_of(family, gpu, math, family));
  return all;
}

}  // namespace

TEST_CASE("faults: each job runs the kernel it is for, and repeats") {
  for (const Job& job : jobs()) {
    const std::string text = compile(job.graph, job.weights, job.options).describe();
    CAPTURE(text);
    CHECK(text.find(job.must_run) != std::string::npos);
    const Outcome first = run_whole(job), second = run_whole(job);
    CHECK(first.traces == second.traces);
    CHECK(same_bits(first.tensors[kRun], second.tensors[kRun]));
    CHECK(same_bits(first.tensors[kTransfer], job.inputs.at("x")));
  }
}

TEST_CASE("faults: ten batch sizes hold the weights once; of the model's own size one is the model") {
  for (const Job& job : jobs()) {
    if (!job.options.device.is_cuda()) continue;
    const int64_t size = job.inputs.at("x").shape()[0];
    const Model model = compile(job.graph, job.weights, job.options), half = model.batch(size / 2);
    const int64_t bytes = device_bytes_in_use(job.options.device), objects = shim::live_device_objects();
    std::vector<Model> sizes;
    for (int64_t n = 1; n <= 10; ++n) sizes.push_back(half.batch(n * size));
    CAPTURE(job.name);
    CHECK(device_bytes_in_use(job.options.device) == bytes);
    CHECK(shim::live_device_objects() == objects);
    CHECK(sizes.front().describe() == model.describe());
  }
}

TEST_CASE("faults: every CUDA and cuBLAS call fails, once and for good") {
  const std::vector<std::pair<int, ErrorKind>> codes = {
      {cudaErrorMemoryAllocation, ErrorKind::out_of_memory},
      {cudaErrorIllegalAddress, ErrorKind::device_lost},
      {cudaErrorNoKernelImageForDevice, ErrorKind::unsupported},
      {cudaErrorUnknown, ErrorKind::cuda}};
  for (const Job& job : jobs())
    if (job.options.device.is_cuda()) sweep(job, Calls::cuda, codes);
}

TEST_CASE("faults: every allocation of host memory fails, once and for good") {
  for (const Job& job : jobs()) sweep(job, Calls::memory, {{1, ErrorKind::out_of_memory}});
}

TEST_CASE("faults: a warm session allocates no host memory, and asks the device for none") {
  std::vector<Job> all = jobs();
  Job& many = all.emplace_back(Job{.name = "many outputs", .options = {.device = Device::cpu()}});
  for (int i = 0; i < 100; ++i) {
    const std::string name = "a name that is longer than a small string " + std::to_string(i);
    many.graph.output(name, many.graph.mish(many.graph.input(name, {3})));
    many.inputs[name] = uniform({3}, 1);
  }
  for (const Job& job : all) {
    for (const bool capture : {true, false}) {
      CAPTURE(job.name);
      CompileOptions options = job.options;
      options.capture = capture;
      Session session = compile(job.graph, job.weights, options).session();
      TensorMap outputs = session.run(job.inputs), on_device, results;
      for (const auto& [name, tensor] : job.inputs) on_device[name] = tensor.to(options.device);
      for (const auto& [name, tensor] : outputs) results[name] = tensor.to(options.device);
      session.enqueue(on_device, results);
      const int64_t objects = shim::live_device_objects();
      shim::arm({.calls = Calls::memory});
      session.run(job.inputs, outputs);
      session.enqueue(on_device, results);
      session.execute();
      session.synchronize();
      CHECK(shim::disarm().num_calls == 0);
      CHECK(shim::live_device_objects() == objects);
    }
  }
}

TEST_CASE("faults: without NVRTC, or when it fails, programs are interpreted") {
  const Job job = jobs()[2];
  REQUIRE(job.name == "generated");
  const Outcome generated = run_whole(job);
  shim::machine.nvrtc_fails = "dlopen";
  const Outcome interpreted = run_whole(job);
  CHECK(interpreted.traces != generated.traces);
  const int64_t objects = shim::live_device_objects();
  for (const auto& [call, reason] :
       std::vector<std::pair<const char*, const char*>>{{"dlopen", "is not there"},
                                                        {"dlsym", "lacks a function"},
                                                        {"version", "not of this build's"},
                                                        {"nvrtcCreateProgram", "NVRTC takes no program"},
                                                        {"nvrtcCompileProgram", "NVRTC: said by the shim"},
                                                        {"nvrtcGetCUBINSize", "NVRTC: said by the shim"},
                                                        {"nvrtcGetCUBIN", "NVRTC: said by the shim"}}) {
    shim::machine.nvrtc_fails = call;
    const std::string text = compile(job.graph, job.weights, job.options).describe();
    CAPTURE(text);
    CHECK(text.find("one pass: interpreted (") != std::string::npos);
    CHECK(text.find(reason) != std::string::npos);
    CHECK(run_whole(job).traces == interpreted.traces);
  }
  CHECK(shim::live_device_objects() == objects);
  shim::machine = {};
}

TEST_CASE("faults: a cache whose files fail is no error") {
  const Job job = jobs()[2];
  const Outcome expected = run_whole(job);
  std::string folder = "/tmp/solder_faults_XXXXXX";
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  ::setenv("SOLDER_CACHE_DIR", folder.c_str(), 1);
  int64_t num_failed = 0;
  for (const bool cold : {true, false}) {
    for (const bool for_good : {false, true}) {
      bool was_reached = true;
      for (int64_t n = 1; was_reached; ++n) {
        if (cold)
          for (const auto& entry : std::filesystem::directory_iterator(folder))
            std::filesystem::remove(entry);
        else
          compile(job.graph, job.weights, job.options);
        shim::arm({Calls::files, n, for_good, EIO});
        Outcome outcome;
        Failure failure;
        Drive drive(job);
        drive.run_once(outcome, failure);
        was_reached = shim::disarm().num_failed > 0;
        num_failed += was_reached;
        CHECK_MESSAGE(!failure.happened, failure.message);
        CHECK(outcome.traces[kRun] == expected.traces[kRun]);
      }
      for (const auto& entry : std::filesystem::directory_iterator(folder))
        CHECK(entry.path().extension() == ".cubin");  // no temporary file stays
    }
  }
  CHECK(num_failed > 10);
  std::filesystem::remove_all(folder);
}
