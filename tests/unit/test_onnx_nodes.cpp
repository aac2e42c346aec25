// ONNX's own tests of operators, "backend node tests", as make models lays them out (tests/onnx/lay_out_node_tests.py):
// every case of one node with a float32, float16 or bfloat16 tensor passes, or is refused as expected_refusals.txt says.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "graph/solder.h"
#include "tests/support/support.h"

namespace solder::test {
namespace {

const std::string kFolder = SOLDER_MODELS "/onnx/nodes/";
const char* const kExpected = SOLDER_TEST_DATA "/../onnx/expected_refusals.txt";

struct Piece {
  std::string role, name, dtype, path;  // of feed, value and want; no path: of a dtype that solder has not
};

struct Case {
  std::string name, op, tier;
  std::vector<Piece> pieces;
};

struct Outcome {
  enum Kind { passed, failed, refused } kind = passed;
  std::string why;
};

std::vector<std::string> split_line(const std::string& line) {
  std::vector<std::string> words(1);
  for (const char c : line)
    if (c == '\t')
      words.emplace_back();
    else
      words.back() += c;
  words.resize(std::max<size_t>(words.size(), 4));
  return words;
}

bool has_nodes() { return std::ifstream(kFolder + "cases.txt").good(); }

std::vector<Case> all_cases() {
  std::ifstream in(kFolder + "cases.txt");
  std::vector<Case> cases;
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words = split_line(line);
    if (words[0] == "left") continue;
    if (words[0] == "case")
      cases.push_back({words[1], words[2], words[3], {}});
    else
      cases.back().pieces.push_back({words[0], words[1], words[2], words[3]});
  }
  return cases;
}

// numpy's assert_allclose with the relative 1e-3 and absolute 1e-7 of ONNX's own runner, or one rounding to the dtype
// where that is more; shape and dtype must be the same. Empty: it is.
std::string difference(const Tensor& got, const Tensor& want, const std::string& dtype) {
  const bool is_float = dtype == "float32" || dtype == "float16" || dtype == "bfloat16";
  if (got.shape() != want.shape())
    return str("is of shape ", to_string(got.shape()), ", not ", to_string(want.shape()));
  if (is_float && to_string(got.dtype()) != dtype)
    return str("is of ", to_string(got.dtype()), ", not ", dtype);
  const double relative = dtype == "bfloat16" ? 0x1p-8 : 1e-3;
  for (int64_t i = 0; i < got.num_elems(); ++i) {
    const double a = load_as_float(got.data(), got.dtype(), i),
                 b = load_as_float(want.data(), want.dtype(), i);
    const bool same = a == b || (std::isnan(a) && std::isnan(b));
    if (!same && !(std::isfinite(b) && std::abs(a - b) <= (is_float ? 1e-7 + relative * std::abs(b) : 0)))
      return str("has ", a, " at ", i, " of ", got.num_elems(), ", not ", b);
  }
  return "";
}

std::string difference(const OnnxIntegers& got, const Tensor& want) {
  if (got.shape != want.shape())
    return str("is of shape ", to_string(got.shape), ", not ", to_string(want.shape()));
  for (size_t i = 0; i < got.elements.size(); ++i)
    if (static_cast<double>(got.elements[i]) != want.floats()[i])
      return str("has ", got.elements[i], " at ", i, ", not ", want.floats()[i]);
  return "";
}

Outcome run_net(const Case& each, const OnnxNet& net, const TensorMap& inputs, Device device) {
  TensorMap results;
  if (!net.outputs.empty())
    results = compile(net.graph, net.weights, {.device = device}).session().run(inputs);
  for (const Piece& piece : each.pieces) {
    if (piece.role != "want") continue;
    if (piece.path.empty()) return {Outcome::failed, str("accepts an output of ", piece.dtype)};
    const Tensor want = load_npy(kFolder + piece.path);
    std::string wrong;
    if (const auto integers = net.integers.find(piece.name); integers != net.integers.end())
      wrong = difference(integers->second, want);
    else if (const auto result = results.find(piece.name); result != results.end())
      wrong = difference(result->second, want, piece.dtype);
    else
      wrong = "is not there";
    if (!wrong.empty()) return {Outcome::failed, str("output ", piece.name, " ", wrong)};
  }
  return {};
}

Outcome run_case(const Case& each, Device device) {
  OnnxOptions options;
  TensorMap inputs;
  for (const Piece& piece : each.pieces) {
    if (piece.role == "want" || piece.path.empty()) continue;
    const Tensor tensor = load_npy(kFolder + piece.path);
    if (piece.role == "value")
      options.values[piece.name] = tensor;
    else
      inputs[piece.name] = tensor, options.shapes[piece.name] = tensor.shape();
  }
  std::optional<OnnxNet> net;
  try {
    net = import_onnx(kFolder + each.name + "/model.onnx", options);
  } catch (const Error& error) {
    const bool is_refusal = error.kind() == ErrorKind::unsupported;
    return {is_refusal ? Outcome::refused : Outcome::failed, error.what()};
  }
  try {
    return run_net(each, *net, inputs, device);
  } catch (const Error& error) {
    return {Outcome::failed, str("after the import: ", error.what())};
  }
}

// What the importer is to refuse: a case by name, with words of the message; operators that solder has not, each with
// its number of cases ("operator LSTM 4").
struct Refusals {
  std::map<std::string, std::string> cases;
  std::map<std::string, int> operators;
};

Refusals expected_refusals() {
  std::ifstream in(kExpected);
  REQUIRE(in.good());
  Refusals refusals;
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words = split_line(line);
    if (line.empty() || line[0] == '#') continue;
    if (words[0] == "operator")
      refusals.operators[words[1]] = std::stoi(words[2]);
    else
      refusals.cases[words[0]] = words[1];
  }
  return refusals;
}

