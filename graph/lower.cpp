#include "graph/lower.h"

#include <algorithm>
#include <array>
#include <optional>

#include "runtime/check.h"

namespace solder {
namespace {

// Turns a region into steps, keeping track of what the accumulator and the slots hold.
class Lowering {
 public:
  Lowering(const Region& region, bool from_result, std::span<const TensorType> outputs)
      : region_(region),
        outputs_(outputs),
        start_(from_result ? Arg::result() : Arg::operand(0)),
        uses_(region.exprs.size()) {
    for (const Expr& expr : region.exprs) count_use(expr.a), count_use(expr.b);
    for (const Arg& output : region.outputs) count_use(output);
  }

  // Nothing when the region does not fit.
  std::optional<Program> run() {
    program_.from_result = start_ == Arg::result();
    program_.num_operands = region_.num_operands;
    program_.num_outputs = static_cast<int>(region_.outputs.size());
    // As a pass of its own an epilogue reads its result as one operand more.
    if (region_.num_operands + (program_.from_result ? 1 : 0) > kMaxOperands ||
        program_.num_outputs > kMaxOutputs)
      return {};

    acc_ = start_;
    store_outputs_of(acc_);
    if (program_.from_result) keep_if_needed(acc_, start_uses_, 0);
    for (size_t i = 0; i < region_.exprs.size(); ++i) emit(i);
    // Operands that are outputs themselves: copied at the end (the first value was, at the start).
    for (const Arg& output : region_.outputs) {
      if (output.kind == Arg::Kind::operand && output != start_) load(output), store_outputs_of(output);
    }
    if (!fits_) return {};
    return program_;
  }

 private:
  void count_use(const Arg& arg) {
    if (arg.kind == Arg::Kind::expr) ++uses_[static_cast<size_t>(arg.index)];
    if (arg == start_) ++start_uses_;
  }

  void push(const Step& step) {
    if (program_.num_steps == kMaxSteps) {
      fits_ = false;
      return;
    }
    program_.push(step);
  }

  // A step whose second value is `arg`.
  Step step_from(Op op, const Arg& arg) {
    Step step{.op = op};
    if (arg.kind == Arg::Kind::immediate) {
      step.source = Source::immediate;
      step.p = arg.value;
    } else if (const std::optional<int> slot = slot_of(arg)) {
      step.source = Source::slot;
      step.index = static_cast<uint8_t>(*slot);
    } else {
      step.source = Source::operand;
      step.index = static_cast<uint8_t>(arg.index);
    }
    return step;
  }

  std::optional<int> slot_of(const Arg& arg) const {
    for (int slot = 0; slot < kMaxSlots; ++slot)
      if (slots_[static_cast<size_t>(slot)] == arg) return slot;
    return {};
  }

  void load(const Arg& arg) {
    if (acc_ != arg) push(step_from(Op::load, arg));
    acc_ = arg;
  }

  // One use of `arg` is behind us; its slot is free after the last. True while others are ahead.
  bool release(const Arg& arg) {
    int* uses = arg.kind == Arg::Kind::expr ? &uses_[static_cast<size_t>(arg.index)]
                : arg == start_             ? &start_uses_
                                            : nullptr;
    if (uses == nullptr || --*uses > 0) return uses != nullptr;
    if (const std::optional<int> slot = slot_of(arg)) slots_[static_cast<size_t>(*slot)] = {};
    return false;
  }

  // Stores the accumulator, which holds `value`, in 16 bits first: whatever follows reads what was stored. An
  // operand is read as it was stored before.
  void store_outputs_of(const Arg& value) {
    Op rounded =
        value.kind == Arg::Kind::expr ? region_.exprs[static_cast<size_t>(value.index)].op : Op::load;
    for (const bool is_narrow : {true, false}) {
      for (size_t i = 0; i < region_.outputs.size(); ++i) {
        const DType dtype = outputs_.empty() ? DType::float32 : outputs_[i].dtype;
        if (region_.outputs[i] != value || (dtype != DType::float32) != is_narrow) continue;
        push({.op = Op::store_output, .index = static_cast<uint8_t>(i)});
        const Op round = rounding_to(dtype);
        if (!release(value) || !is_narrow || value.kind == Arg::Kind::operand || round == rounded) continue;
        push({.op = round});
        rounded = round;
      }
    }
  }

  // Parks the accumulator, which holds `value`, unless expression `next` consumes its last uses directly.
  void keep_if_needed(const Arg& value, int uses, size_t next) {
    if (uses == 0) return;
    if (next < region_.exprs.size()) {
      const Expr& expr = region_.exprs[next];
      // x op x reads the accumulator and a source, so it needs the slot too.
      if (uses == 1 && (expr.a == value || expr.b == value)) return;
    }
    const auto free_slot = std::ranges::find(slots_, Arg{});
    if (free_slot == slots_.end()) {
      fits_ = false;
      return;
    }
    *free_slot = value;
    const int slot = static_cast<int>(free_slot - slots_.begin());
    program_.num_slots = std::max(program_.num_slots, slot + 1);
    push({.op = Op::store_slot, .index = static_cast<uint8_t>(slot)});
  }

