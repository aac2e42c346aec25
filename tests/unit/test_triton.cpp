// The backend for Triton Inference Server on a fake server whose calls fail; tests/triton has a real one. Sees the
// installed layout, as the backend does: nothing here may include "graph/...", whose declarations it would repeat.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

#include "examples/triton/served_model.h"
#include "tests/support/fake_triton.h"

using namespace solder_triton;
using solder::test::fake_triton;
using solder::test::FakeTriton;
using solder::test::text_of;

namespace {

constexpr const char* kGraph = R"(
input x 1,3
input s 1,1
m = mul x s
y = mish m
on_gpu = neg m
output y
output on_gpu
)";

// A model's folder, the server's model and an instance, as far as they start.
class Fake {
 public:
  explicit Fake(const std::string& config, bool completes = false) {
    model.folder =
        (std::filesystem::temp_directory_path() / solder::str("solder_test_", ::getpid(), "_", this))
            .string();
    std::filesystem::create_directories(model.folder + "/1");
    std::ofstream(model.folder + "/1/model.txt") << kGraph;
    model.config = config;
    model.completes = completes;
  }
  ~Fake() {
    stop();
    std::filesystem::remove_all(model.folder);
  }

  // What does not start is finalized all the same, as the server does it.
  std::string start() {
    std::string error = text_of(TRITONBACKEND_ModelInitialize(&model));
    if (error.empty()) error = text_of(TRITONBACKEND_ModelInstanceInitialize(&instance));
    if (!error.empty()) stop();
    return error;
  }
  void stop() {
    CHECK(text_of(TRITONBACKEND_ModelInstanceFinalize(&instance)) == "");
    CHECK(text_of(TRITONBACKEND_ModelFinalize(&model)) == "");
    instance.state = model.state = nullptr;
  }
  std::string execute(std::vector<TRITONBACKEND_Request>& requests) {
    std::vector<TRITONBACKEND_Request*> pointers;
    for (TRITONBACKEND_Request& request : requests) pointers.push_back(&request);
    return text_of(TRITONBACKEND_ModelInstanceExecute(&instance, pointers.data(),
                                                      static_cast<uint32_t>(pointers.size())));
  }

  TRITONBACKEND_Model model;
  TRITONBACKEND_ModelInstance instance{&model};
};

// Of floats that `rng` draws, in pieces that it cuts, none of which needs to end where a float ends.
TRITONBACKEND_Input input(const char* name, std::vector<int64_t> shape, std::mt19937& rng) {
  TRITONBACKEND_Input made{name, TRITONSERVER_TYPE_FP32, shape, {""}};
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  for (int64_t i = 0; i < count; ++i) {
    const float value = std::uniform_real_distribution<float>(-3, 3)(rng);
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    for (const char byte : bytes) {
      if (rng() % 5 == 0) made.pieces.emplace_back();
      made.pieces.back() += byte;
    }
  }
  return made;
}

TRITONBACKEND_Request request(int64_t rows, std::mt19937& rng) {
  TRITONBACKEND_Request made;
  made.inputs = {input("s", {rows, 1}, rng), input("x", {rows, 3}, rng)};
  made.outputs = {"y"};
  return made;
}

std::vector<float> floats(const std::vector<std::string>& pieces) {
  std::string bytes;
  for (const std::string& piece : pieces) bytes += piece;
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

void check_answer(const TRITONBACKEND_Request& request) {
  REQUIRE(request.answer.size() == 1);
  const TRITONBACKEND_Output& y = request.answer.at("y");
  CHECK(y.type == TRITONSERVER_TYPE_FP32);
  REQUIRE(y.shape == request.inputs[1].shape);
  const auto s = floats(request.inputs[0].pieces), x = floats(request.inputs[1].pieces),
             got = floats({y.bytes});
  REQUIRE(got.size() == x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double m = x[i] * s[i / 3], wanted = m * std::tanh(std::log1p(std::exp(m)));
    CHECK(std::abs(got[i] - wanted) <= 1e-5 * std::abs(m));
  }
}

constexpr const char* kBatched =
    R"({"max_batch_size": 8, "input": [], "output": [], "dynamic_batching": {"x": 1},
  "parameters": {"threads": {"string_value": "1"}, "batches": {"string_value": "3"}}})";

}  // namespace

TEST_CASE("triton: batches are padded by a quarter and else cut") {
  const std::vector<int64_t> powers{1, 2, 4, 8, 16}, few{3, 10};
  const int64_t by_powers[] = {1, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16};
  for (int64_t rows = 1; rows <= 17; ++rows) CHECK(next_batch(powers, rows) == by_powers[rows - 1]);
  const int64_t by_few[] = {3, 3, 3, 3, 3, 3, 3, 10, 10, 10, 10};
  for (int64_t rows = 1; rows <= 11; ++rows) CHECK(next_batch(few, rows) == by_few[rows - 1]);
}

