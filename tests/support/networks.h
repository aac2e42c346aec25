#pragma once
// Goldens of whole networks as make models prepares them, the networks, and what is done wrong to them on purpose.
//
// NOTE: the examples see the installed layout, <solder/...>, and so must whatever includes this: no "graph/...".

#include <doctest/doctest.h>
#include <solder/solder.h>

#include <map>
#include <string>
#include <vector>

namespace solder::test {

/// Largest relative L2 errors to accept, by arithmetic (tests/networks/README.md).
struct Bounds {
  double fp32, tf32, float16, bfloat16;
};

/// The inputs and float64 results of a few images or positions.
struct Golden {
  std::string name;     ///< of its folder, resnet50_seed1_n2_224
  std::string network;  ///< resnet50, cspdarknet53_mish or katago
  Bounds bounds;
  TensorMap inputs;   ///< x, or spatial and global; axis 0 counts the items
  TensorMap results;  ///< outputs by name; of sampled layers NAME, NAME:stride and NAME:shape
  int64_t num_items = 0;

  std::vector<std::string> layers() const;
  /// Items first, first + 1, ... of the inputs, counted in a circle, of the dtypes that the graph declares.
  TensorMap batch_of(int64_t first, int64_t batch, const Graph& graph) const;
};

struct Network {
  Graph graph;
  TensorMap weights;
};

/// Where goldens have been prepared.
bool has_goldens();
/// SOLDER_NETWORKS=all, or goldens of another folder: all of them, at every batch.
bool all_goldens();
/// The folder that goldens were prepared from, and the one that is asked for.
std::string prepared_folder();
std::string wanted_folder();
/// All of them, or the first of each network. Without zlib none of KataGo's.
std::vector<Golden> goldens();

/// resnet50 or cspdarknet53_mish for x `images`, with weights of one value: for plans, not for results.
Network network_of_ones(const std::string& network, const Shape& images);

/// The golden's network for `batch` items, and its weights, rounded to `dtype`.
Network network_of(const Golden& golden, int64_t batch, DType dtype);

/// The value that a golden calls `layer`: torchvision's and timm's names of the norm that a layer ends with.
Value layer_value(const Graph& graph, const std::string& layer);

using Errors = std::map<std::string, double>;  // by output

/// The relative L2 error of every output, over all of the golden's items, by as many runs of `batch` items as it takes.
Errors errors_of(const Golden& golden, const Model& model, int64_t batch);

/// Of every stride-th element of a layer's result.
double sample_error(const Tensor& got, const TensorMap& results, const std::string& layer);

enum class Mutation { none, residual_dropped, channels_swapped, activation_swapped, conv_scaled };

/// Makes one thing wrong, in the middle of the network; returns what, in words.
std::string mutate(Network& net, Mutation mutation);

}  // namespace solder::test
