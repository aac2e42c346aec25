#pragma once
// What the networks here are made of.

#include <solder/solder.h>

namespace networks {

/// A convolution without bias and its batch norm, under the names of a PyTorch checkpoint; padded so that stride 1 keeps
/// the image's size. x [N,C,H,W] -> [N,channels,H/stride,W/stride].
inline solder::Value conv_bn(solder::Graph& g, solder::Value x, const std::string& conv,
                             const std::string& bn, int64_t channels, int64_t kernel, int64_t stride = 1) {
  const solder::TensorType in = g.type(x);
  auto w = g.parameter(conv + ".weight", {channels, in.shape[1], kernel, kernel}, in.dtype);
  auto weight = g.parameter(bn + ".weight", {channels}, in.dtype);
  auto bias = g.parameter(bn + ".bias", {channels}, in.dtype);
  auto mean = g.parameter(bn + ".running_mean", {channels}, in.dtype);
  auto variance = g.parameter(bn + ".running_var", {channels}, in.dtype);
  auto y = g.conv2d(x, w, {.stride = stride, .padding = kernel / 2, .name = conv});
  return g.batch_norm(y, weight, bias, mean, variance);
}

/// The mean of every channel, then a linear layer. x [N,C,H,W] -> [N,classes].
inline solder::Value classifier(solder::Graph& g, solder::Value x, const std::string& name, int64_t classes) {
  const solder::TensorType in = g.type(x);
  auto pooled = g.name(g.mean(x, {2, 3}), "pool");
  auto w = g.parameter(name + ".weight", {classes, in.shape[1]}, in.dtype);
  return g.linear(pooled, w, g.parameter(name + ".bias", {classes}, in.dtype));
}

}  // namespace networks