TEST_CASE("triton: inputs in pieces, requests together and by themselves") {
  std::mt19937 rng(1);
  Fake fake(kBatched);
  REQUIRE(fake.start() == "");
  for (int i = 0; i < 50; ++i) {
    std::vector<TRITONBACKEND_Request> requests;
    for (int64_t left = 8, rows = 0; left > 0; left -= rows)
      requests.push_back(request(rows = 1 + static_cast<int64_t>(rng()) % left, rng));
    fake_triton().num_rows = fake_triton().num_runs = 0;
    REQUIRE(fake.execute(requests) == "");
    for (const TRITONBACKEND_Request& done : requests) check_answer(done);
    CHECK(fake_triton().num_rows == 8);
    CHECK(fake_triton().num_runs == 1);
  }
  Fake alone(R"({"max_batch_size": 0})");
  REQUIRE(alone.start() == "");
  std::vector<TRITONBACKEND_Request> requests{request(1, rng), request(1, rng)};
  REQUIRE(alone.execute(requests) == "");
  for (const TRITONBACKEND_Request& done : requests) check_answer(done);
  CHECK(fake_triton().num_live == 0);
}

TEST_CASE("triton: a request that makes no sense is refused, its neighbours are answered") {
  std::mt19937 rng(2);
  Fake fake(kBatched);
  REQUIRE(fake.start() == "");
  using Spoil = void (*)(TRITONBACKEND_Request&);
  const std::pair<Spoil, const char*> cases[] = {
      {[](auto& r) { r.inputs[1].type = TRITONSERVER_TYPE_FP16; }, "input x is float32 [2, 3], not"},
      {[](auto& r) {
         r.inputs[1].shape = {3, 2};
       },
       "input x is float32 [2, 3], not"},
      {[](auto& r) { r.inputs[1].shape = {6}; }, "input x is float32 [2, 3], not"},
      {[](auto& r) { r.inputs[0].shape = {}; }, "input s is float32 [0, 1], not"},
      {[](auto& r) { r.inputs[1].pieces.pop_back(); }, "its shape has 24"},
      {[](auto& r) { r.inputs[1].pieces.push_back("x"); }, "more bytes"},
      {[](auto& r) { r.inputs.pop_back(); }, "no such input"},
      {[](auto& r) { r.inputs[0].memory = TRITONSERVER_MEMORY_GPU; }, "cuda:99 cannot be used"},
      {[](auto& r) { r.outputs.push_back("on_gpu"); }, "on a GPU"},
      {[](auto& r) { r.outputs.push_back("q"); }, "\"q\""},
  };
  for (const auto& [spoil, expected] : cases) {
    const char* const words = expected;
    CAPTURE(words);
    std::vector<TRITONBACKEND_Request> requests{request(3, rng), request(2, rng), request(3, rng)};
    spoil(requests[1]);
    REQUIRE(fake.execute(requests) == "");
    check_answer(requests[0]);
    check_answer(requests[2]);
    CHECK(requests[1].error.value_or("").find(words) != std::string::npos);
    CHECK(requests[1].answer.empty());
  }
  std::vector<TRITONBACKEND_Request> too_many{request(5, rng), request(4, rng)};
  REQUIRE(fake.execute(too_many) == "");
  check_answer(too_many[0]);
  CHECK(too_many[1].error.value_or("").find("max_batch_size") != std::string::npos);
  CHECK(fake_triton().num_live == 0);
}

TEST_CASE("triton: every call of the server's fails in turn") {
  FakeTriton& server = fake_triton();
  int num_faults = 0;
  for (bool has_failed = true; has_failed; ++num_faults) {
    CAPTURE(num_faults);
    std::mt19937 rng(3);
    server.num_calls = 0;
    server.failing_call = num_faults;
    Fake fake(kBatched, true);
    const std::string error = fake.start();
    std::vector<TRITONBACKEND_Request> requests{request(3, rng), request(1, rng), request(4, rng)};
    if (error.empty()) {
      CHECK(fake.model.completed.find(
                R"("max_batch_size":8,"input":[{"name":"x","data_type":"TYPE_FP32","dims":[3]})") == 1);
      CHECK(fake.execute(requests) == "");
      size_t num_answers = 0;
      for (const TRITONBACKEND_Request& done : requests) {
        CHECK(done.num_releases == 1);
        CHECK(done.num_responses <= 1);
        if (!done.answer.empty()) check_answer(done);
        num_answers += !done.answer.empty();
      }
      CHECK(num_answers >= requests.size() - 1);
    } else {
      CHECK(error.find("the call fails") != std::string::npos);
      CHECK(fake.start() == "");
    }
    has_failed = server.num_calls > server.failing_call;
    server.failing_call = -1;
  }
  CHECK(num_faults > 80);
  CHECK(server.num_live == 0);
}

TEST_CASE("triton: another interface, configs that are none") {
  CHECK(text_of(TRITONBACKEND_Initialize(nullptr)) == "");
  fake_triton().api_major = 2;
  CHECK(text_of(TRITONBACKEND_Initialize(nullptr)).find("is 2.10; this backend is for 1") !=
        std::string::npos);
  fake_triton().api_major = kTritonBackendApiMajor;
  const std::string whole = kBatched;
  for (size_t size = 0; size < whole.find_last_of('}'); ++size) {
    Fake fake(whole.substr(0, size));
    CHECK(fake.start().find("JSON") != std::string::npos);
  }
  for (const char* config : {"{} {}", R"({"input": 1})", R"({"a" 1})", R"([1 2])", R"({"a": })"}) {
    Fake fake(config);
    CHECK(fake.start().find("JSON") != std::string::npos);
  }
  Fake gpu(kBatched);
  gpu.instance.kind = TRITONSERVER_INSTANCEGROUPKIND_GPU;
  CHECK(gpu.start().find("cuda:99 cannot be used") != std::string::npos);
  CHECK(fake_triton().num_live == 0);
}
