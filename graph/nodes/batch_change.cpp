#include "graph/nodes/batch_change.h"

#include <algorithm>

#include "runtime/check.h"

namespace solder {
namespace {

// The axis of `shape` in which the batch lies whose images are `begin` of each other: see follow_batch(), and the number
// of elements before that axis. `tail` is what followed the batch. shape.size(): there is none.
size_t batch_axis(const Shape& shape, int64_t begin, int64_t batch, const Shape& tail, int64_t* first) {
  size_t behind = shape.size();
  *first = 1;
  for (size_t i = 0; i < shape.size() && *first > 0; *first *= shape[i++]) {
    const int64_t last = *first * shape[i];
    if (batch > 1) {
      if (begin % *first == 0 && last % (begin * batch) == 0) return i;
      continue;
    }
    const bool is_joined =
        last == begin && Shape(shape.begin() + static_cast<std::ptrdiff_t>(i) + 1, shape.end()) == tail;
    if (is_joined && (i + 1 == shape.size() || shape[i + 1] != 1)) return i;
    if (*first != begin) continue;
    if (shape[i] == 1) return i;
    if (behind == shape.size()) behind = i;
  }
  *first = begin;
  return behind;
}

}  // namespace

void fail_fixed(const Node& node, const std::string& why) {
  fail(ErrorKind::unsupported, str(node.name, ": ", why));
}

Shape follow_batch(const Node& node, size_t input, Shape shape, BatchChange* change) {
  const Shape &before = change->before[input].shape, &after = change->after(node, input);
  if (before == after) return shape;
  const int64_t outer = change->outer = change->outers[input];
  if (shape == before) return after;
  const std::string asked = to_string(shape);
  const auto axis = std::ranges::mismatch(before, after).in1;
  const int64_t begin = num_elements({before.begin(), axis}) * outer;
  int64_t first = 1;
  const size_t at =
      begin == 0 ? shape.size() : batch_axis(shape, begin, change->from, {axis + 1, before.end()}, &first);
  if (at == shape.size() || __builtin_mul_overflow(shape[at] / change->from, change->to, &shape[at]) ||
      num_elements(shape) != num_elements(after))
    fail_fixed(node, str("of ", to_string(before), ", which becomes ", to_string(after), ", no axis of ",
                         asked, " holds the batch"));
  change->outer = begin / first;
  return shape;
}

void follow_together(Node* node, int num_axes, int except, BatchChange* change) {
  if (change->from != 1) return;
  Shape target = change->after(*node, 0);
  for (size_t input = 0; input < node->inputs.size(); ++input)
    for (int axis = 0; axis < num_axes; ++axis)
      if (axis != except && change->changes(*node, input, static_cast<size_t>(axis)))
        target[static_cast<size_t>(axis)] = change->to;
  for (size_t input = 0; input < node->inputs.size(); ++input) {
    Shape shape = change->after(*node, input);
    for (int axis = 0; axis < num_axes; ++axis)
      if (axis != except && shape[static_cast<size_t>(axis)] == 1)
        shape[static_cast<size_t>(axis)] = target[static_cast<size_t>(axis)];
    if (shape != change->after(*node, input))
      node->inputs[input] = change->graph->expand(node->inputs[input], shape);
  }
}

void require_own_axis(const Node& node, int axis, const BatchChange& change) {
  const auto index = static_cast<size_t>(axis);
  if (change.from == 1 && change.before[0].shape[index] != 1 && change.changes(node, 0, index))
    fail_fixed(node,
               str("works along axis ", axis, " of ", to_string(change.before[0].shape),
                   ", to which the batch of 1 was joined: compile() for a batch of 2 or more, which shows "
                   "where images begin"));
}

}  // namespace solder
