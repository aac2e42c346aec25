#include "board.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <span>

namespace katago {
namespace {

constexpr size_t kPoints = kBoard * kBoard;
constexpr std::string_view kColumns = "ABCDEFGHJKLMNOPQRST";

// Position i of an output.
std::span<const float> position_of(const solder::Tensor& tensor, int64_t i) {
  const auto elems = static_cast<size_t>(tensor.num_elems() / tensor.shape()[0]);
  return tensor.floats().subspan(static_cast<size_t>(i) * elems, elems);
}

std::vector<double> softmax(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  std::vector<double> shares;
  double sum = 0;
  for (const float logit : logits) sum += shares.emplace_back(std::exp(logit - largest));
  for (double& share : shares) share /= sum;
  return shares;
}

double softplus(double x) { return std::log1p(std::exp(-std::abs(x))) + std::max(x, 0.0); }

std::string name_of(size_t move) {
  if (move == kPoints) return "pass";
  return kColumns[move % kBoard] + std::to_string(kBoard - static_cast<int64_t>(move / kBoard));
}

// Likeliest first, without points that are taken.
std::vector<std::pair<double, size_t>> best_moves(const solder::TensorMap& results,
                                                  std::span<const float> planes, int64_t i) {
  const auto policy = position_of(results.at("policy"), i).first(kPoints);
  std::vector<float> logits(policy.begin(), policy.end());
  logits.push_back(position_of(results.at("pass"), i)[0]);
  for (size_t point = 0; point < kPoints; ++point)
    if (planes[kPoints + point] != 0 || planes[2 * kPoints + point] != 0) logits[point] = -INFINITY;
  const std::vector<double> shares = softmax(logits);
  std::vector<std::pair<double, size_t>> moves;
  for (size_t move = 0; move < shares.size(); ++move) moves.emplace_back(shares[move], move);
  std::ranges::stable_sort(moves, [](const auto& a, const auto& b) { return a.first > b.first; });
  moves.resize(5);
  return moves;
}

// X: stones of the player to move, O: the other's, 1 to 5: the best moves.
void print_board(std::span<const float> planes, const std::vector<std::pair<double, size_t>>& moves) {
  std::string marks(kPoints, '.');
  for (size_t point = 0; point < kPoints; ++point)
    if (planes[kPoints + point] != 0 || planes[2 * kPoints + point] != 0)
      marks[point] = planes[kPoints + point] != 0 ? 'X' : 'O';
  for (size_t rank = 0; rank < moves.size(); ++rank)
    if (moves[rank].second < kPoints) marks[moves[rank].second] = static_cast<char>('1' + rank);
  std::cout << "   ";
  for (const char column : kColumns) std::cout << ' ' << column;
  for (size_t point = 0; point < kPoints; ++point) {
    if (point % kBoard == 0)
      std::cout << '\n' << std::setw(3) << kBoard - static_cast<int64_t>(point / kBoard);
    std::cout << ' ' << marks[point];
  }
  std::cout << '\n';
}

}  // namespace

void print_position(const Network& net, const solder::Tensor& spatial, const solder::TensorMap& results,
                    int64_t i) {
  const auto planes = position_of(spatial, i);
  const auto moves = best_moves(results, planes, i);
  std::cout << "\nposition " << i << ", X to move\n";
  print_board(planes, moves);
  std::cout << std::fixed << std::setprecision(3);
  for (size_t rank = 0; rank < moves.size(); ++rank)
    std::cout << (rank == 0 ? "moves:" : ",") << " " << rank + 1 << " " << name_of(moves[rank].second) << " "
              << moves[rank].first;
  const std::vector<double> value = softmax(position_of(results.at("value"), i));
  const auto score = position_of(results.at("score"), i);
  double points = 0;
  for (const float owner : position_of(results.at("ownership"), i)) points += std::tanh(double{owner});
  std::cout << "\nvalue: win " << value[0] << ", loss " << value[1] << ", no result " << value[2]
            << "\nscore: lead " << score[2] * net.multipliers[3] << ", mean " << score[0] * net.multipliers[1]
            << " +- " << softplus(score[1]) * net.multipliers[2] << "\nownership: " << points
            << " points more for X than for O\n"
            << std::defaultfloat;
}

}  // namespace katago
