// The file lists layers in the order in which they compute, so that reading one builds it. Boards are of the graph's
// dtype; pooled numbers, a few hundred a position, and products of them are float32 always.

#include "network.h"

#include "file_reader.h"

namespace katago {
namespace {

using solder::Shape;
using solder::Value;

class Builder {
 public:
  Builder(std::string_view file, const std::string& path, int64_t positions, solder::DType dtype)
      : file_(file, path), positions_(positions), dtype_(dtype) {}

  Network read() {
    read_header();
    file_.expect("trunk");
    const int64_t num_blocks = file_.integers(6)[0];
    auto x = g_.input("spatial", {positions_, kPlanes, kBoard, kBoard}, dtype_);
    x = conv(x);
    x = g_.name(g_.add(x, of_board(matmul(g_.input("global", {positions_, kGlobals})))), "input");
    for (int64_t i = 0; i < num_blocks; ++i) x = g_.name(block(x), "block" + std::to_string(i));
    x = g_.name(norm_act(x), "tip");
    file_.word();
    policy_head(x);
    file_.word();
    value_head(x);
    file_.expect_end();
    return std::move(net_);
  }

 private:
  void read_header() {
    net_.name = file_.word();
    const int64_t format = file_.integers(1)[0];
    if (format != 14)
      throw solder::Error(solder::ErrorKind::unsupported,
                          solder::str(file_.path(), ": ", net_.name, " is of format ", format,
                                      ", and only 14 is read here: its neighbours have other heads"));
    if (file_.integers(2) != std::vector<int64_t>{kPlanes, kGlobals})
      file_.fail(solder::str("inputs of version 7, ", kPlanes, " planes and ", kGlobals, " numbers"));
    for (int i = 0; i < 7; ++i) net_.multipliers.push_back(static_cast<float>(file_.number()));
  }

  // A parameter of the board's layers, or of what is pooled.
  Value parameter(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    net_.weights[name] = solder::Tensor::from(shape, values).to(dtype_);
    return g_.parameter(name, shape, dtype_);
  }
  Value pooled_parameter(const std::string& name, const Shape& shape) {
    net_.weights[name] = solder::Tensor::from(shape, file_.floats(shape));
    return g_.parameter(name, shape);
  }

  // [R,S,C,K] in the file.
  Value conv(Value x) {
    const std::string name = file_.word();
    const std::vector<int64_t> n = file_.integers(6);
    const int64_t R = n[0], S = n[1], C = n[2], K = n[3];
    if (n[4] != 1 || n[5] != 1) file_.fail("no dilation");
    const std::vector<float> rsck = file_.floats({R, S, C, K});
    std::vector<float> kcrs(rsck.size());
    for (int64_t rs = 0; rs < R * S; ++rs)
      for (int64_t c = 0; c < C; ++c)
        for (int64_t k = 0; k < K; ++k)
          kcrs[static_cast<size_t>((k * C + c) * R * S + rs)] =
              rsck[static_cast<size_t>((rs * C + c) * K + k)];
    const Value w = parameter(name + ".weight", {K, C, R, S}, kcrs);
    return g_.conv2d(x, w, {.padding = {R / 2, S / 2}, .name = name});
  }

  // x [N,C] times [C,K].
  Value matmul(Value x) {
    const std::string name = file_.word();
    const std::vector<int64_t> n = file_.integers(2);
    return g_.name(g_.matmul(x, pooled_parameter(name + ".weight", {n[0], n[1]})), name);
  }

  Value add_bias(Value x) {
    const std::string name = file_.word();
    const int64_t K = file_.integers(1)[0];
    return g_.add(x, pooled_parameter(name + ".bias", {K}));
  }

  Value norm_act(Value x) {
    const std::string name = file_.word();
    const int64_t C = file_.integers(1)[0];
    const auto eps = static_cast<float>(file_.number());
    const std::vector<int64_t> has = file_.integers(2);  // weight, bias
    const Value mean = parameter(name + ".running_mean", {C}, file_.floats({C}));
    const Value variance = parameter(name + ".running_var", {C}, file_.floats({C}));
    const auto num_channels = static_cast<size_t>(C);
    const Value weight = parameter(name + ".weight", {C},
                                   has[0] != 0 ? file_.floats({C}) : std::vector<float>(num_channels, 1));
    const Value bias =
        parameter(name + ".bias", {C}, has[1] != 0 ? file_.floats({C}) : std::vector<float>(num_channels, 0));
    return activation(g_.batch_norm(x, weight, bias, mean, variance, eps));
  }

  Value activation(Value x) {
    file_.word();
    const std::string kind = file_.word();
    if (kind == "ACTIVATION_MISH") return g_.mish(x);
    if (kind == "ACTIVATION_RELU") return g_.relu(x);
    if (kind != "ACTIVATION_IDENTITY")
      file_.fail("ACTIVATION_MISH, ACTIVATION_RELU or ACTIVATION_IDENTITY, not " + kind);
    return x;
  }

  // [N,C] as [N,C,1,1]: the same at every point.
  Value of_board(Value x) { return g_.cast(g_.unsqueeze(x, {2, 3}), dtype_); }

  // Means of the channels, means scaled by the board's size, and maxima or means scaled once more. [N,C,H,W] -> [N,3C].
  Value pool(Value x, bool with_maximum) {
    x = g_.cast(x, solder::DType::float32);
    constexpr float kSize = kBoard - 14;
    const Value mean = g_.mean(x, {2, 3});
    const Value last = with_maximum ? g_.reduce_max(x, {2, 3}) : g_.mul(mean, kSize * kSize * 0.01f - 0.1f);
    return g_.concat({mean, g_.mul(mean, kSize * 0.1f), last}, 1);
  }

  Value block(Value x) {
    const std::string kind = file_.word();
    file_.word();
    if (kind == "ordinary_block") return g_.add(x, conv(norm_act(conv(norm_act(x)))));
    if (kind == "gpool_block") {
      const Value in = norm_act(x);
      const Value y = conv(in);
      const Value pooled = pool(norm_act(conv(in)), true);
      return g_.add(x, conv(norm_act(g_.add(y, of_board(matmul(pooled))))));
    }
    if (kind != "nested_bottleneck_block") file_.fail("a kind of block that format 14 has, not " + kind);
    if (++depth_ > kMaxDepth) file_.fail("blocks not nested as deep");
    const int64_t num_inner = file_.integers(1)[0];
    Value y = conv(norm_act(x));
    for (int64_t i = 0; i < num_inner; ++i) y = block(y);
    --depth_;
    return g_.add(x, conv(norm_act(y)));
  }

  void policy_head(Value x) {
    const Value y = conv(x);
    const Value pooled = pool(norm_act(conv(x)), true);
    const Value moves = norm_act(g_.add(y, of_board(matmul(pooled))));
    g_.output("policy", conv(moves));
    g_.output("pass", matmul(pooled));
  }

  void value_head(Value x) {
    const Value y = norm_act(conv(x));
    Value hidden = add_bias(matmul(pool(y, false)));
    hidden = activation(hidden);
    g_.output("value", add_bias(matmul(hidden)));
    g_.output("score", add_bias(matmul(hidden)));
    g_.output("ownership", conv(y));
  }

  static constexpr int kMaxDepth = 8;

  FileReader file_;
  int64_t positions_;
  solder::DType dtype_;
  int depth_ = 0;
  Network net_;
  solder::Graph& g_ = net_.graph;
};

}  // namespace

Network read_network(std::string_view file, const std::string& path, int64_t positions, solder::DType dtype) {
  return Builder(file, path, positions, dtype).read();
}

}  // namespace katago