struct Report {
  std::map<std::string, int> passed;                        // by tier
  std::map<std::string, int> operators;                     // refused, of these
  std::map<std::string, std::vector<std::string>> reasons;  // refused by name: reason -> names
  std::set<std::string> refused;
  int num_failed = 0;
};

// One case's part of the report; checks that it is what was expected.
void note(const Case& each, const Outcome& outcome, const Refusals& expected, Report* report) {
  CAPTURE(each.name);
  CAPTURE(outcome.why);
  if (outcome.kind == Outcome::passed) {
    ++report->passed[each.tier];
  } else if (outcome.kind == Outcome::failed) {
    ++report->num_failed;
    FAIL_CHECK(each.tier << " " << each.op);
  } else if (expected.operators.contains(each.op) && !expected.cases.contains(each.name)) {
    ++report->operators[each.op];
    // Its name, or that of an input whose dtype solder has not.
    CHECK(
        (outcome.why.find(each.op) != std::string::npos || outcome.why.find("(input)") != std::string::npos));
  } else {
    report->refused.insert(each.name);
    const auto reason = expected.cases.find(each.name);
    if (reason == expected.cases.end()) {
      FAIL_CHECK("is refused and should not be");
      report->reasons["not expected: " + each.op].push_back(each.name);
    } else {
      CHECK(outcome.why.find(reason->second) != std::string::npos);
      report->reasons[reason->second].push_back(each.name);
    }
  }
}

std::string text_of(Report& report) {
  std::string text = str("passed: ", report.passed["core"], " core, ", report.passed["wider"], " wider, ",
                         report.passed["other"], " others; failed: ", report.num_failed,
                         "; refused: ", report.refused.size(), " by name:\n");
  for (const auto& [reason, names] : report.reasons) {
    text += str("  ", names.size(), "  ", reason, ":");
    for (const std::string& name : names) text += " " + name;
    text += "\n";
  }
  text += "and of operators that solder has not:";
  for (const auto& [op, count] : report.operators) text += str(" ", op, " ", count);
  return text;
}

void check_all(Device device) {
  const Refusals expected = expected_refusals();
  Report report;
  for (const Case& each : all_cases()) note(each, run_case(each, device), expected, &report);
  for (const auto& [name, reason] : expected.cases) {
    INFO(name << " is expected to be refused: " << reason);
    CHECK(report.refused.contains(name));
  }
  for (const auto& [op, count] : expected.operators) {
    CAPTURE(op);
    CHECK(report.operators[op] == count);
  }
  MESSAGE(text_of(report));
}

}  // namespace

TEST_CASE("onnx nodes: the backend tests of single nodes on the CPU" * doctest::skip(!has_nodes())) {
  check_all(Device::cpu());
}

TEST_CASE("[gpu] onnx nodes: the backend tests of single nodes" *
          doctest::skip(!has_nodes() || !has_gpu() || is_sanitized())) {
  check_all(Device::cuda(0));
}

}  // namespace solder::test