  void emit(size_t i) {
    const Expr& expr = region_.exprs[i];
    if (is_unary(expr.op)) {
      load(expr.a);
      push({.op = expr.op, .p = expr.p, .q = expr.q});
    } else if (acc_ == expr.b && acc_ != expr.a) {
      Step step = step_from(expr.op, expr.a);
      step.swapped = true;
      push(step);
    } else {
      load(expr.a);
      push(step_from(expr.op, expr.b));
    }
    release(expr.a);
    if (is_binary(expr.op)) release(expr.b);
    acc_ = Arg::expr(static_cast<int>(i));
    store_outputs_of(acc_);
    keep_if_needed(acc_, uses_[i], i + 1);
  }

  const Region& region_;
  const std::span<const TensorType> outputs_;
  const Arg start_;
  std::vector<int> uses_;  // uses ahead, by expression
  int start_uses_ = 0;
  std::array<Arg, kMaxSlots> slots_{};
  Arg acc_;
  Program program_;
  bool fits_ = true;
};

}  // namespace

Region merge(const Region& producer, const Region& consumer, const std::vector<int>& operand_map,
             int num_operands, const std::vector<int>& kept_outputs) {
  Region merged;
  merged.num_operands = num_operands;
  merged.exprs = producer.exprs;
  const int shift = static_cast<int>(producer.exprs.size());
  const auto remap = [&](const Arg& arg) -> Arg {
    if (arg.kind == Arg::Kind::expr) return Arg::expr(arg.index + shift);
    if (arg.kind != Arg::Kind::operand) return arg;
    const int target = operand_map[static_cast<size_t>(arg.index)];
    return target >= 0 ? Arg::operand(target) : producer.outputs[static_cast<size_t>(-1 - target)];
  };
  for (Expr expr : consumer.exprs) {
    expr.a = remap(expr.a);
    expr.b = remap(expr.b);
    merged.exprs.push_back(expr);
  }
  for (const Arg& output : consumer.outputs) merged.outputs.push_back(remap(output));
  for (const int kept : kept_outputs) merged.outputs.push_back(producer.outputs[static_cast<size_t>(kept)]);
  return merged;
}

Region contract_mish(const Region& region) {
  std::vector<int> uses(region.exprs.size());
  const auto count = [&](const Arg& arg) {
    if (arg.kind == Arg::Kind::expr) ++uses[static_cast<size_t>(arg.index)];
  };
  for (const Expr& expr : region.exprs) count(expr.a), count(expr.b);
  for (const Arg& output : region.outputs) count(output);

  Region result{region.num_operands, {}, {}};
  std::vector<Arg> renamed(region.exprs.size());
  const auto rename = [&](const Arg& arg) {
    return arg.kind == Arg::Kind::expr ? renamed[static_cast<size_t>(arg.index)] : arg;
  };
  for (size_t i = 0; i < region.exprs.size(); ++i) {
    Expr expr = region.exprs[i];
    const bool inner_is_private =
        expr.a.kind == Arg::Kind::expr && uses[static_cast<size_t>(expr.a.index)] == 1;
    expr.a = rename(expr.a);
    expr.b = rename(expr.b);
    // A private value has one reader, so the inner mish may be turned into the double one where it stands;
    // expressions between the two do not read it.
    if (expr.op == Op::mish && inner_is_private &&
        result.exprs[static_cast<size_t>(expr.a.index)].op == Op::mish) {
      result.exprs[static_cast<size_t>(expr.a.index)].op = Op::double_mish;
      renamed[i] = expr.a;
      continue;
    }
    result.exprs.push_back(expr);
    renamed[i] = Arg::expr(static_cast<int>(result.exprs.size()) - 1);
  }
  for (const Arg& output : region.outputs) result.outputs.push_back(rename(output));
  return result;
}

bool fits_program(const Region& region, bool from_result, std::span<const TensorType> outputs,
                  size_t spare_steps) {
  const std::optional<Program> program = Lowering(region, from_result, outputs).run();
  return program && static_cast<size_t>(program->num_steps) + spare_steps <= kMaxSteps;
}

Program lower(const Region& region, bool from_result, std::span<const TensorType> outputs) {
  const std::optional<Program> program = Lowering(region, from_result, outputs).run();
  SOLDER_REQUIRE(program.has_value(), unsupported, "an elementwise region takes at most ", kMaxSteps,
                 " steps, ", kMaxSlots, " values parked, ", kMaxOperands, " operands and ", kMaxOutputs,
                 " outputs; this one is ", to_string(region));
  return *program;
}

bool may_overwrite(const Program& program, int operand, int output) {
  bool stored = false;
  for (const Step& step : program.view()) {
    if (stored && step.source == Source::operand && step.index == operand) return false;
    if (step.op == Op::store_output && step.index == output) stored = true;
  }
  return true;
}

}  // namespace solder
