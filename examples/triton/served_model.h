#pragma once
// A model of the server's, without the server: compiled once for each device, and run by any number of instances.

#include <solder/solder.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <span>
#include <string>

#include "model_config.h"

namespace solder_triton {

/// The batch that takes the next of `rows` rows, of `batches`, which ascend: the smallest that holds them all if no more
/// than a quarter of it is then padding, or if there is no smaller one; otherwise the largest that they fill.
int64_t next_batch(std::span<const int64_t> batches, int64_t rows);

/// A graph and its weights, from a version's folder: model.onnx, or model.txt (a text graph) and model.safetensors.
class ServedModel {
 public:
  /// Takes the ports of the graph where `config` has none; throws where it has others.
  ServedModel(const std::string& folder, ModelConfig config);

  const ModelConfig& config() const { return config_; }

  /// By batch, compiled by the first call for this device; 0 where requests are not batched.
  const std::map<int64_t, solder::Model>& on(solder::Device device);

 private:
  ModelConfig config_;
  solder::Graph graph_;
  solder::TensorMap weights_;
  std::mutex mutex_;
  std::map<std::string, std::map<int64_t, solder::Model>> compiled_;  // by device
};

/// Sessions of a model, one for each batch, and host memory for the rows of a batch of requests. One thread at a time.
class Instance {
 public:
  /// Runs each session once, so that what is missing is missed now. `model` outlives it.
  Instance(ServedModel& model, solder::Device device);

  const ModelConfig& config() const { return model_.config(); }
  int64_t max_rows() const { return std::max<int64_t>(config().max_batch, 1); }

  /// Of the whole batch: [room, ...]. Without batching the one row is the tensor.
  const solder::TensorMap& inputs() const { return inputs_; }
  const solder::TensorMap& outputs() const { return outputs_; }

  /// The shape that `rows` rows of one of them have.
  solder::Shape shape(const solder::Tensor& whole, int64_t rows) const;
  int64_t row_bytes(const solder::Tensor& whole) const { return whole.num_bytes() / room_; }
  std::byte* row(const solder::Tensor& whole, int64_t idx) const {
    return static_cast<std::byte*>(whole.data()) + idx * row_bytes(whole);
  }

  /// Computes outputs [0, rows) from inputs [0, rows), batch after batch.
  void run(int64_t rows);

 private:
  solder::TensorMap part(const solder::TensorMap& whole, int64_t begin, int64_t rows) const;

  ServedModel& model_;
  std::map<int64_t, solder::Session> sessions_;  // by batch
  int64_t room_ = 1;                             // rows of a batch of requests and of padding
  solder::TensorMap inputs_, outputs_;
};

}  // namespace solder_triton
