// A network on the CPU, run by run, for tests/bench/network_cpu_peers.py, which puts onnxruntime beside it.
//
//   network_cpu resnet50|cspdarknet53_mish weights.safetensors x.npy FOLDER
//   network_cpu katago network.bin.gz spatial.npy global.npy FOLDER
//
// Runs once and writes every output to FOLDER/OUTPUT.npy, then "ready"; for every line of stdin one run more:
// "wall_ms cpu_ms". SOLDER_THREADS says how many threads.
#include <solder/solder.h>

#include <chrono>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include "examples/katago/gzip.h"
#include "examples/katago/network.h"
#include "examples/networks/networks.h"

namespace {

struct Case {
  solder::Model model;
  solder::TensorMap inputs;
};

Case load(const std::string& network, const std::string& weights, const std::vector<std::string>& inputs) {
  const solder::CompileOptions on_cpu{.device = solder::Device::cpu()};
  const solder::Tensor x = solder::load_npy(inputs.at(0));
  if (network == "katago") {
    const auto net = katago::read_network(katago::read_gzip(weights), weights, x.shape().at(0));
    return {compile(net.graph, net.weights, on_cpu), {{"spatial", x}, {"global", solder::load_npy(inputs.at(1))}}};
  }
  const auto build = network == "resnet50" ? &networks::resnet50 : &networks::cspdarknet53_mish;
  const auto graph = build(x.shape(), solder::DType::float32);
  return {compile(graph, solder::load_safetensors(weights), on_cpu), {{"x", x}}};
}

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv, argv + argc);
  if (words.size() < 5) return 2;
  try {
    const Case loaded = load(words[1], words[2], {words.begin() + 3, words.end() - 1});
    solder::Session session = loaded.model.session();
    for (const auto& [name, tensor] : session.run(loaded.inputs))
      solder::save_npy(words.back() + "/" + name + ".npy", tensor);
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
      const double cpu_start = cpu_ms();
      const auto start = std::chrono::steady_clock::now();
      session.execute();
      session.synchronize();
      const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;
      std::cout << wall.count() << " " << cpu_ms() - cpu_start << std::endl;
    }
  } catch (const solder::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
