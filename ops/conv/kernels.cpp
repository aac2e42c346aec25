#include "ops/conv/kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

#include "runtime/check.h"

namespace solder {

// Each family's, in its folder.
MakeConvPlan make_nhwc_conv, make_rows_conv, make_window_conv, make_packed_conv, make_mma_conv,
    make_im2col_conv, make_direct_conv, make_cpu_conv;

namespace {

// What a build has code for; the others are known by name.
#if SOLDER_WITH_CUDA
#define SOLDER_GPU(make) make
#else
#define SOLDER_GPU(make) nullptr
#endif
#if SOLDER_WITH_SM90
#define SOLDER_SM90(make) make
#else
#define SOLDER_SM90(make) nullptr
#endif

constexpr ConvFamily kFamilies[] = {
    {"nhwc", true, SOLDER_SM90(make_nhwc_conv), true, true},  // Hopper: 16-bit pixels, given or packed
    {"rows", true, SOLDER_SM90(make_rows_conv)},              // Hopper: wide images, few input channels
    {"window", true, SOLDER_SM90(make_window_conv)},          // Hopper: everything of one group
    {"packed", true, SOLDER_SM90(make_packed_conv)},          // the same, on x converted before
    {"mma", true, SOLDER_GPU(make_mma_conv), true},           // since Turing: everything of one group
    {"direct", true, SOLDER_GPU(make_direct_conv), true},     // depthwise
    {"im2col", true, SOLDER_GPU(make_im2col_conv)},           // everything, with cuBLAS
    {"cpu", false, make_cpu_conv},                            // everything, without a GPU
};

struct Attempt {
  const char* family;
  std::unique_ptr<ConvPlan> plan;
  std::string why_not;
};

Attempt attempt(const ConvFamily& family, const ConvProblem& problem, const DeviceInfo* device) {
  std::string why_not = "not in this build (ARCHS in the Makefile)";
  if (family.on_gpu != (device != nullptr))
    return {family.name, nullptr, family.on_gpu ? "runs on a GPU" : "runs on the CPU"};
  if (family.make == nullptr) return {family.name, nullptr, why_not};
  if (!family.takes_scaled && problem.is_scaled()) return {family.name, nullptr, "takes no scaled values"};
  if (!family.takes_pixels && !problem.has_plain_tensors())
    return {family.name, nullptr, "takes float32 tensors of dense images"};
  auto plan = family.make(problem, device, &why_not);
  return {family.name, std::move(plan), why_not};
}

// "rows+packed: stride, direct: ...": why those without a plan have none.
std::string refusals(std::span<const Attempt> attempts) {
  std::string text, last;
  for (const Attempt& a : attempts) {
    if (a.plan) continue;
    const bool is_same = a.why_not == last;
    text += (text.empty() ? "" : is_same ? "+" : ": " + last + ", ") + std::string(a.family);
    last = a.why_not;
  }
  return text.empty() ? text : text + ": " + last;
}

// Of plain tensors: images of x may overlap, those of y may not; offsets in bytes stay below 2^63.
void require_strides(const ConvProblem& problem) {
  const ConvShape& s = problem.shape;
  const auto [x, y] = problem.strides();
  const int64_t least_y = s.K * s.gemm_n(), most = (int64_t{1} << 61) / std::max<int64_t>(s.N, 1);
  SOLDER_REQUIRE(x >= 0 && x <= most, invalid_argument, problem.node, ": images of x cannot lie ", x,
                 " elements apart (", to_string(s), ")");
  SOLDER_REQUIRE(y >= least_y && y <= most, invalid_argument, problem.node, ": images of y cannot lie ", y,
                 " elements apart: each has ", least_y, " (", to_string(s), ")");
}

}  // namespace

std::span<const ConvFamily> conv_families() { return kFamilies; }

void require_conv_family(std::string_view family) {
  std::string names;
  for (const ConvFamily& known : kFamilies) {
    if (family.empty() || family == known.name) return;
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  fail(ErrorKind::invalid_argument, str("there is no convolution \"", family, "\"; there are: ", names));
}

bool ConvProblem::has_plain_tensors() const {
  const auto is_plain = [](const TensorView& t) { return t.dtype == DType::float32 && has_dense_parts(t); };
  return is_plain(x) && is_plain(y) && more_outputs.empty() && !is_scaled();
}

bool ConvProblem::is_scaled() const {
  return !x.scaled.empty() || !y.scaled.empty() ||
         std::ranges::any_of(operands, [](const ConvView& operand) { return !operand.scaled.empty(); });
}

ConvStrides ConvProblem::strides() const {
  return shape.N <= 1 ? ConvStrides::dense(shape) : ConvStrides{x.strides[0], y.strides[0]};
}

double conv_pass_us(const ConvProblem& problem) {
  if (!problem.has_epilogue()) return 0;
  const ConvShape& s = problem.shape;
  double elems = 2 * static_cast<double>(s.N * s.K * s.gemm_n());
  for (const TensorView& operand : problem.operands)
    elems += static_cast<double>(num_elements(operand.shape));
  return 2.5 + elems * 4 / 2.8e6;  // a launch; what an H100 copies in a microsecond
}

std::vector<uint32_t> largest_weights(std::span<const float> weights, int64_t num_channels) {
  std::vector<uint32_t> largest(static_cast<size_t>(num_channels));
  const size_t num_terms = largest.empty() ? 0 : weights.size() / largest.size();
  for (size_t k = 0; k < largest.size(); ++k)
    for (const float w : weights.subspan(k * num_terms, num_terms))
      largest[k] = std::max(largest[k], std::bit_cast<uint32_t>(w) & 0x7fffffffu);
  return largest;
}

std::unique_ptr<ConvPlan> plan_conv(const ConvProblem& problem, const DeviceInfo* device,
                                    std::string_view family, std::string* why_not) {
  require_conv_family(family);
  const bool is_plain = problem.has_plain_tensors();
  if (is_plain) require_strides(problem);
  std::vector<Attempt> attempts;
  for (const ConvFamily& f : kFamilies)
    if (family.empty() ? f.on_gpu == (device != nullptr) : family == f.name)
      attempts.push_back(attempt(f, problem, device));
  // Named and not to be had: whatever covers most.
  for (auto f = std::rbegin(kFamilies);
       is_plain && f != std::rend(kFamilies) && !family.empty() && !attempts.back().plan; ++f)
    if (f->on_gpu == (device != nullptr) && family != f->name)
      attempts.push_back(attempt(*f, problem, device));

  const auto best =
      std::min_element(attempts.begin(), attempts.end(), [](const Attempt& a, const Attempt& b) {
        return a.plan && (!b.plan || a.plan->predicted_us < b.plan->predicted_us);
      });
  if (!best->plan && !is_plain) {
    if (why_not != nullptr) *why_not = refusals(attempts);
    return nullptr;
  }
  SOLDER_REQUIRE(best->plan, invalid_argument, problem.node, ": no convolution takes ",
                 to_string(problem.shape), ": ", refusals(attempts));
  ConvPlan& plan = *best->plan;
  plan.words = str(best->family, ", ", plan.words);
  if (plan.predicted_us > 0) plan.words += str(", about ", std::round(plan.predicted_us), " us");
  const std::string others = refusals({attempts.begin(), best});
  if (!others.empty()) plan.words += " (" + others + ")";
  return std::move(best->plan);
}

}  // namespace solder
